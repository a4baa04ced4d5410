/** What Python's str.strip takes away. JavaScript's trim takes U+FEFF too, and leaves U+0085 and U+001C to U+001F. */
const blank = '[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]+';
const atStart = new RegExp(`^${blank}`);
const isBlank = new RegExp(`^${blank}$`);

/** By hand: an expression with an end only would look at every run of blanks from each of its places. */
function withoutEnd(text: string): string {
  let end = text.length;
  while (end > 0 && isBlank.test(text.charAt(end - 1))) end--;
  return text.slice(0, end);
}

const own = {
  trim(this: string) {
    return withoutEnd(this.replace(atStart, ''));
  },
  trimStart(this: string) {
    return this.replace(atStart, '');
  },
  trimEnd(this: string) {
    return withoutEnd(String(this));
  },
};

/** `text` without blanks around it, as Python has it. */
export function strip(text: string): string {
  return own.trim.call(text);
}

/**
 * Runs `action` with Python's idea of a blank in place of JavaScript's. The library for templates trims with what the language has,
 * and a template was written for Python; only for a process that does nothing else meanwhile.
 */
export function withPythonsBlanks<T>(action: () => T): T {
  const { trim, trimStart, trimEnd } = String.prototype;
  Object.assign(String.prototype, own);
  try {
    return action();
  } finally {
    Object.assign(String.prototype, { trim, trimStart, trimEnd });
  }
}
