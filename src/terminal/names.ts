import { formatCount } from './format.js';

/** Names from anyone's data, in what people read. */

/** Controls, line breaks, marks that turn the direction of the text around them, and what is no character. */
const unprintable = /[\p{Cc}\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ufffe\uffff\p{Cs}]/gu;

/** The text on one line, with nothing in it that a terminal or viewer would obey instead of showing it: `\x1b[31m`. */
export function printable(text: string): string {
  return text.replaceAll(unprintable, (character) => {
    const named: Record<string, string> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };
    const code = character.charCodeAt(0);
    return named[character] ?? (code < 0x100 ? `\\x${hex(code, 2)}` : `\\u${hex(code, 4)}`);
  });
}

function hex(code: number, digits: number): string {
  return code.toString(16).padStart(digits, '0');
}

/** The same, cut where it is long: for tables in a terminal and labels in figures. */
export function shortName(name: string, length = 60): string {
  const characters = [...printable(name)];
  return characters.length > length ? `${characters.slice(0, length - 1).join('')}…` : characters.join('');
}

/** `"a", "b"` and how many more where there are many. */
export function listNames(names: readonly string[], most = 10): string {
  const shown = names.slice(0, most).map((name) => `"${shortName(name)}"`);
  const more = names.length - shown.length;
  return shown.join(', ') + (more > 0 ? ` and ${formatCount(more)} more` : '');
}
