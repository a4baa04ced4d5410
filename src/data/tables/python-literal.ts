import { GroupRobustError, present } from '../../errors.js';

/** A Python literal as a JavaScript value: None → null, list, tuple and set → array, dict and defaultdict → Map. */
export type PythonValue = null | boolean | number | string | PythonValue[] | Map<PythonValue, PythonValue>;

/** Where a text stops being a Python literal; `offset` counts UTF-16 units from 0. */
export class PythonLiteralError extends GroupRobustError {
  readonly offset: number;

  constructor(problem: string, offset: number) {
    super('PYTHON_LITERAL', `${problem} at character ${offset + 1}`);
    this.offset = offset;
  }
}

/** Deeper nesting is refused, so that a hostile text cannot exhaust the stack. */
const MAX_DEPTH = 64;

/**
 * Parses the text that Python's `repr` gives for strings, numbers (nan and inf included), None, True, False, lists,
 * tuples, dicts and `defaultdict(<class 'list'>, {...})`. Nothing is ever evaluated.
 * @throws PythonLiteralError
 */
export function parsePythonLiteral(text: string): PythonValue {
  return new Parser(text).parse();
}

const SIMPLE_ESCAPES: Record<string, string> = {
  '\\': '\\',
  "'": "'",
  '"': '"',
  a: '\x07',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
  '\n': '',
};
const HEX_ESCAPES: Record<string, number> = { x: 2, u: 4, U: 8 };

const WORDS: Record<string, PythonValue> = {
  None: null,
  True: true,
  False: false,
  nan: Number.NaN,
  inf: Number.POSITIVE_INFINITY,
};

/** Sticky patterns: each matches one token at the current place, never a structure. */
const SPACE = /[ \t\r\n\f]*/y;
const NUMBER = /(?:\d(?:_?\d)*)?(?:\.(?:\d(?:_?\d)*)?)?(?:[eE][+-]?\d(?:_?\d)*)?/y;
const WORD = /[A-Za-z_][A-Za-z0-9_]*/y;
const FACTORY = /<class '[A-Za-z_][A-Za-z0-9_.]*'>|None/y;

class Parser {
  private offset = 0;

  constructor(private readonly text: string) {}

  parse(): PythonValue {
    const value = this.value(0);
    this.skipSpace();
    if (this.offset < this.text.length) this.fail(`unexpected ${this.found()}`);
    return value;
  }

  private value(depth: number): PythonValue {
    if (depth > MAX_DEPTH) this.fail(`nested deeper than ${MAX_DEPTH}`);
    this.skipSpace();
    const next = this.text[this.offset];
    if (next === "'" || next === '"') return this.onlyString();
    if (next === '[') return this.items('[', ']', depth).items;
    if (next === '(') {
      const { items, trailingComma } = this.items('(', ')', depth);
      // (x) is x in parentheses, (x,) a tuple.
      return items.length === 1 && !trailingComma ? present(items[0]) : items;
    }
    if (next === '{') return this.dict(depth);
    if (next === '+' || next === '-') return this.signed();
    if (next !== undefined && /[0-9.]/.test(next)) return this.number();
    const start = this.offset;
    const word = this.match(WORD);
    if (word === 'defaultdict') return this.defaultDict(depth);
    if (word !== undefined && Object.hasOwn(WORDS, word)) return present(WORDS[word]);
    this.offset = start;
    return this.fail(word === undefined ? `expected a value, found ${this.found()}` : `unknown name "${word}"`);
  }

  private signed(): number {
    const start = this.offset;
    const sign = this.text[this.offset++] === '-' ? -1 : 1;
    const word = this.match(WORD);
    if (word === undefined) return sign * this.number();
    const value = Object.hasOwn(WORDS, word) ? WORDS[word] : undefined;
    if (typeof value === 'number') return sign * value;
    this.offset = start;
    return this.fail('expected a number after the sign');
  }

  private number(): number {
    const start = this.offset;
    const digits = this.match(NUMBER) ?? '';
    const value = Number(digits.replaceAll('_', ''));
    const follows = this.text[this.offset];
    // Rules out ".", "1.e", "007" and names glued to a number; Python's 0x, 0o, 0b and complex numbers are no repr.
    if (
      !/\d/.test(digits) ||
      Number.isNaN(value) ||
      /^0[\d_]*[1-9][\d_]*$/.test(digits) ||
      (follows !== undefined && /[A-Za-z0-9_.]/.test(follows))
    ) {
      this.offset = start;
      this.fail('malformed number');
    }
    return value;
  }

  /** In Python adjacent strings are one; `repr` writes none, but NumPy prints lists without commas, which would be one long name. */
  private onlyString(): string {
    const value = this.string();
    this.skipSpace();
    if (this.text[this.offset] === "'" || this.text[this.offset] === '"') this.fail('no comma between two strings');
    return value;
  }

  private string(): string {
    const start = this.offset;
    const quote = this.text.charAt(start);
    const triple = this.text.startsWith(quote.repeat(3), start);
    const end = triple ? quote.repeat(3) : quote;
    this.offset += end.length;
    const parts: string[] = [];
    for (;;) {
      const character = this.text[this.offset];
      if (character === undefined || (character === '\n' && !triple)) {
        this.offset = start;
        this.fail('string without an end');
      }
      if (this.text.startsWith(end, this.offset)) break;
      parts.push(character === '\\' ? this.escape() : character);
      if (character !== '\\') this.offset++;
    }
    this.offset += end.length;
    return parts.join('');
  }

