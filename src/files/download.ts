import { open } from 'node:fs/promises';

/** How long a connection may be silent before it has failed, in ms. */
export interface Deadlines {
  /** From the request to the head of the answer: look-up, connection, redirects. */
  answer?: number;
  /** Between the pieces of the body, while somebody waits for the next. */
  silence?: number;
}

/**
 * fetch, whose every wait has an end: for the answer, and for each piece of its body, however that is read.
 * @throws Error that says how long nothing came; errors of fetch as they are
 */
export async function fetchWithin(
  input: Parameters<typeof fetch>[0],
  init: RequestInit = {},
  { answer = 30_000, silence = 30_000 }: Deadlines = {},
): Promise<Response> {
  const abort = new AbortController();
  const signal = init.signal ? AbortSignal.any([init.signal, abort.signal]) : abort.signal;
  const response = await endedAfter(answer, abort, 'no answer has come', fetch(input, { ...init, signal }));
  const reader = response.body?.getReader();
  if (!reader) return response;
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(sink) {
        const { done, value } = await endedAfter(silence, abort, 'nothing has come', reader.read());
        if (done) sink.close();
        else sink.enqueue(value);
      },
      cancel: (reason) => reader.cancel(reason),
    },
    // Nothing is read, and no wait begins, before somebody asks for it.
    { highWaterMark: 0 },
  );
  const { url, redirected } = response;
  // Where the answer came from is in no option of the constructor.
  return Object.defineProperties(new Response(body, response), {
    url: { value: url },
    redirected: { value: redirected },
  });
}

/**
 * What `promise` gives, unless that takes longer than `limit` ms: then `abort` ends what is behind it. Rejects then in any
 * case, since not everything that can be aborted says so.
 */
async function endedAfter<T>(limit: number, abort: AbortController, what: string, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, fail) => {
    timer = setTimeout(() => {
      const error = new Error(`${what} for ${limit / 1000} s`);
      fail(error);
      abort.abort(error);
    }, limit);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Writes the body of a response to a file, and waits until it is there.
 * @param onBytes is told how many bytes of the file there are; what it throws ends the connection
 * @param from the byte of an existing file that the body begins at, in place of what follows there; 0 for a new file
 * @returns how many bytes of the file there are
 * @throws where the connection fails; what has come stays
 */
export async function saveBody(
  response: Response,
  file: string,
  onBytes: (bytes: number) => void,
  from = 0,
): Promise<number> {
  if (response.body === null) throw new Error('the answer is empty');
  const target = await open(file, from > 0 ? 'r+' : 'w');
  try {
    let received = from;
    for await (const chunk of response.body) {
      for (let at = 0; at < chunk.length; )
        at += (await target.write(chunk, at, chunk.length - at, received + at)).bytesWritten;
      received += chunk.length;
      onBytes(received);
    }
    return received;
  } finally {
    await target.close();
  }
}
