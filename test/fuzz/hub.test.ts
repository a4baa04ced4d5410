import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type IncomingMessage, request } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { InputError } from '../../src/errors.js';
import { localModel } from '../../src/hub/local.js';
import { patience } from '../../src/hub/patience.js';
import { Random } from '../../src/numbers/random.js';
import { FakeHub, sha256 } from '../hub/fake-hub.js';
import { mutate, mutateJson } from './mutate.js';

/**
 * A model fetched from a hub whose answers are mutated: the files come as they are, or there is an InputError; it takes no
 * long time, and writes nowhere but into the cache. `FUZZ_INPUTS=10000 npx vitest run test/fuzz/hub` tries that many; input
 * i is the same in every run.
 */
const inputs = Number(process.env.FUZZ_INPUTS ?? 100);
/** For one input, in ms: five silent attempts for each of ten answers, and ample room for a busy machine. */
const longest = 10_000;

const hub = new FakeHub();
const id = 'google/fuzz';
const commit = 'c'.repeat(40);
const files: Record<string, { content: Buffer; large?: boolean }> = {
  'README.md': { content: Buffer.from('A model') },
  'config.json': { content: Buffer.from('{"model_type":"gemma"}') },
  'model.safetensors': { content: Buffer.alloc(3000, 'weights '), large: true },
  'tokenizer.json': { content: Buffer.from('{"model":{}}') },
};
const root = mkdtempSync(join(tmpdir(), 'fuzz-hub-'));

/** An answer of the hub on its way. */
interface Answer {
  status: number;
  headers: [name: string, value: string][];
  body: Buffer;
}

const hostileTexts = [
  '..',
  '../../../outside',
  '/outside',
  'a/../../../outside',
  '\0',
  'C:\\outside',
  'a'.repeat(5000),
];
const hostileStatuses = [200, 204, 206, 301, 302, 304, 401, 403, 404, 408, 416, 429, 500, 503];
const hostileHeaders: [string, string][] = [
  ['link', '<http://127.0.0.1:1/?cursor=1>; rel="next"'],
  ['link', '<?recursive=true&expand=false>; rel="next"'],
  ['link', '<>; rel="next"'],
  ['location', '/'],
  ['location', 'http://127.0.0.1:1/'],
  ['location', 'file:///etc/hostname'],
  ['content-range', 'bytes 0-1/99999999999999999999'],
  ['content-range', 'bytes 5-10/3000'],
  ['content-encoding', 'gzip'],
  ['content-length', '1'],
  ['content-length', '99999999999999'],
  ['transfer-encoding', 'chunked'],
  ['retry-after', '0'],
  ['retry-after', '1e9'],
];

const isJson = ({ headers }: Answer) => headers.some(([, value]) => value === 'application/json');

