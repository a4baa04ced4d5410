import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join, resolve } from 'node:path';
import { inspect } from 'node:util';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { listingLimits } from '../../src/hub/listing.js';
import { localCsv } from '../../src/hub/local.js';
import { patience } from '../../src/hub/patience.js';
import { inputError } from '../data/helpers.js';
import { temporaryFolder } from '../temporary-folder.js';
import { FakeHub, gitDigest, sha256 } from './fake-hub.js';

/** A hub that fails, lies, or never ends: an InputError after a bounded time, and nothing outside the cache. */

const hub = new FakeHub();
const commit = 'a'.repeat(40);
const csv = Buffer.from('question,selections,options\n');
const large = Buffer.alloc(100_000, 'x');
const small = 'someone/opinions';
let root: string;

/** Notes the authorization of all who come; its answer is an empty list. */
const stranger = createServer((request, response) => {
  strangers.push(request.headers.authorization ?? 'none');
  response.end('[]');
});
let strangers: string[] = [];
const strangerUrl = () => `http://127.0.0.1:${(stranger.address() as AddressInfo).port}`;

beforeAll(async () => {
  hub.repositories.set(`datasets/${small}`, { commit, files: { 'opinions.csv': { content: csv } } });
  hub.repositories.set('datasets/someone/large', { commit, files: { 'large.csv': { content: large, large: true } } });
  await hub.start();
  await new Promise<void>((done) => stranger.listen(0, '127.0.0.1', done));
});
afterAll(async () => {
  await hub.stop();
  stranger.close();
});

const [usual, usualLimits] = [{ ...patience }, { ...listingLimits }];
beforeEach(() => {
  hub.reset();
  strangers = [];
  Object.assign(patience, usual, { delays: [0.001, 0.001, 0.001, 0.001] });
  Object.assign(listingLimits, usualLimits);
  root = temporaryFolder();
  vi.stubEnv('HF_ENDPOINT', hub.endpoint);
  vi.stubEnv('HF_HOME', join(root, 'home'));
  for (const name of ['HF_TOKEN', 'HF_HUB_OFFLINE', 'HF_HUB_CACHE', 'HUGGINGFACE_HUB_CACHE'])
    vi.stubEnv(name, undefined);
});
afterEach(() => {
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
});

const fetchCsv = (id = small) => localCsv(id, { quiet: true });
const send = (response: ServerResponse, value: unknown, headers: Record<string, string> = {}) =>
  response.writeHead(200, headers).end(typeof value === 'string' ? value : JSON.stringify(value));
const good = () => ({ type: 'file', path: 'opinions.csv', size: csv.length, oid: gitDigest(csv) });
/** Answers requests whose path holds `part` in place of the hub. */
const takeOver = (part: string, answer: (response: ServerResponse, url: URL, request: IncomingMessage) => unknown) => {
  hub.faults.takeOver = (url, response, request) => url.pathname.includes(part) && answer(response, url, request);
};
const lines = () => {
  const write = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  return () => write.mock.calls.map(([text]) => String(text));
};

