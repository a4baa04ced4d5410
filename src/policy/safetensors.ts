import { fstatSync, readSync } from 'node:fs';
import { InputError } from '../errors.js';
import { OpenedFile } from '../files/opened-file.js';
import type { NativeTensorEntry, NativeTensorFile } from '../native/types.js';

/**
 * Safetensors headers are read and checked here and nowhere else: C++ gets the open file with its checked entries, and only compares these
 * with the size of the file.
 */

/** Bytes of one value, of the types safetensors has. */
const typeSizes: ReadonlyMap<string, number> = new Map(
  Object.entries({
    BOOL: 1,
    U8: 1,
    I8: 1,
    F8_E5M2: 1,
    F8_E4M3: 1,
    I16: 2,
    U16: 2,
    F16: 2,
    BF16: 2,
    I32: 4,
    U32: 4,
    F32: 4,
    I64: 8,
    U64: 8,
    F64: 8,
  }),
);

export type TensorEntry = NativeTensorEntry;

/** In bytes, the limit of the reference implementation. No real header comes near it: gemma-2b's has 20 kB. */
const LARGEST_HEADER = 100_000_000;

/** An open safetensors file whose header has been checked. Close it, or declare it with `using`. */
export class SafetensorsFile extends OpenedFile implements NativeTensorFile {
  /** In the order of their bytes, without holes or overlaps. */
  readonly entries: TensorEntry[];
  /** Byte at which the first tensor begins, right after the header. */
  readonly dataStart: number;