function hostileJson(body: Buffer, random: Random): Buffer {
  const strings = [...body.toString('utf8').matchAll(/"[^"]*"/g)];
  if (strings.length === 0) return body;
  const { index, 0: text } = strings[random.integer(strings.length)];
  const other = JSON.stringify(hostileTexts[random.integer(hostileTexts.length)]);
  return Buffer.concat([body.subarray(0, index), Buffer.from(other), body.subarray(index + text.length)]);
}

function written({ status, headers, body }: Answer): Buffer {
  const lines = [
    `HTTP/1.1 ${status} Status`,
    ...headers.map(([name, value]) => `${name}: ${value}`),
    'connection: close',
  ];
  return Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'), body]);
}

const withLength = ({ headers, ...rest }: Answer): Answer => ({
  ...rest,
  headers: [...headers.filter(([name]) => name !== 'content-length'), ['content-length', String(rest.body.length)]],
});

/** Bytes to send in place of the answer, and whether silence follows them. */
function mutated(answer: Answer, random: Random): { bytes: Buffer; silence?: boolean } {
  switch (random.integer(8)) {
    case 0:
      return { bytes: mutate(written(answer), random) };
    case 1: {
      const head = written({ ...answer, body: Buffer.alloc(0) });
      return { bytes: Buffer.concat([mutate(head, random), answer.body]) };
    }
    case 2:
      return { bytes: written({ ...answer, status: hostileStatuses[random.integer(hostileStatuses.length)] }) };
    case 3: {
      const added = hostileHeaders[random.integer(hostileHeaders.length)];
      return {
        bytes: written({ ...answer, headers: [...answer.headers.filter(([name]) => name !== added[0]), added] }),
      };
    }
    case 4: {
      const bytes = written(answer);
      return { bytes: bytes.subarray(0, random.integer(bytes.length)), silence: random.integer(4) === 0 };
    }
    case 5:
      return { bytes: written(withLength({ ...answer, body: mutate(answer.body, random) })) };
    default: {
      if (!isJson(answer)) return { bytes: written(withLength({ ...answer, body: mutate(answer.body, random) })) };
      const body = (random.integer(2) === 0 ? mutateJson : hostileJson)(answer.body, random);
      return { bytes: written(withLength({ ...answer, body })) };
    }
  }
}

/** What becomes of an answer, as raw bytes. */
let onItsWay: (answer: Answer) => { bytes: Buffer; silence?: boolean } = (answer) => ({ bytes: written(answer) });

/** Passes requests on to the hub, those for /~PORT/ to that port, where the hub has its large files. */
const proxy = createServer((incoming, response) => {
  const [, port = new URL(hub.endpoint).port, path] = /^(?:\/~(\d+))?(.*)$/s.exec(incoming.url ?? '') ?? [];
  const { host: _, connection: __, ...headers } = incoming.headers;
  const outgoing = request({ host: '127.0.0.1', port, path, headers }, async (answered: IncomingMessage) => {
    const body = Buffer.concat(await answered.toArray());
    const kept = Object.entries(answered.headers as Record<string, string>).filter(
      ([name]) => !['connection', 'date', 'transfer-encoding', 'keep-alive', 'content-length'].includes(name),
    );
    const here = (text: string) => text.replace(/localhost:(\d+)/, `localhost:${portOf()}/~$1`);
    const answer = { status: answered.statusCode ?? 0, headers: kept.map(([n, v]) => [n, here(v)]), body } as Answer;
    const { bytes, silence } = onItsWay(withLength(answer));
    // Raw: Node would not send what is no HTTP.
    const socket = response.socket as Socket;
    if (silence) socket.write(bytes);
    else socket.end(bytes);
  });
  outgoing.on('error', () => response.destroy());
  outgoing.end();
});
const portOf = () => (proxy.address() as AddressInfo).port;

beforeAll(async () => {
  hub.repositories.set(`models/${id}`, { commit, files });
  await hub.start();
  await new Promise<void>((done) => proxy.listen(0, done));
  Object.assign(patience, { delays: Array(4).fill(0.001), answer: 100, silence: 100, longestWait: 1 });
  vi.stubEnv('HF_ENDPOINT', `http://127.0.0.1:${portOf()}`);
  vi.stubEnv('HF_TOKEN', hub.tokens.granted);
  for (const name of ['HF_HUB_OFFLINE', 'HF_HUB_CACHE', 'HUGGINGFACE_HUB_CACHE']) vi.stubEnv(name, undefined);
});
afterAll(async () => {
  proxy.closeAllConnections();
  proxy.close();
  await hub.stop();
  vi.unstubAllEnvs();
  rmSync(root, { recursive: true, force: true });
});

/** Whatever was made below `place` is what a cache holds, under names that a cache has. */
function checkPlace(place: string, home: string): void {
  expect(readdirSync(place)).toEqual(['home']);
  const inside = realpathSync(home);
  for (const entry of readdirSync(home, { recursive: true, encoding: 'utf8' })) {
    const path = join(home, entry);
    expect(entry).toMatch(
      /^hub(\/models--google--fuzz(\/(refs(\/main)?|snapshots(\/[0-9a-f]{40}(\/[\w.-]+)?)?|blobs(\/([0-9a-f]{40}|[0-9a-f]{64})(\.incomplete)?)?))?)?$/,
    );
    if (!lstatSync(path).isSymbolicLink()) continue;
    expect(relative(inside, realpathSync(path))).toMatch(/^hub\/models--google--fuzz\/blobs\/[0-9a-f]+$/);
    const name = entry.split('/').at(-1)!;
    expect(readFileSync(path).equals(files[name]?.content), `the bytes of ${name}`).toBe(true);
  }
}

it('answers of the hub', { timeout: 60_000 + inputs * longest }, async () => {
  const outcomes = { fetched: 0, refused: 0 };
  const started = Date.now();
  let slowest = 0;
  for (let i = 0; i < inputs; i++) {
    const random = Random.stream(0, 'fuzz', 'hub', i);
    const place = join(root, String(i));
    const home = join(place, 'home');
    const blobs = join(home, 'hub/models--google--fuzz/blobs');
    mkdirSync(blobs, { recursive: true });
    vi.stubEnv('HF_HOME', home);
    const weights = files['model.safetensors'].content;
    if (random.integer(3) === 0)
      writeFileSync(
        join(blobs, `${sha256(weights)}.incomplete`),
        weights.subarray(0, random.integer(weights.length + 1)),
      );
    // One answer of the eight or so always, others now and then.
    let until = random.integer(8);
    onItsWay = (answer) =>
      until-- === 0 || random.integer(12) === 0 ? mutated(answer, random) : { bytes: written(answer) };
    const before = Date.now();
    try {
      const { path } = await localModel(id, { quiet: true });
      expect(readdirSync(path)).toContain('model.safetensors');
      outcomes.fetched++;
    } catch (error) {
      if (!(error instanceof InputError)) throw new Error(`input ${i}`, { cause: error });
      outcomes.refused++;
    }
    const took = Date.now() - before;
    slowest = Math.max(slowest, took);
    expect(took, `ms for input ${i}`).toBeLessThan(longest);
    try {
      checkPlace(place, home);
    } catch (error) {
      throw new Error(`input ${i}`, { cause: error });
    }
    rmSync(place, { recursive: true });
  }
  console.info('hub', outcomes, `${(Date.now() - started) / 1000} s, the slowest ${slowest} ms`);
  expect(readdirSync(root)).toEqual([]);
  // Mutations so mild that all is fetched, or so wild that nothing is, would test little.
  expect(outcomes.refused).toBeGreaterThan(inputs / 10);
  expect(outcomes.fetched).toBeGreaterThan(inputs / 10);
});