describe('a secret', () => {
  const secret = 'hf_topsecret';

  it.each([
    ['HF_TOKEN', `${secret}\nmore`],
    ['HF_TOKEN', `Bearer ${secret}`],
    ['HF_TOKEN', `${secret}é`],
    ['HF_ENDPOINT', `http://me:${secret}@127.0.0.1:1`],
    ['HF_ENDPOINT', `http://${secret}@127.0.0.1:1`],
    ['HF_ENDPOINT', `me:${secret}@127.0.0.1`],
    ['HF_ENDPOINT', `http://[${secret}`],
    ['HF_ENDPOINT', `http://127.0.0.1:1/?key=${secret}`],
    ['HF_ENDPOINT', `file:///${secret}`],
  ])('is not told where %s cannot be right', async (name, value) => {
    vi.stubEnv(name, value);
    const error = await inputError(fetchCsv);
    expect(error.message).toMatch(new RegExp(`^field "${name}": .*\n {2}fix: `));
    expect(inspect(error, { depth: null, showHidden: true })).not.toContain(secret);
    expect(hub.requests).toEqual([]);
  });

  it('is not told by the program, nor where it lies in a file', async () => {
    mkdirSync(join(root, 'home'));
    writeFileSync(join(root, 'home/token'), `${secret}\nmore\n`);
    const error = await inputError(fetchCsv);
    expect(error.message).toMatch(/home\/token: contains a character that no token has/);
    expect(inspect(error)).not.toContain(secret);
    const args = ['data', 'global-opinions', '--file', small, '--groups', 'a,b', '--out', join(root, 'out')];
    for (const [name, value] of [
      ['HF_TOKEN', `${secret}\rmore`],
      ['HF_ENDPOINT', `http://me:${secret}@127.0.0.1:1`],
    ]) {
      const env = { ...process.env, [name]: value };
      const { status, stderr, stdout } = spawnSync(process.execPath, [resolve('dist/cli/main.js'), ...args], { env });
      expect(String(stderr)).toMatch(new RegExp(`^error: field "${name}": .*\n {2}fix: .*\n$`));
      expect(`${stdout}${stderr}`).not.toContain(secret);
      expect(status).toBe(2);
    }
  });

  it.each([
    [
      'the next page',
      '/tree/',
      (response: ServerResponse) => send(response, [good()], { Link: `<${strangerUrl()}/more?cursor=1>; rel="next"` }),
    ],
    [
      'a redirected listing',
      '/tree/',
      (response: ServerResponse) => response.writeHead(307, { location: strangerUrl() }).end(),
    ],
    [
      'a redirected file',
      '/resolve/',
      (response: ServerResponse) => response.writeHead(302, { location: strangerUrl() }).end(),
    ],
  ])('is not sent to another port by %s', async (_, part, answer) => {
    vi.stubEnv('HF_TOKEN', hub.tokens.granted);
    let asked = 0;
    takeOver(part, (response) => asked++ === 0 && answer(response));
    await fetchCsv().catch(() => {});
    expect(asked).toBeGreaterThan(0);
    expect(strangers.filter((authorization) => authorization !== 'none')).toEqual([]);
  });

  it('stays with a mirror, which passes on the addresses of the hub', async () => {
    const files = Object.fromEntries(['a', 'b', 'c', 'd'].map((name) => [name, { content: csv }]));
    hub.repositories.set('datasets/someone/pages', { commit, files: { ...files, 'e.csv': { content: csv } } });
    takeOver('/tree/', (response) => {
      const { setHeader } = response;
      response.setHeader = (name, value) =>
        setHeader.call(response, name, String(value).replace(hub.endpoint, strangerUrl()));
      return false;
    });
    expect(readFileSync((await fetchCsv('someone/pages')).path)).toEqual(csv);
    expect(strangers).toEqual([]);
  });
});

