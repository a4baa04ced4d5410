import { strict as assert } from 'node:assert';
import { lstatSync, mkdirSync, readdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join, relative } from 'node:path';
import { localModel } from '../../src/hub/local.js';
import { patience } from '../../src/hub/patience.js';
import { Random } from '../../src/numbers/random.js';
import { FakeHub, sha256 } from '../hub/fake-hub.js';
import { type Delivery, replaceNetwork } from './in-process-network.js';
import { mutate, mutateJson } from './mutate.js';
import { outcomeOf, scratchFolder, type Target } from './target.js';

/**
 * A model fetched from a hub whose answers are mutated: the files come as they are, or there is an InputError; and nothing is
 * written but into the cache.
 */

const hub = new FakeHub();
/** Models fetched at once: each has a name of its own, so that they can share the cache that the environment names. */
const atOnce = 16;
const nameOf = (slot: number) => `google/fuzz-${slot}`;
const commit = 'c'.repeat(40);
const files: Record<string, { content: Buffer; large?: boolean }> = {
  'README.md': { content: Buffer.from('A model') },
  'config.json': { content: Buffer.from('{"model_type":"gemma"}') },
  'model.safetensors': { content: Buffer.alloc(3000, 'weights '), large: true },
  'tokenizer.json': { content: Buffer.from('{"model":{}}') },
};

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
function mutated(answer: Answer, random: Random): Delivery {
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

/** The hub's own answers: one for a request is one for all like it, so that few have to be asked for over a socket. */
const answers = new Map<string, Promise<Answer>>();

function askHub(url: URL, headers: Record<string, string>): Promise<Answer> {
  const key = JSON.stringify([url.href, headers.range, headers.authorization]);
  const known = answers.get(key);
  if (known) return known;
  const asked = new Promise<Answer>((done, fail) => {
    const { range, authorization } = headers;
    const outgoing = request(url, { headers: { ...(range && { range }), ...(authorization && { authorization }) } });
    outgoing.on('error', fail).on('response', async (answered) => {
      const body = Buffer.concat(await answered.toArray());
      const kept = Object.entries(answered.headers as Record<string, string>).filter(
        ([name]) => !['connection', 'date', 'transfer-encoding', 'keep-alive', 'content-length'].includes(name),
      );
      done(withLength({ status: answered.statusCode ?? 0, headers: kept, body }));
    });
    outgoing.end();
  });
  answers.set(key, asked);
  return asked;
}

/** Whatever was made in the cache is what a cache holds of one model, under names that a cache has. */
function checkCache(storage: string): void {
  const inside = realpathSync(storage);
  for (const entry of readdirSync(storage, { recursive: true, encoding: 'utf8' })) {
    const path = join(storage, entry);
    assert.match(
      entry,
      /^(refs(\/main)?|snapshots(\/[0-9a-f]{40}(\/[\w.-]+)?)?|blobs(\/([0-9a-f]{40}|[0-9a-f]{64})(\.incomplete)?)?|\.no_exist(\/[0-9a-f]{40}(\/(tokenizer|\w+_config)\.json)?)?)$/,
    );
    if (!lstatSync(path).isSymbolicLink()) continue;
    assert.match(relative(inside, realpathSync(path)), /^blobs\/[0-9a-f]+$/);
    const name = entry.split('/').at(-1)!;
    assert.ok(readFileSync(path).equals(files[name]?.content), `the bytes of ${name}`);
  }
}

export async function hubAnswers(): Promise<Target> {
  for (let slot = 0; slot < atOnce; slot++) hub.repositories.set(`models/${nameOf(slot)}`, { commit, files });
  await hub.start();
  hub.unref();
  // All but silence comes at once; that costs no more than time, of which others make use.
  Object.assign(patience, { delays: Array(4).fill(0.001), answer: 100, silence: 100, longestWait: 1 });
  const place = join(scratchFolder(), 'place');
  const cache = join(place, 'home/hub');
  Object.assign(process.env, {
    HF_ENDPOINT: hub.endpoint,
    HF_TOKEN: hub.tokens.granted,
    HF_HOME: join(place, 'home'),
  });
  for (const name of ['HF_HUB_OFFLINE', 'HF_HUB_CACHE', 'HUGGINGFACE_HUB_CACHE']) delete process.env[name];
  const onItsWay = new Map<string, (answer: Answer) => Delivery>();
  replaceNetwork(async (url, headers) => {
    const answer = await askHub(url, headers);
    const change = onItsWay.get(/google\/fuzz-\d+/.exec(url.pathname)?.[0] ?? '');
    // Led astray by an answer.
    return change ? change(answer) : { bytes: written(answer) };
  });
  const weights = files['model.safetensors'].content;

  return {
    atOnce,
    async attempt(i) {
      const random = Random.stream(0, 'fuzz', 'hub', i);
      const name = nameOf(i % atOnce);
      const storage = join(cache, `models--${name.replace('/', '--')}`);
      rmSync(storage, { recursive: true, force: true });
      mkdirSync(join(storage, 'blobs'), { recursive: true });
      if (random.integer(3) === 0)
        writeFileSync(
          join(storage, 'blobs', `${sha256(weights)}.incomplete`),
          weights.subarray(0, random.integer(weights.length + 1)),
        );
      // One answer of the eight or so always, others now and then.
      let until = random.integer(8);
      onItsWay.set(name, (answer) =>
        until-- === 0 || random.integer(12) === 0 ? mutated(answer, random) : { bytes: written(answer) },
      );
      const outcome = await outcomeOf(async () => {
        const { path } = await localModel(name, { quiet: true });
        assert.ok(readdirSync(path).includes('model.safetensors'));
      });
      checkCache(storage);
      assert.deepEqual([readdirSync(place), readdirSync(join(place, 'home'))], [['home'], ['hub']]);
      assert.ok(readdirSync(cache).every((entry) => /^models--google--fuzz-\d+$/.test(entry)));
      return outcome;
    },
  };
}