  private escape(): string {
    const start = this.offset;
    const letter = this.text[start + 1];
    if (letter === undefined) return this.fail('string without an end');
    this.offset += 2;
    if (Object.hasOwn(SIMPLE_ESCAPES, letter)) return present(SIMPLE_ESCAPES[letter]);
    if (/[0-7]/.test(letter)) {
      const digits = /^[0-7]{1,3}/.exec(this.text.slice(start + 1, start + 4))![0];
      this.offset = start + 1 + digits.length;
      return String.fromCharCode(Number.parseInt(digits, 8));
    }
    if (Object.hasOwn(HEX_ESCAPES, letter)) {
      const length = present(HEX_ESCAPES[letter]);
      const digits = this.text.slice(start + 2, start + 2 + length);
      const code = Number.parseInt(digits, 16);
      if (digits.length < length || !/^[0-9a-fA-F]+$/.test(digits) || code > 0x10ffff) {
        this.offset = start;
        this.fail(`malformed \\${letter} escape`);
      }
      this.offset = start + 2 + digits.length;
      return String.fromCodePoint(code);
    }
    if (letter === 'N') {
      this.offset = start;
      this.fail('\\N{...} escapes are not supported');
    }
    // Python keeps the backslash of an escape it does not know.
    return `\\${letter}`;
  }

  private items(open: string, close: string, depth: number): { items: PythonValue[]; trailingComma: boolean } {
    this.expect(open);
    const items: PythonValue[] = [];
    let trailingComma = false;
    while (!this.take(close)) {
      if (items.length > 0 && !trailingComma) this.fail(`expected "," or "${close}", found ${this.found()}`);
      items.push(this.value(depth + 1));
      trailingComma = this.take(',');
    }
    return { items, trailingComma };
  }

  private dict(depth: number): Map<PythonValue, PythonValue> {
    this.expect('{');
    const entries = new Map<PythonValue, PythonValue>();
    let comma = true;
    while (!this.take('}')) {
      if (!comma) this.fail(`expected "," or "}", found ${this.found()}`);
      const key = this.value(depth + 1);
      this.expect(':');
      entries.set(key, this.value(depth + 1));
      comma = this.take(',');
    }
    return entries;
  }

  /** After the word: `(<class 'list'>, {...})`, as collections.defaultdict prints itself. */
  private defaultDict(depth: number): Map<PythonValue, PythonValue> {
    this.expect('(');
    this.skipSpace();
    if (this.match(FACTORY) === undefined) this.fail(`expected <class '...'>, found ${this.found()}`);
    this.expect(',');
    this.skipSpace();
    const entries = this.dict(depth);
    this.expect(')');
    return entries;
  }

  private match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.offset;
    const found = pattern.exec(this.text)?.[0];
    this.offset += found?.length ?? 0;
    return found;
  }

  private skipSpace(): void {
    this.match(SPACE);
  }

  private take(token: string): boolean {
    this.skipSpace();
    if (this.text[this.offset] !== token) return false;
    this.offset++;
    return true;
  }

  private expect(token: string): void {
    if (!this.take(token)) this.fail(`expected "${token}", found ${this.found()}`);
  }

  private found(): string {
    const character = this.text.slice(this.offset, this.offset + 1);
    return character === '' ? 'the end' : JSON.stringify(character);
  }

  private fail(problem: string): never {
    throw new PythonLiteralError(problem, this.offset);
  }
}

/** The text Python's `repr` gives for a value, except that JavaScript writes exponents its own way (1e-7 for 1e-07). */
export function pythonRepr(value: PythonValue): string {
  if (value === null) return 'None';
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  if (typeof value === 'number') return numberRepr(value);
  if (typeof value === 'string') return stringRepr(value);
  if (Array.isArray(value)) return `[${value.map(pythonRepr).join(', ')}]`;
  return `{${[...value].map(([key, item]) => `${pythonRepr(key)}: ${pythonRepr(item)}`).join(', ')}}`;
}

function numberRepr(value: number): string {
  if (Number.isNaN(value)) return 'nan';
  if (!Number.isFinite(value)) return value > 0 ? 'inf' : '-inf';
  if (Object.is(value, -0)) return '-0.0';
  // Whole numbers print as floats do in Python (1.0): probabilities are floats.
  const text = String(value);
  return /^-?\d+$/.test(text) ? `${text}.0` : text;
}

/** Python escapes what it calls unprintable: controls, formats, unassigned characters and separators but the space. */
const ESCAPED = /\\|(?! )[\p{C}\p{Z}]/gu;

function stringRepr(value: string): string {
  const quote = value.includes("'") && !value.includes('"') ? '"' : "'";
  const escaped = value.replace(ESCAPED, (character) => {
    const named: Record<string, string> = { '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' };
    const code = character.codePointAt(0)!;
    const hex = (digits: number) => code.toString(16).padStart(digits, '0');
    return named[character] ?? (code < 0x100 ? `\\x${hex(2)}` : code < 0x10000 ? `\\u${hex(4)}` : `\\U${hex(8)}`);
  });
  return quote + escaped.replaceAll(quote, `\\${quote}`) + quote;
}
