import { createReadStream } from 'node:fs';
import { InputError } from '../errors.js';

/** One line of a text file without its line ending; `number` counts from 1. */
export interface Line {
  number: number;
  text: string;
}

/**
 * The lines of a UTF-8 file, streamed: a file may be longer than the longest JavaScript string.
 * @throws InputError when the file cannot be read or holds bytes that are not UTF-8
 */
export async function* readLines(file: string): AsyncGenerator<Line> {
  try {
    yield* splitLines(createReadStream(file), file);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT') throw new InputError('no such file', { at: { file } });
    if (code === 'EISDIR') throw new InputError('is a folder, not a file', { at: { file } });
    if (code === 'EACCES') throw new InputError('may not be read', { at: { file } });
    throw error;
  }
}

/**
 * Splits chunks of bytes, cut anywhere, into lines at "\n" or "\r\n" only: Node's own readline also splits at U+2028,
 * which JSON allows inside strings. A byte-order mark at the start is skipped.
 */
export async function* splitLines(
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  file: string,
): AsyncGenerator<Line> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let pending = '';
  let number = 0;
  const decode = (chunk?: Uint8Array): string => {
    try {
      return decoder.decode(chunk, { stream: chunk !== undefined });
    } catch (error) {
      throw new InputError('bytes on or after this line are not UTF-8 text', {
        at: { file, line: number + 1 },
        cause: error,
        fix: 'save the file as UTF-8',
      });
    }
  };
  for await (const chunk of chunks) {
    const parts = decode(chunk).split('\n');
    parts[0] = pending + parts[0];
    pending = parts.pop() as string;
    for (const part of parts) yield { number: ++number, text: part.replace(/\r$/, '') };
  }
  pending += decode();
  if (pending !== '') yield { number: ++number, text: pending };
}
