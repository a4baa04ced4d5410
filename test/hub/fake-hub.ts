import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A file of a repository; large ones lie on another host, as on the hub. */
export interface FakeFile {
  content: Buffer;
  large?: boolean;
}

export interface FakeRepository {
  commit: string;
  files: Record<string, FakeFile>;
  /** Files need a token that was granted access. */
  gated?: boolean;
}

/** What may go wrong with a download. */
export interface Faults {
  /** Bytes after which the next connections for large files are cut, one each. */
  cuts: number[];
  /** Large files come in pieces of so many bytes, 5 ms apart. */
  pieces?: number;
  /** Content sent in place of the true one, by path. */
  instead: Record<string, Buffer>;
  /** Answers with these statuses come first, one each. */
  statuses: number[];
  /** Ranges are ignored, as by some proxies. */
  ignoresRanges: boolean;
  /** Answers in place of the first server, unless it returns false. */
  takeOver?: (url: URL, response: ServerResponse, request: IncomingMessage) => unknown;
}

export const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');
export const gitDigest = (bytes: Buffer) =>
  createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');

/** The hub's endpoints on two local servers: one with the API and small files, one where large files lie. */
export class FakeHub {
  readonly repositories = new Map<string, FakeRepository>();
  /** Every request as "METHOD path" of the first server, "cdn path range" of the second. */
  requests: string[] = [];
  /** Authorization that reached the second server. */
  leaked: string[] = [];
  faults: Faults = { cuts: [], instead: {}, statuses: [], ignoresRanges: false };
  readonly tokens = { granted: 'hf_granted', other: 'hf_other' };
  private readonly api = createServer((request, response) => this.answer(request, response));
  private readonly cdn = createServer((request, response) => this.send(request, response));

  async start(): Promise<void> {
    await Promise.all(
      [this.api, this.cdn].map((server) => new Promise<void>((done) => server.listen(0, '127.0.0.1', done))),
    );
  }

  async stop(): Promise<void> {
    for (const server of [this.api, this.cdn]) {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    }
  }

  /** From here on it does not keep the process alive. */
  unref(): void {
    this.api.unref();
    this.cdn.unref();
  }

  get endpoint(): string {
    return urlOf(this.api);
  }

  reset(): void {
    this.requests = [];
    this.leaked = [];
    this.faults = { cuts: [], instead: {}, statuses: [], ignoresRanges: false };
  }