describe('an answer that is wrong', () => {
  const up = '../../../../outside';

  it.each<[problem: string, listing: unknown, message: RegExp]>([
    ['an oid that is a path', [{ ...good(), oid: up }], /\[0\]\.oid must be 40 hexadecimal digits/],
    ['an absolute oid', [{ ...good(), oid: '/tmp/outside' }], /\[0\]\.oid/],
    ['an oid in capitals', [{ ...good(), oid: 'A'.repeat(40) }], /\[0\]\.oid/],
    ['a short oid', [{ ...good(), oid: 'a'.repeat(39) }], /\[0\]\.oid/],
    ['an oid with a line break', [{ ...good(), oid: `${'a'.repeat(40)}\n` }], /\[0\]\.oid/],
    ['an oid of another kind', [{ ...good(), oid: sha256(csv) }], /\[0\]\.oid/],
    ['an oid that is a path, of a large file', [{ ...good(), lfs: { oid: up } }], /\[0\]\.lfs\.oid must be 64/],
    ["git's oid of a large file", [{ ...good(), lfs: { oid: gitDigest(csv) } }], /\[0\]\.lfs\.oid/],
    ['no oid', [{ ...good(), oid: undefined }], /\[0\]\.oid is missing/],
    ['no path', [{ ...good(), path: undefined }], /\[0\]\.path is missing/],
    ['a path that is a number', [good(), { ...good(), path: 7 }], /\[1\]\.path must be text, not 7/],
    ['no size', [{ ...good(), size: undefined }], /\[0\]\.size is missing/],
    ['a negative size', [{ ...good(), size: -1 }], /\[0\]\.size must be at least 0/],
    ['a size that is text', [{ ...good(), size: '7' }], /\[0\]\.size must be/],
    ['half a byte', [{ ...good(), size: 0.5 }], /\[0\]\.size must be a whole number/],
    ['an entry that is null', [null], /\[0\] must be keys with values, not null/],
    ['an entry that is a list', [[]], /\[0\]/],
    ['no kind', [{ ...good(), type: undefined }], /\[0\]\.type is missing/],
    ['no list', { error: 'busy' }, /an answer must be a list/],
    ['null', null, /an answer must be a list/],
    ['a file twice', [good(), good()], /opinions\.csv is in its listing twice/],
    ['a page in HTML', '<html>Log in</html>', /an answer is not JSON/],
    ['half of a list', '[{"type":', /an answer is not JSON/],
    ['nothing', '', /an answer is not JSON/],
  ])('%s is refused by name', async (_, listing, message) => {
    takeOver('/tree/', (response) => send(response, listing));
    const error = await inputError(fetchCsv);
    expect(error.message).toMatch(/^someone\/opinions: http:\S+ does not answer like the hub: /);
    expect(error.message).toMatch(message);
    expect(error.message).toMatch(/HF_ENDPOINT/);
    expect(existsSync(join(root, 'home'))).toBe(false);
    expect(readdirSync(root)).toEqual([]);
  });

  it.each([{}, { sha: '../../outside' }, { sha: 7 }, [], null, 'text', '{'])(
    'instead of a commit is refused: %j',
    async (answer) => {
      takeOver('/revision/', (response) => send(response, answer));
      expect((await inputError(fetchCsv)).message).toContain('does not answer like the hub');
      expect(readdirSync(root)).toEqual([]);
    },
  );

  it.each(['../x.csv', '/x.csv', 'a/../../x.csv', 'a//x.csv', 'a\\x.csv', 'C:x.csv', '\u001b[2Jx.csv', '.', ''])(
    'the path %j does not count',
    async (path) => {
      takeOver('/tree/', (response) => send(response, [{ ...good(), path }]));
      expect((await inputError(fetchCsv)).message).toContain('has no CSV file');
      expect(readdirSync(root)).toEqual([]);
    },
  );

  it('names a file that the file system cannot hold', async () => {
    const path = `${'long'.repeat(100)}.csv`;
    hub.repositories.set('datasets/someone/long', { commit, files: { [path]: { content: csv } } });
    expect((await inputError(() => fetchCsv('someone/long'))).message).toMatch(/cannot be written: ENAMETOOLONG/);
  });

  it('says which file a repository lists and does not have', async () => {
    takeOver('/resolve/', (response) => response.writeHead(404).end());
    expect((await inputError(fetchCsv)).message).toMatch(/the hub lists opinions\.csv among its files, but .*404/);
    hub.faults.takeOver = undefined;
    hub.repositories.set('datasets/someone/lost', { commit, files: { 'lost.csv': { content: large, large: true } } });
    hub.faults.takeOver = (url, response) =>
      url.pathname.includes('/resolve/') && response.writeHead(302, { location: `${strangerUrl()}/403` }).end();
    stranger.prependOnceListener('request', (_, response) => response.writeHead(403));
    const error = await inputError(() => fetchCsv('someone/lost'));
    expect(error.message).toMatch(/127\.0\.0\.1:\d+ answered with status 403 for lost\.csv/);
  });

  it('is not believed where it lies in the cache as the commit of a branch', async () => {
    const refs = join(root, 'home/hub/datasets--someone--opinions/refs');
    mkdirSync(refs, { recursive: true });
    writeFileSync(join(refs, 'main'), '../../../../..');
    writeFileSync(join(root, 'evil.csv'), 'x');
    vi.stubEnv('HF_HUB_OFFLINE', '1');
    expect((await inputError(fetchCsv)).message).toContain('not in the cache');
    mkdirSync(join(refs, 'v1'));
    expect((await inputError(() => fetchCsv(`${small}@v1`))).message).toContain('not in the cache');
  });
});

