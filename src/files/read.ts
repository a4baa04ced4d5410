import { isUtf8 } from 'node:buffer';
import { createHash, type Hash } from 'node:crypto';
import {
  closeSync,
  constants,
  createReadStream,
  fstatSync,
  openSync,
  readFileSync,
  type Stats,
  statSync,
} from 'node:fs';
import type * as z from 'zod';
import { InputError, type InputLocation, present } from '../errors.js';

/** Reading what the user gives: every fault becomes an InputError that names the file, and the line or field. */

/** What a shell has opened for the program (`| … /dev/stdin`, `<(…)`): it can be read once, from its start. */
const inherited = /^\/(dev\/stdin|dev\/fd\/\d+|proc\/(self|\d+)\/fd\/\d+)$/;

/**
 * Opening a named pipe waits for somebody to write, perhaps for ever, and devices may have no end; so every input is
 * looked at before it is opened.
 * @param once whether it is read once from its start, so that a pipe of the shell will do
 * @throws InputError where it is there, and neither file nor folder
 */
export function refuseSpecial(file: string, { once = false }: { once?: boolean } = {}): void {
  let found: Stats | undefined;
  try {
    found = statSync(file, { throwIfNoEntry: false });
  } catch {
    // Opening it will tell why.
  }
  if (!found || found.isFile() || found.isDirectory()) return;
  if (once && !found.isSocket() && inherited.test(file)) return;
  throw special(file, found.isFIFO() ? 'pipe' : found.isSocket() ? 'socket' : 'device');
}

function special(file: string, kind: 'pipe' | 'socket' | 'device'): InputError {
  const fix = 'write its output to a file, and name that';
  return new InputError(`is a ${kind}, not a file`, { at: { file }, fix });
}

/**
 * The bytes of a file in chunks.
 * @param onBytes told how many have been given out
 * @throws InputError when it cannot be read
 */
export async function* readBytes(file: string, onBytes?: (bytes: number) => void): AsyncGenerator<Uint8Array> {
  refuseSpecial(file, { once: true });
  let bytes = 0;
  try {
    for await (const chunk of createReadStream(file, { highWaterMark: 2 ** 18 })) {
      yield chunk;
      bytes += chunk.length;
      onBytes?.(bytes);
    }
  } catch (error) {
    throw readError(file, error);
  }
}

export function missingFile(file: string, cause?: unknown): InputError {
  const fix = 'check the name; a relative path starts from the folder that the command runs in';
  return new InputError('no such file', { at: { file }, fix, cause });
}

/** What the user is told of a file that cannot be read; other errors as they are. */
export function readError(file: string, error: unknown): unknown {
  const code = (error as NodeJS.ErrnoException).code ?? '';
  if (code === 'ENOENT' || code === 'ENOTDIR') return missingFile(file, error);
  const problems = new Map([
    ['EISDIR', 'is a folder, not a file'],
    ['EACCES', 'may not be read'],
  ]);
  const problem = problems.get(code);
  return problem === undefined ? error : new InputError(problem, { at: { file }, cause: error });
}

/**
 * Opens a file that has to be a regular one: what reads a pipe waits for its writer, maybe for ever.
 * @returns its descriptor
 * @throws InputError where it cannot be opened, or is something else
 */
export function openRegular(file: string): number {
  let descriptor: number;
  try {
    // Without O_NONBLOCK, opening a pipe waits too.
    descriptor = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    // What a socket answers.
    if ((error as NodeJS.ErrnoException).code === 'ENXIO') throw special(file, 'socket');
    const told = readError(file, error);
    if (told instanceof InputError) throw told;
    throw new InputError(`cannot be opened: ${(error as Error).message}`, { at: { file }, cause: error });
  }
  const stats = fstatSync(descriptor);
  if (stats.isFile()) return descriptor;
  closeSync(descriptor);
  throw stats.isDirectory() ? readError(file, { code: 'EISDIR' }) : special(file, stats.isFIFO() ? 'pipe' : 'device');
}