  /** @throws InputError naming the file, and the tensor where one is at fault */
  constructor(path: string) {
    super(path);
    try {
      const size = fstatSync(this.descriptor).size;
      this.dataStart = 8 + headerLength(path, size, size >= 8 ? this.read(0, 8) : undefined);
      const header = decodeHeader(path, this.read(8, this.dataStart - 8));
      this.entries = parseEntries(path, header, this.dataStart, size);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** @throws InputError when the file ends before */
  read(begin: number, length: number): Buffer {
    const bytes = Buffer.allocUnsafe(length);
    for (let done = 0; done < length; ) {
      const count = readSync(this.descriptor, bytes, done, length - done, begin + done);
      if (count === 0) throw new InputError('ends before its last tensor', { at: { file: this.path } });
      done += count;
    }
    return bytes;
  }
}

/** Length of the header in bytes, as the first eight bytes of the file give it; never more than the file has. */
function headerLength(file: string, size: number, first: Buffer | undefined): number {
  const refuse = (problem: string): never => {
    throw new InputError(`${problem}; not a safetensors file, or cut short`, { at: { file } });
  };
  if (!first) return refuse(`has only ${size} bytes`);
  const length = first.readBigUInt64LE();
  if (length > Math.min(size - 8, LARGEST_HEADER))
    refuse(`says its header has ${length} bytes where ${size - 8} are left (limit ${LARGEST_HEADER})`);
  return Number(length);
}

function decodeHeader(file: string, bytes: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new InputError('is not a safetensors file: its header is not UTF-8', { at: { file }, cause });
  }
}

function parseEntries(file: string, header: string, dataStart: number, size: number): TensorEntry[] {
  const refuse = (problem: string, tensor?: string): never => {
    throw new InputError(problem, { at: { file, tensor } });
  };
  let json: unknown;
  let found: HeaderScan;
  try {
    found = scanHeader(header);
    if (!found.deep) json = JSON.parse(header);
  } catch (cause) {
    throw new InputError(`is not a safetensors file: bad header: ${(cause as Error).message}`, { at: { file }, cause });
  }
  if (found.deep) refuse(`is not a safetensors file: its header is nested more than ${DEEPEST} levels deep`);
  if (!isObject(json)) return refuse('is not a safetensors file: its header is not a JSON object');
  if (found.twice) refuse(found.twice.length > 1 ? `has ${found.twice[1]} twice` : 'is there twice', found.twice[0]);

  const entries: TensorEntry[] = [];
  for (const [name, value] of Object.entries(json)) {
    if (name === '__metadata__') {
      if (!isObject(value) || !Object.values(value).every((text) => typeof text === 'string'))
        refuse('has a header whose __metadata__ values are not all text');
      continue;
    }
    const entry = parseEntry(value, (problem) => refuse(problem, name));
    const [begin, end] = entry.offsets;
    if (begin > end || end > size - dataStart)
      refuse(
        `has the bytes ${begin} to ${end}, which do not lie in the ${size - dataStart} bytes of data; the file is cut short or damaged`,
        name,
      );
    const { dtype, valueSize, shape } = entry;
    // With a zero among them the other sizes may be anything.
    const bytes = shape.includes(0) ? 0 : shape.reduce((product, n) => product * n, valueSize);
    if (end - begin !== bytes)
      refuse(`has ${end - begin} bytes where shape [${shape.join(', ')}] of ${dtype} needs ${bytes}`, name);
    entries.push({ name, dtype, shape, begin: dataStart + begin, end: dataStart + end });
  }

  entries.sort((a, b) => a.begin - b.begin || a.end - b.end);
  let place = dataStart;
  for (const { name, begin, end } of entries) {
    if (begin !== place)
      refuse(
        `begins at byte ${begin - dataStart} of the data, not at ${place - dataStart}; ${begin < place ? 'it overlaps another tensor' : 'there is a hole'}`,
        name,
      );
    place = end;
  }
  if (place !== size) refuse(`has ${size - place} bytes after its last tensor; the file is damaged`);
  return entries;
}

/** What a header says of one tensor, with each field checked by itself. */
function parseEntry(
  value: unknown,
  refuse: (problem: string) => never,
): { dtype: string; valueSize: number; shape: number[]; offsets: [number, number] } {
  if (!isObject(value)) return refuse('is not a JSON object in the header');
  const { dtype, shape, data_offsets: offsets, ...others } = value;
  for (const [field, given] of Object.entries({ dtype, shape, data_offsets: offsets }))
    if (given === undefined) refuse(`has no ${field} in the header`);
  const [unknown] = Object.keys(others);
  if (unknown !== undefined) refuse(`has the unknown key ${JSON.stringify(unknown)} in the header`);
  const valueSize = typeof dtype === 'string' ? typeSizes.get(dtype) : undefined;
  if (typeof dtype !== 'string' || valueSize === undefined)
    return refuse(`has the unknown type ${JSON.stringify(dtype)}`);
  const areSizes = (list: unknown): list is number[] =>
    Array.isArray(list) && list.every((n) => Number.isSafeInteger(n) && n >= 0);
  if (!areSizes(shape)) return refuse('has a shape that is not a list of whole numbers from 0 up');
  const areOffsets = (list: unknown): list is [number, number] => areSizes(list) && list.length === 2;
  if (!areOffsets(offsets)) return refuse('has data_offsets that are not two whole numbers from 0 up');
  return { dtype, valueSize, shape, offsets };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Levels of a header: the tensors, one of them, its lists. */
const DEEPEST = 3;

interface HeaderScan {
  /** It is nested deeper than any header, and JSON.parse would take many times its size. */
  deep?: true;
  /** The path of the first duplicate key; JSON.parse would take the last value. */
  twice?: string[];
}

/** What JSON.parse does not report of a text, which need not be JSON. @throws SyntaxError on a key that is not JSON */
function scanHeader(text: string): HeaderScan {
  /** For each open object or list: the keys so far (undefined for a list), and the last key. */
  const open: { keys: Set<string> | undefined; last: string }[] = [];
  let twice: string[] | undefined;
  for (let at = 0; at < text.length; at++) {
    const c = text[at];
    if (c === '{' || c === '[') {
      if (open.length === DEEPEST) return { deep: true };
      open.push({ keys: c === '{' ? new Set() : undefined, last: '' });
    } else if (c === '}' || c === ']') open.pop();
    else if (c === '"') {
      const start = at++;
      while (at < text.length && text[at] !== '"') at += text[at] === '\\' ? 2 : 1;
      const level = open.at(-1);
      let next = at + 1;
      while (' \t\r\n'.includes(text[next] ?? '.')) next++;
      if (text[next] !== ':' || !level?.keys) continue;
      level.last = JSON.parse(text.slice(start, at + 1));
      if (level.keys.has(level.last)) twice ??= open.filter(({ keys }) => keys).map(({ last }) => last);
      level.keys.add(level.last);
    }
  }
  return { twice };
}
