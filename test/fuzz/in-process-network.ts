/**
 * What fetch sends and receives, without sockets. Everything but the wire is Node's own: redirects, what becomes of the token
 * on them, decompression, the body's stream. Node's parser of HTTP is not ours to test; what it refuses is refused here too.
 * test/hub/hostile.test.ts has real connections.
 */

/** Raw bytes of an answer; then the connection is closed, or stays open in silence. */
export interface Delivery {
  bytes: Buffer;
  silence?: boolean;
}

/** What fetch calls; undici's name is Dispatcher. */
interface Dispatch {
  origin: string | URL;
  path: string;
  headers: Iterable<[string, string]> | string[] | Record<string, string>;
}
interface Handler {
  onConnect(abort: (reason?: Error) => void): void;
  onHeaders(status: number, headers: Buffer[], resume: () => void, statusText: string): boolean;
  onData(chunk: Buffer): boolean;
  onComplete(trailers: Buffer[]): void;
  onError(error: Error): void;
}

/** From here on every fetch of this process is answered by `answer`. */
export function replaceNetwork(answer: (url: URL, headers: Record<string, string>) => Promise<Delivery>): void {
  const dispatcher = {
    dispatch({ origin, path, headers }: Dispatch, handler: Handler): boolean {
      const connection = new Connection(handler);
      answer(new URL(path, origin), headerRecord(headers)).then(
        (delivery) => connection.deliver(delivery),
        (error) => connection.fail(error),
      );
      return true;
    },
  };
  const { fetch } = globalThis;
  globalThis.fetch = (input, init) => fetch(input, { ...init, dispatcher } as unknown as RequestInit);
}

function headerRecord(headers: Dispatch['headers']): Record<string, string> {
  const list = Symbol.iterator in headers ? [...headers] : Object.entries(headers);
  const pairs = typeof list[0] === 'string' ? pairsOf(list as string[]) : (list as [string, string][]);
  return Object.fromEntries(pairs.map(([name, value]) => [name.toLowerCase(), value]));
}

function pairsOf(flat: string[]): [string, string][] {
  return Array.from({ length: flat.length / 2 }, (_, i) => [flat[2 * i], flat[2 * i + 1]]);
}

class Connection {
  private ended = false;

  constructor(private readonly handler: Handler) {
    handler.onConnect((reason) => this.fail(reason ?? new Error('aborted')));
  }

  fail(error: Error): void {
    if (this.ended) return;
    this.ended = true;
    this.handler.onError(error);
  }

  async deliver({ bytes, silence = false }: Delivery): Promise<void> {
    const end = bytes.indexOf('\r\n\r\n');
    if (end < 0) {
      if (!silence) this.fail(new Error('other side closed'));
      return;
    }
    const head = parseHead(bytes.subarray(0, end).toString('latin1'));
    if (!head) return this.fail(new Error('Parse Error'));
    const { status, headers, length = Number.POSITIVE_INFINITY } = head;
    const empty = status === 204 || status === 304;
    const body = bytes.subarray(end + 4, empty ? end + 4 : end + 4 + length);
    this.say(() => this.handler.onHeaders(status, headers, () => {}, 'Status'));
    // In two pieces, which come one after the other.
    for (const piece of [body.subarray(0, body.length / 2), body.subarray(body.length / 2)]) {
      await new Promise(setImmediate);
      if (piece.length > 0) this.say(() => this.handler.onData(piece));
    }
    const whole = empty || (head.length === undefined ? !silence : body.length === length);
    if (whole) this.say(() => this.handler.onComplete([]), true);
    else if (!silence) this.fail(new Error('other side closed'));
  }

  private say(event: () => void, last = false): void {
    if (this.ended) return;
    this.ended = last;
    event();
  }
}

/** undefined of what a parser refuses. */
function parseHead(text: string): { status: number; headers: Buffer[]; length?: number } | undefined {
  const [first, ...lines] = text.split('\r\n');
  const status = Number(/^HTTP\/1\.[01] (\d{3})(?: [^\r\n]*)?$/.exec(first)?.[1]);
  const parsed = lines.map((line) => /^([\w!#$%&'*+.^`|~-]+):[ \t]*([^\r\n\0]*?)[ \t]*$/.exec(line));
  if (!(status >= 200) || parsed.includes(null)) return undefined;
  const headers = parsed.map((match) => match!.slice(1));
  const lengths = headers.filter(([name]) => name.toLowerCase() === 'content-length').map(([, value]) => value);
  // Both would say where the body ends.
  if (lengths.length > 1 || headers.some(([name]) => name.toLowerCase() === 'transfer-encoding')) return undefined;
  if (lengths.length === 1 && !/^\d{1,19}$/.test(lengths[0])) return undefined;
  return {
    status,
    headers: headers.flat().map((piece) => Buffer.from(piece, 'latin1')),
    ...(lengths.length === 1 && { length: Number(lengths[0]) }),
  };
}
