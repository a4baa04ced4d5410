import { createWriteStream } from 'node:fs';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';

/** A connection that brings nothing for this long has failed, in ms. */
const STALL_TIMEOUT = 30_000;

/**
 * Writes the body of a response to a file, and waits until it is there.
 * @param onBytes is told how many bytes of the file there are; what it throws ends the connection
 * @param from the byte of an existing file that the body begins at, in place of what follows there; 0 for a new file
 * @returns how many bytes of the file there are
 * @throws where the connection fails or stalls; what has come stays
 */
export async function saveBody(
  response: Response,
  file: string,
  onBytes: (bytes: number) => void,
  { from = 0, stallTimeout = STALL_TIMEOUT }: { from?: number; stallTimeout?: number } = {},
): Promise<number> {
  if (response.body === null) throw new Error('the answer is empty');
  let received = from;
  const stalled = new AbortController();
  const timer = setTimeout(
    () => stalled.abort(new Error(`nothing has come for ${stallTimeout / 1000} s`)),
    stallTimeout,
  );
  const meter = new Transform({
    transform(chunk: Uint8Array, _, done) {
      timer.refresh();
      received += chunk.length;
      try {
        onBytes(received);
        done(null, chunk);
      } catch (error) {
        done(error as Error);
      }
    },
  });
  const target = createWriteStream(file, from > 0 ? { flags: 'r+', start: from } : {});
  try {
    await pipeline(response.body, meter, target, { signal: stalled.signal });
  } catch (error) {
    throw stalled.signal.aborted ? stalled.signal.reason : error;
  } finally {
    clearTimeout(timer);
  }
  return received;
}
