import { InputError } from '../../errors.js';
import { utf8Decoder } from '../../files/read.js';

/** One line of a text file without its line ending; `number` counts from 1. */
export interface Line {
  number: number;
  text: string;
}

/** A longer line is surely no record: without a limit a file of another kind would fill the memory. In UTF-16 units. */
const LONGEST_LINE = 2 ** 27;

/**
 * Splits the chunks of a UTF-8 file, cut anywhere, into lines; the file may be longer than the longest JavaScript string. Cuts at "\n" or "\r\n" only: Node's own readline also splits at U+2028,
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
      throw new InputError(`is longer than ${LONGEST_LINE} characters, so this is not a file of lines`, {
        at: { file, line: number + parts.length + 1 },
      });
    for (const part of parts) yield { number: ++number, text: part.replace(/\r$/, '') };
  }
  pending += decode(undefined, number + 1);
  if (pending !== '') yield { number: ++number, text: pending };
}
