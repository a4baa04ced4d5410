import { closeSync, fstatSync, readSync } from 'node:fs';
import { InputError } from '../errors.js';
import { openRegular, refuseDeep } from '../files/read.js';

/** Reading safetensors in TypeScript: headers, checked in full, and ranges of bytes. Running a model reads them in C++. */

/** Bytes of one value, of the types safetensors has. */
const typeSizes: Record<string, number> = {
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
};

export interface TensorEntry {
  name: string;
  dtype: string;
  shape: number[];
  /** Bytes of the file, from 0: [begin, end). */
  begin: number;
  end: number;
}

/** No real header comes near: gemma-2b's has 20 kB. In bytes. */
const LARGEST_HEADER = 100_000_000;

/** An open safetensors file. Close it, or declare it with `using`. */
export class SafetensorsFile {
  /** In the order of their bytes, without holes or overlaps. */
  readonly entries: TensorEntry[];
  /** Byte the first tensor begins at; before it stands the header. */
  readonly dataStart: number;
  private readonly descriptor: number;

  /** @throws InputError naming the file, and the tensor where one is at fault */
  constructor(readonly file: string) {
    this.descriptor = openRegular(file);
    try {
      const size = fstatSync(this.descriptor).size;
      const length = size >= 8 ? Number(this.read(0, 8).readBigUInt64LE()) : Number.NaN;
      if (!(length <= Math.min(size - 8, LARGEST_HEADER)))
        throw new InputError('is no safetensors file, or cut short: its header does not fit in it', { at: { file } });
      this.dataStart = 8 + length;
      this.entries = parseEntries(this.read(8, length).toString('utf8'), file, this.dataStart, size);
    } catch (error) {
      closeSync(this.descriptor);
      throw error;
    }
  }

  /** @throws InputError when the file ends before */
  read(begin: number, length: number): Buffer {
    const bytes = Buffer.allocUnsafe(length);
    for (let done = 0; done < length; ) {
      const count = readSync(this.descriptor, bytes, done, length - done, begin + done);
      if (count === 0) throw new InputError('ends before its last tensor', { at: { file: this.file } });
      done += count;
    }
    return bytes;
  }

  [Symbol.dispose](): void {
    closeSync(this.descriptor);
  }
}

function parseEntries(header: string, file: string, dataStart: number, size: number): TensorEntry[] {
  const refuse = (problem: string, tensor?: string): never => {
    throw new InputError(problem, { at: { file, tensor } });
  };
  let json: Record<string, { dtype?: unknown; shape?: unknown; data_offsets?: unknown }>;
  try {
    json = JSON.parse(header);
  } catch (cause) {
    throw new InputError(`is no safetensors file: ${(cause as Error).message}`, { at: { file }, cause });
  }
  refuseDeep(json, { file });
  if (typeof json !== 'object' || json === null || Array.isArray(json)) refuse('has a header that is no JSON object');
  const isSize = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
  const entries = Object.entries(json).flatMap(([name, entry]): TensorEntry[] => {
    if (name === '__metadata__') {
      if (typeof entry !== 'object' || !Object.values(entry ?? []).every((value) => typeof value === 'string'))
        refuse('has metadata that are no texts');
      return [];
    }
    const { dtype, shape, data_offsets: offsets } = entry ?? {};
    if (typeof dtype !== 'string' || !Object.hasOwn(typeSizes, dtype))
      return refuse(`has the unknown type ${dtype}`, name);
    if (!Array.isArray(shape) || !shape.every(isSize)) return refuse('has no valid shape', name);
    if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize))
      return refuse('has no valid data_offsets', name);
    const [begin, end] = offsets as [number, number];
    const bytes = shape.reduce((product: number, n: number) => product * n, typeSizes[dtype]);
    if (end - begin !== bytes) return refuse(`has ${end - begin} bytes where its type and shape need ${bytes}`, name);
    return [{ name, dtype, shape, begin: dataStart + begin, end: dataStart + end }];
  });
  entries.sort((a, b) => a.begin - b.begin || a.end - b.end);
  let place = dataStart;
  for (const { name, begin, end } of entries) {
    if (begin !== place) refuse(begin < place ? 'overlaps another tensor' : 'begins after a hole', name);
    place = end;
  }
  if (place !== size) refuse(`has ${size - dataStart} bytes of tensors where its header has ${place - dataStart}`);
  return entries;
}