/** The bytes of a regular file. @throws InputError where it is none, or cannot be read */
function readRegular(file: string): Buffer {
  const descriptor = openRegular(file);
  try {
    return readFileSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** What files that are no text begin with. */
const binaryStarts: [bytes: number[], what: string, fix: string][] = [
  [[0xff, 0xfe], 'is UTF-16 text', 'save the file as UTF-8'],
  [[0xfe, 0xff], 'is UTF-16 text', 'save the file as UTF-8'],
  [[0x1f, 0x8b], 'is compressed with gzip', 'unpack it with gunzip'],
  [[0x28, 0xb5, 0x2f, 0xfd], 'is compressed with zstd', 'unpack it with unzstd'],
  [[0x50, 0x4b, 0x03, 0x04], 'is a ZIP archive, as Excel writes too', 'unpack it, or save the table as CSV in UTF-8'],
  [[0x50, 0x41, 0x52, 0x31], 'is Parquet', 'give its name the ending .parquet'],
];

/**
 * Decodes UTF-8 in chunks cut anywhere; a byte-order mark at the start is skipped. `chunk` absent: the end.
 * `line` is where the chunk begins.
 * @throws InputError on what is no text, naming its line
 */
export function utf8Decoder(file: string): (chunk: Uint8Array | undefined, line: number) => string {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let started = false;
  // The last bytes before the chunk, among which a character may have begun.
  let before: Uint8Array = new Uint8Array();
  return (chunk, line) => {
    if (chunk !== undefined && !started) {
      started = true;
      for (const [bytes, what, fix] of binaryStarts)
        if (bytes.every((byte, i) => chunk[i] === byte)) throw new InputError(what, { at: { file }, fix });
    }
    const nul = chunk?.indexOf(0) ?? -1;
    if (nul >= 0)
      throw new InputError('has a NUL byte: this is not text, or not in UTF-8', {
        at: { file, line: line + lineBreaks(chunk!.subarray(0, nul)) },
        fix: 'save the file as UTF-8',
      });
    try {
      const text = decoder.decode(chunk, { stream: chunk !== undefined });
      if (chunk) before = Buffer.concat([before, chunk.subarray(-3)]).subarray(-3);
      return text;
    } catch (error) {
      throw new InputError('has bytes that are not UTF-8 text', {
        at: { file, line: line + lineBreaks(validStart(before, chunk)) },
        cause: error,
        fix: 'save the file as UTF-8',
      });
    }
  };
}

/**
 * The lines of a chunk before the first that is not UTF-8.
 * @param before the last bytes of what precedes the chunk and is valid so far
 */
function validStart(before: Uint8Array, chunk: Uint8Array = new Uint8Array()): Uint8Array {
  // From where a character begins: the others are the rest of one that is whole.
  const begun = before.findIndex((byte) => (byte & 0xc0) !== 0x80);
  let head: Uint8Array = begun < 0 ? new Uint8Array() : before.subarray(begun);
  for (let start = 0; ; head = new Uint8Array()) {
    const end = chunk.indexOf(0x0a, start) + 1;
    if (end === 0 || !isUtf8(Buffer.concat([head, chunk.subarray(start, end)]))) return chunk.subarray(0, start);
    start = end;
  }
}

function lineBreaks(bytes: Uint8Array): number {
  let count = 0;
  for (let i = bytes.indexOf(0x0a); i >= 0; i = bytes.indexOf(0x0a, i + 1)) count++;
  return count;
}

/** The bytes of a file. @throws InputError when it cannot be read */
export function readWhole(file: string): Buffer {
  refuseSpecial(file, { once: true });
  try {
    return readFileSync(file);
  } catch (error) {
    throw readError(file, error);
  }
}

/** The text of a UTF-8 file, without byte-order mark. @throws InputError when it cannot be read, or is no text */
export function readText(file: string): string {
  return decodeText(readWhole(file), file);
}

function decodeText(bytes: Uint8Array, file: string): string {
  const decode = utf8Decoder(file);
  return decode(bytes, 1) + decode(undefined, 1);
}

/** The text of a regular UTF-8 file. @throws InputError where it is none, cannot be read, or is no text */
export function readRegularText(file: string): string {
  return decodeText(readRegular(file), file);
}

/** @throws InputError when the file is no regular one, cannot be read or is not JSON */
export function readJson(file: string): unknown {
  return parseJson(readRegularText(file), { file });
}

/** @throws InputError when the text is not JSON */
export function parseJson(text: string, at: InputLocation, fix?: string): unknown {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new InputError(`is not JSON: ${(cause as Error).message}`, { at, fix, cause });
  }
  refuseDeep(value, at);
  return value;
}

/** Nesting beyond any use: what walks through a value would exhaust the stack. */
const DEEPEST = 100;

/** @throws InputError where a value is nested too deeply, as one that holds itself is */
export function refuseDeep(value: unknown, at: InputLocation = {}): void {
  if (!isDeeper(value, DEEPEST)) return;
  throw new InputError(`is nested more than ${DEEPEST} levels deep, or holds itself`, { at, fix: 'make it flatter' });
}

function isDeeper(value: unknown, levels: number): boolean {
  if (typeof value !== 'object' || value === null) return false;
  if (levels === 0) return true;
  if (Array.isArray(value)) {
    for (const entry of value) if (typeof entry === 'object' && isDeeper(entry, levels - 1)) return true;
    return false;
  }
  for (const key in value) if (isDeeper((value as Record<string, unknown>)[key], levels - 1)) return true;
  return false;
}

/** What the user is told of a value that a schema refuses, where the schema itself has no text for it. */
export const issueText: z.core.$ZodErrorMap = (issue) => {
  if (issue.input === undefined) return 'is missing';
  const found = `not ${shortJson(issue.input)}`;
  switch (issue.code) {
    case 'invalid_type':
      return `must be ${typeNames[issue.expected] ?? issue.expected}, ${found}`;
    case 'invalid_value':
      return `must be ${issue.values.length > 1 ? 'one of ' : ''}${issue.values.join(', ')}, ${found}`;
    case 'too_small':
    case 'too_big': {
      if (issue.origin !== 'number') return undefined;
      const [bound, strict, loose] =
        issue.code === 'too_small' ? [issue.minimum, 'above', 'at least'] : [issue.maximum, 'below', 'at most'];
      return `must be ${issue.inclusive ? loose : strict} ${bound}, ${found}`;
    }
    case 'unrecognized_keys': {
      const { shape = {} } = (issue.inst ?? {}) as { shape?: object };
      return `has the unknown key ${issue.keys[0]}; known here are ${Object.keys(shape).join(', ')}`;
    }
    default:
      return undefined;
  }
};

const typeNames: Record<string, string> = {
  array: 'a list',
  tuple: 'a list',
  boolean: 'true or false',
  int: 'a whole number',
  number: 'a number',
  object: 'keys with values',
  string: 'text',
};

function shortJson(value: unknown): string {
  // JSON has no word for the numbers that are not finite.
  const json = typeof value === 'number' ? String(value) : JSON.stringify(value);
  return json.length > 60 ? `${json.slice(0, 60)}…` : json;
}

/** The value as the schema has it. @throws InputError with the first issue, naming the field */
export function checked<T>(schema: z.ZodType<T>, value: unknown, at: InputLocation): T {
  const parsed = schema.safeParse(value, { error: issueText });
  if (parsed.success) return parsed.data;
  const { message, path } = present(parsed.error.issues[0]);
  throw new InputError(message, { at: { ...at, field: fieldName(path) || undefined }, cause: parsed.error });
}

/** ["groups", 0, "offsets"] → "groups[0].offsets". */
export function fieldName(path: readonly PropertyKey[]): string {
  return path.reduce<string>(
    (name, key) => (typeof key === 'number' ? `${name}[${key}]` : name === '' ? String(key) : `${name}.${String(key)}`),
    '',
  );
}

/** Adds the content of a file to a hash, SHA-256 where none is given. @throws InputError when it cannot be read */
export async function hashFile(file: string, hash: Hash = createHash('sha256')): Promise<Hash> {
  for await (const chunk of readBytes(file)) hash.update(chunk);
  return hash;
}