describe('an answer that never ends', () => {
  it('or begins is given up after five attempts in all, each told of', async () => {
    Object.assign(patience, { answer: 60, unmentioned: 20 });
    const told = lines();
    takeOver('', () => true);
    const error = await inputError(() => localCsv(small));
    expect(error.message).toMatch(/cannot be reached: no answer has come for 0\.06 s\n {2}fix: /);
    expect(hub.requests).toHaveLength(5);
    expect(
      told().filter((line) => /^someone\/opinions: waiting for http.* to answer, at most/.test(line)),
    ).toHaveLength(5);
    expect(told().filter((line) => /no answer has come .*; trying again in 0\.0 s\n$/.test(line))).toHaveLength(4);
  });

  it('of a file is given up after five attempts in all, in silence where that is wished', async () => {
    patience.answer = 60;
    const told = lines();
    takeOver('/resolve/', () => true);
    expect((await inputError(fetchCsv)).message).toContain('opinions.csv cannot be downloaded: no answer has come');
    expect(hub.requests.filter((request) => request.includes('/resolve/'))).toHaveLength(5);
    expect(told()).toEqual([]);
  });

  it('since it stops amid the body is given up', async () => {
    patience.silence = 60;
    const stop = (response: ServerResponse) => response.write('[');
    for (const [part, message] of [
      ['/revision/', /cannot be reached: nothing has come for 0\.06 s/],
      ['/tree/', /cannot be reached: nothing has come for 0\.06 s/],
      ['/resolve/', /cannot be downloaded: nothing has come for 0\.06 s/],
    ] as const) {
      takeOver(part, stop);
      expect((await inputError(fetchCsv)).message).toMatch(message);
    }
  });

  it('since it comes too slowly is given up', async () => {
    listingLimits.seconds = 0.3;
    takeOver('/tree/', (response) => {
      const timer = setInterval(() => response.write(' '), 20);
      response.on('close', () => clearInterval(timer));
    });
    expect((await inputError(fetchCsv)).message).toContain('it takes longer than 0.3 s');
  });

  it('since there is always more is refused', async () => {
    Object.assign(listingLimits, { answerBytes: 1e6, bytes: 4e6 });
    const entry = JSON.stringify(good());
    takeOver('/tree/', (response) => {
      const more = () => {
        while (response.writable && response.write(`${entry},`.repeat(1000)));
      };
      response.write('[');
      response.on('drain', more);
      more();
    });
    expect((await inputError(fetchCsv)).message).toContain('an answer has no end');
    // As many pages as one likes, all full.
    Object.assign(listingLimits, { pages: 1000 });
    let page = 0;
    takeOver('/tree/', (response) =>
      send(response, `[${' '.repeat(5e5)}]`, { Link: `<?cursor=${++page}>; rel="next"` }),
    );
    expect((await inputError(fetchCsv)).message).toContain('more than 4 MB were received');
    Object.assign(listingLimits, { pages: 10 });
    takeOver('/tree/', (response) => send(response, [], { Link: `<?cursor=${++page}>; rel="next"` }));
    expect((await inputError(fetchCsv)).message).toContain('more than 0 files on 11 pages');
    listingLimits.files = 2;
    takeOver('/tree/', (response) =>
      send(
        response,
        ['a', 'b', 'c'].map((path) => ({ ...good(), path })),
      ),
    );
    expect((await inputError(fetchCsv)).message).toContain('more than 3 files on 1 pages');
  });

  it.each(['<?recursive=true&expand=false>; rel="next"', '<?cursor=1>; rel="next"', '<http://[>; rel="next"'])(
    'since its page leads to itself or nowhere is refused: %s',
    async (Link) => {
      takeOver('/tree/', (response) => send(response, [], { Link }));
      expect((await inputError(fetchCsv)).message).toMatch(/names itself as the next one|is not an address/);
      expect(hub.requests.length).toBeLessThan(5);
    },
  );

  it('since it redirects in a circle is given up', async () => {
    takeOver('/resolve/', (response, url) => response.writeHead(302, { location: url.href }).end());
    expect((await inputError(fetchCsv)).message).toMatch(/cannot be downloaded: redirect count exceeded/);
  });
});