  private answer(request: IncomingMessage, response: ServerResponse): ServerResponse {
    const url = new URL(request.url ?? '', this.endpoint);
    this.requests.push(`${request.method} ${url.pathname}`);
    const status = this.faults.statuses.shift();
    if (status !== undefined) return refuse(response, status);
    if (this.faults.takeOver && this.faults.takeOver(url, response, request) !== false) return response;
    const token = request.headers.authorization?.replace('Bearer ', '');
    if (token !== undefined && !Object.values(this.tokens).includes(token)) return refuse(response, 401);

    const info = /^\/api\/(models|datasets)\/([^/]+\/[^/]+)\/revision\/([^/]+)$/.exec(url.pathname);
    const tree = /^\/api\/(models|datasets)\/([^/]+\/[^/]+)\/tree\/([^/]+)$/.exec(url.pathname);
    const file = /^\/(datasets\/)?([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/.exec(url.pathname);
    const match = info ?? tree ?? file;
    const type = file ? (file[1] ? 'datasets' : 'models') : match?.[1];
    const repository = match && this.repositories.get(`${type}/${match[2]}`);
    // The hub does not tell strangers what there is not.
    if (!repository) return refuse(response, token === undefined ? 401 : 404, 'RepoNotFound');
    if (!['main', repository.commit].includes(decodeURIComponent(match[3])))
      return refuse(response, 404, 'RevisionNotFound');

    if (info) {
      const { commit: sha } = repository;
      return json(response, { _id: '1', id: info[2], sha, private: false, gated: repository.gated ? 'manual' : false });
    }
    if (tree) return this.list(repository, url, response);
    if (repository.gated && token !== this.tokens.granted)
      return refuse(response, token === undefined ? 401 : 403, 'GatedRepo');
    const path = decodeURIComponent((file as RegExpExecArray)[4]);
    const found = repository.files[path];
    if (found === undefined) return refuse(response, 404, 'EntryNotFound');
    response.setHeader('X-Repo-Commit', repository.commit);
    if (!found.large) {
      response.setHeader('ETag', `"${gitDigest(found.content)}"`);
      return this.sendBytes(request, response, this.faults.instead[path] ?? found.content, false);
    }
    response.setHeader('X-Linked-Size', found.content.length);
    response.setHeader('X-Linked-ETag', `"${sha256(found.content)}"`);
    response.setHeader('ETag', `"${sha256(found.content)}"`);
    return response
      .writeHead(302, { location: `${urlOf(this.cdn, 'localhost')}/${match[2]}/${path}?type=${type}` })
      .end();
  }

  /** The listing, three files a page. */
  private list(repository: FakeRepository, url: URL, response: ServerResponse): ServerResponse {
    const start = Number(url.searchParams.get('cursor') ?? 0);
    const all = Object.entries(repository.files).map(([path, { content, large }]) => ({
      type: 'file',
      path,
      size: content.length,
      oid: gitDigest(content),
      ...(large && { lfs: { oid: sha256(content), size: content.length, pointerSize: 134 } }),
    }));
    if (start + 3 < all.length) {
      url.searchParams.set('cursor', String(start + 3));
      response.setHeader('Link', `<${url}>; rel="next"`);
    }
    return json(response, all.slice(start, start + 3));
  }

  private send(request: IncomingMessage, response: ServerResponse): ServerResponse {
    const url = new URL(request.url ?? '', 'http://cdn');
    this.requests.push(`cdn ${url.pathname} ${request.headers.range ?? 'all'}`);
    if (request.headers.authorization !== undefined) this.leaked.push(request.headers.authorization);
    const [, owner, name, ...path] = url.pathname.split('/');
    const repository = this.repositories.get(`${url.searchParams.get('type')}/${owner}/${name}`);
    const content = this.faults.instead[path.join('/')] ?? repository?.files[path.join('/')]?.content;
    if (content === undefined) return refuse(response, 404);
    return this.sendBytes(request, response, content, true);
  }

  private sendBytes(
    request: IncomingMessage,
    response: ServerResponse,
    content: Buffer,
    large: boolean,
  ): ServerResponse {
    const range = this.faults.ignoresRanges ? null : /^bytes=(\d+)-$/.exec(request.headers.range ?? '');
    const start = Number(range?.[1] ?? 0);
    if (start >= content.length && range) return refuse(response, 416);
    const body = content.subarray(start);
    const partial = range && { 'content-range': `bytes ${start}-${content.length - 1}/${content.length}` };
    response.writeHead(range ? 206 : 200, { 'content-length': body.length, ...partial });
    if (large && this.faults.pieces) {
      sendPieces(response, body, this.faults.pieces);
      return response;
    }
    const cut = large ? this.faults.cuts.shift() : undefined;
    if (cut === undefined) return response.end(body);
    response.write(body.subarray(0, cut), () => setTimeout(() => response.destroy(), 20));
    return response;
  }
}

async function sendPieces(response: ServerResponse, body: Buffer, bytes: number): Promise<void> {
  for (let at = 0; at < body.length && !response.destroyed; at += bytes) {
    response.write(body.subarray(at, at + bytes));
    await new Promise((done) => setTimeout(done, 5));
  }
  response.end();
}

function urlOf(server: Server, host = '127.0.0.1'): string {
  return `http://${host}:${(server.address() as AddressInfo).port}`;
}

function json(response: ServerResponse, value: unknown): ServerResponse {
  return response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value));
}

function refuse(response: ServerResponse, status: number, code?: string): ServerResponse {
  response.writeHead(status, { 'content-type': 'application/json', ...(code && { 'X-Error-Code': code }) });
  return response.end(JSON.stringify({ error: `status ${status}` }));
}
