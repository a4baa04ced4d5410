import { createReadStream } from 'node:fs';
import { InputError } from '../errors.js';

/** One line of a text file without its line ending; `number` counts from 1. */
export interface Line {
  number: number;
  text: string;
}

/** A longer line is surely no record: without a limit a file of another kind would fill the memory. In UTF-16 units. */
const LONGEST_LINE = 2 ** 27;

/**
 * The lines of a UTF-8 file, streamed: a file may be longer than the longest JavaScript string.
 * @throws InputError when the file cannot be read or holds bytes that are not UTF-8
 */
export async function* readLines(file: string): AsyncGenerator<Line> {
  yield* splitLines(readBytes(file), file);
}

/** The bytes of a file in chunks. @throws InputError when it cannot be read */
export async function* readBytes(file: string): AsyncGenerator<Uint8Array> {
  try {
    yield* createReadStream(file);
  } catch (error) {
    throw readError(file, error);
  }
}

/** What the user is told of a file that cannot be read; other errors as they are. */
export function readError(file: string, error: unknown): unknown {
  const code = (error as NodeJS.ErrnoException).code ?? '';
  const problems: Record<string, string> = {
    ENOENT: 'no such file',
    ENOTDIR: 'no such file',
    EISDIR: 'is a folder, not a file',
    EACCES: 'may not be read',
  };
  return Object.hasOwn(problems, code) ? new InputError(problems[code], { at: { file }, cause: error }) : error;
}

/** Decodes UTF-8 in chunks cut anywhere; a byte-order mark at the start is skipped. `chunk` absent: the end. */
export function utf8Decoder(file: string): (chunk: Uint8Array | undefined, line: number) => string {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  return (chunk, line) => {
    try {
      return decoder.decode(chunk, { stream: chunk !== undefined });
    } catch (error) {
      throw new InputError('bytes on or after this line are not UTF-8 text', {
        at: { file, line },
        cause: error,
        fix: 'save the file as UTF-8',
      });
    }
  };
}

/**
 * Splits chunks of bytes, cut anywhere, into lines at "\n" or "\r\n" only: Node's own readline also splits at U+2028,
 * which JSON allows inside strings. A byte-order mark at the start is skipped.
 */
export async function* splitLines(
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  file: string,
): AsyncGenerator<Line> {
  const decode = utf8Decoder(file);
  let pending = '';
  let number = 0;
  for await (const chunk of chunks) {
    const parts = decode(chunk, number + 1).split('\n');
    parts[0] = pending + parts[0];
    pending = parts.pop() as string;
    if (pending.length > LONGEST_LINE)
      throw new InputError(`is longer than ${LONGEST_LINE} characters, so this is no file of lines`, {
        at: { file, line: number + parts.length + 1 },
      });
    for (const part of parts) yield { number: ++number, text: part.replace(/\r$/, '') };
  }
  pending += decode(undefined, number + 1);
  if (pending !== '') yield { number: ++number, text: pending };
}