describe('a download without progress', () => {
  const fetchLarge = () => fetchCsv('someone/large');
  const received = () => hub.requests.filter((request) => request.includes('/resolve/')).length;

  it('ends where each attempt to go on is refused', async () => {
    takeOver('/resolve/', (response, _, { headers: { range } }) => {
      if (range) return response.writeHead(416).end();
      response.writeHead(200, { 'content-length': large.length });
      return response.write(large.subarray(0, 1000), () => setTimeout(() => response.destroy(), 20));
    });
    expect((await inputError(fetchLarge)).message).toMatch(/large\.csv cannot be downloaded: /);
    expect(received()).toBeLessThan(8);
  });

  it('ends where each begins anew and is cut at the same place', async () => {
    hub.faults.ignoresRanges = true;
    hub.faults.cuts = Array(50).fill(1000);
    expect((await inputError(fetchLarge)).message).toMatch(/cannot be downloaded: /);
    expect(received()).toBe(5);
  });

  it('ends where each begins anew and comes a byte further', async () => {
    hub.faults.ignoresRanges = true;
    hub.faults.cuts = Array.from({ length: 200 }, (_, i) => 80_000 + i);
    expect((await inputError(fetchLarge)).message).toMatch(/cannot be downloaded: more than 2 MB were received/);
    expect(received()).toBeLessThan(25);
  });

  it('ends after twice the attempts where the remains of an earlier one are wrong', async () => {
    const blobs = join(root, 'home/hub/datasets--someone--large/blobs');
    mkdirSync(blobs, { recursive: true });
    writeFileSync(join(blobs, `${sha256(large)}.incomplete`), Buffer.alloc(50_000));
    hub.faults.instead = { 'large.csv': Buffer.alloc(large.length) };
    expect((await inputError(fetchLarge)).message).toContain('its checksum is not');
    expect(received()).toBe(2);
  });
});

describe('a busy hub', () => {
  const busyFor = (wait: string) => {
    let left = 1;
    takeOver('/tree/', (response) => left-- > 0 && response.writeHead(429, { 'retry-after': wait }).end());
  };

  it('is given the time that it asks for, which is told', async () => {
    const told = lines();
    busyFor('1');
    const start = Date.now();
    await localCsv(small);
    expect(Date.now() - start).toBeGreaterThan(990);
    expect(told()).toContain('someone/opinions: the server answered with status 429; trying again in 1.0 s\n');
    busyFor(new Date(Date.now() + 2000).toUTCString());
    const again = Date.now();
    await fetchCsv();
    expect(Date.now() - again).toBeGreaterThan(700);
  });

  it.each(['301', '99999999999999999999', new Date(Date.now() + 1e9).toUTCString()])(
    'is not waited for at any length: %s',
    async (wait) => {
      busyFor(wait);
      const error = await inputError(fetchCsv);
      expect(error.message).toMatch(/status 429; the next attempt would be in .* (s|min)\n {2}fix: .*later/);
    },
  );

  it.each(['soon', '-1', ''])('that asks for %j is asked again as usual', async (wait) => {
    busyFor(wait);
    expect(readFileSync((await fetchCsv()).path)).toEqual(csv);
  });
});
