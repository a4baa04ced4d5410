import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  cachedFolder,
  cacheFolder,
  findLibTorch,
  inspectLibTorch,
  isSupported,
  MANIFEST,
  readCached,
} from '../../src/native/libtorch.js';
import { archiveUrl, downloadLibTorch, verifyWheel } from '../../src/native/libtorch-download.js';
import { capture } from '../../src/native/tools.js';

/** A resolver sees folders, an environment and programs; all three are made up here. */
let root: string;
let env: NodeJS.ProcessEnv;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'libtorch-test-'));
  // A PATH of our own: no nvcc, no python, unless a test adds one.
  mkdirSync(join(root, 'bin'));
  env = { PATH: join(root, 'bin'), GROUP_ROBUST_CACHE: join(root, 'cache'), CUDA_HOME: join(root, 'no-cuda') };
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function write(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}

function makeLibTorch(folder: string, { version = '2.13.0', cuda = false, oldAbi = false } = {}): string {
  write(join(folder, 'lib/libtorch_cpu.so'), 'library');
  if (cuda) write(join(folder, 'lib/libtorch_cuda.so'), 'library');
  write(join(folder, 'include/ATen/ATen.h'), '');
  write(
    join(folder, 'share/cmake/Torch/TorchConfig.cmake'),
    oldAbi ? 'set(TORCH_CXX_FLAGS "-D_GLIBCXX_USE_CXX11_ABI=0")' : '',
  );
  write(join(folder, 'share/cmake/Torch/TorchConfigVersion.cmake'), `set(PACKAGE_VERSION "${version}")`);
  return folder;
}

function makeCached(variant: string): string {
  const folder = makeLibTorch(cachedFolder(variant, env));
  write(join(folder, MANIFEST), JSON.stringify({ version: '2.13.0', source: 'test', sizes: { 'libtorch_cpu.so': 7 } }));
  return folder;
}

function program(name: string, body: string): void {
  const path = join(root, 'bin', name);
  writeFileSync(path, `#!/bin/sh\n${body}\n`);
  chmodSync(path, 0o755);
}

const pythonWithTorch = (folder: string) =>
  program('python3', `case "$1" in --version) echo "Python 3.11.2";; -c) echo "${folder}";; esac`);
const nvcc = (version: string) => program('nvcc', `echo "Cuda compilation tools, release ${version}, V${version}.88"`);

describe.skipIf(process.platform !== 'linux')('finding LibTorch', () => {
  it('reads version, CUDA and ABI of a folder', () => {
    expect(inspectLibTorch(makeLibTorch(join(root, 'a')))).toMatchObject({
      version: '2.13.0',
      cuda: false,
      cxx11Abi: true,
    });
    expect(inspectLibTorch(makeLibTorch(join(root, 'b'), { cuda: true, oldAbi: true }))).toMatchObject({
      cuda: true,
      cxx11Abi: false,
    });
  });

  it('says which part a folder lacks', () => {
    rmSync(join(makeLibTorch(join(root, 'a')), 'share'), { recursive: true });
    expect(() => inspectLibTorch(join(root, 'a'))).toThrow(/share\/cmake\/Torch\/TorchConfig.cmake missing/);
  });

  it.each([
    ['2.10.0', false],
    ['2.11.0', true],
    ['2.13.0+cpu', true],
    ['2.14.1', true],
    ['2.15.0', false],
    ['1.13.0', false],
    ['unknown', false],
  ])('supports %s: %s', (version, supported) => expect(isSupported(version)).toBe(supported));

  it('goes LIBTORCH, earlier build, cache, Python, in this order', () => {
    const named = makeLibTorch(join(root, 'named'));
    const earlier = makeLibTorch(join(root, 'earlier'));
    const cached = makeCached('cpu');
    const python = makeLibTorch(join(root, 'python/torch'));
    pythonWithTorch(python);
    const find = () => findLibTorch({ env, earlier })?.folder;

    env.LIBTORCH = named;
    expect(find()).toBe(named);
    delete env.LIBTORCH;
    expect(find()).toBe(earlier);
    rmSync(earlier, { recursive: true });
    expect(find()).toBe(cached);
    rmSync(cached, { recursive: true });
    expect(find()).toBe(python);
    rmSync(python, { recursive: true });
    expect(find()).toBeUndefined();
  });

  it('never replaces a wrong LIBTORCH in silence', () => {
    makeCached('cpu');
    env.LIBTORCH = join(root, 'nothing');
    expect(() => findLibTorch({ env })).toThrow(/is no LibTorch folder/);
    env.LIBTORCH = makeLibTorch(join(root, 'old'), { version: '2.4.0' });
    expect(() => findLibTorch({ env })).toThrow(/2\.4\.0 is not supported[\s\S]*2\.11 to 2\.14/);
  });

  it("passes over Python's torch of another version, and says so", () => {
    pythonWithTorch(makeLibTorch(join(root, 'torch'), { version: '2.9.1' }));
    const said: string[] = [];
    expect(findLibTorch({ env, log: (text) => said.push(text) })).toBeUndefined();
    expect(said.join()).toMatch(/2\.9\.1: not in 2\.11 to 2\.14/);
  });

  it('takes a CUDA build only where nvcc is', () => {
    pythonWithTorch(makeLibTorch(join(root, 'torch'), { cuda: true }));
    expect(findLibTorch({ env })).toBeUndefined();
    env.LIBTORCH = join(root, 'torch');
    expect(() => findLibTorch({ env })).toThrow(/nvcc was not found/);
    nvcc('13.0');
    expect(findLibTorch({ env })).toMatchObject({ cuda: true, origin: 'LIBTORCH' });
  });

  it('prefers a cached CUDA build where nvcc is, else takes the CPU build', () => {
    const cpu = makeCached('cpu');
    nvcc('13.0');
    expect(findLibTorch({ env })?.folder).toBe(cpu);
    const cuda = makeCached('cu130');
    expect(findLibTorch({ env })?.folder).toBe(cuda);
  });

  it('does not take a damaged cache for a whole one', () => {
    const folder = makeCached('cpu');
    expect(readCached(folder)).toBeDefined();
    writeFileSync(join(folder, 'lib/libtorch_cpu.so'), 'libr');
    expect(readCached(folder)).toBeUndefined();
    expect(findLibTorch({ env })).toBeUndefined();
  });

  it('keeps the cache where XDG says', () => {
    expect(cacheFolder({ XDG_CACHE_HOME: '/x' })).toBe('/x/group-robust-po');
    expect(cacheFolder({ GROUP_ROBUST_CACHE: '/y', XDG_CACHE_HOME: '/x' })).toBe('/y');
  });

  it('knows the official archives', () => {
    expect(archiveUrl('cpu', 'linux', 'x64')).toMatch(
      /\/libtorch\/cpu\/libtorch-shared-with-deps-2\.13\.0%2Bcpu\.zip$/,
    );
    expect(archiveUrl('cu130', 'linux', 'x64')).toMatch(/\/cu130\/.*%2Bcu130\.zip$/);
    expect(archiveUrl('cpu', 'linux', 'arm64')).toBeUndefined();
  });
});

describe.skipIf(process.platform !== 'linux')('fetching LibTorch', () => {
  let server: Server;
  let url: string;
  let respond: (path: string) => { status?: number; body?: Buffer; length?: number };

  beforeEach(async () => {
    server = createServer((request, response) => {
      const { status = 200, body = Buffer.alloc(0), length = body.length } = respond(request.url ?? '');
      response.writeHead(status, { 'content-length': length });
      response.write(body);
      if (length > body.length) setTimeout(() => response.destroy(), 50);
      else response.end();
    });
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/libtorch.zip`;
    // The real cmake unpacks.
    symlinkSync(capture('sh', ['-c', 'command -v cmake'])!, join(root, 'bin/cmake'));
  });
  afterEach(() => server.close());

  function zip(folder: string, ...names: string[]): Buffer {
    const archive = join(root, 'archive.zip');
    if (
      capture('cmake', ['-E', 'chdir', folder, 'cmake', '-E', 'tar', 'cf', archive, '--format=zip', ...names]) ===
      undefined
    )
      throw new Error('cmake cannot make a zip');
    return readFileSync(archive);
  }
  const archives = () => [{ variant: 'cpu', url }];
  const fetchIt = (log: (text: string) => void = () => {}) => downloadLibTorch({ env, log, archives: archives() });
  const cacheIsEmpty = () => !existsSync(cacheFolder(env)) || readdirSync(cacheFolder(env)).length === 0;

  it('installs an archive, which the next search finds in the cache', async () => {
    makeLibTorch(join(root, 'pack/libtorch'));
    const body = zip(join(root, 'pack'), 'libtorch');
    respond = () => ({ body });
    const torch = await fetchIt();
    expect(torch).toMatchObject({ version: '2.13.0', folder: cachedFolder('cpu', env) });
    expect(findLibTorch({ env })).toMatchObject({ origin: 'cache', folder: torch.folder });
    expect(readdirSync(cacheFolder(env))).toHaveLength(1);
  });

  it('clears away what an interrupted fetch left a day ago, and nothing younger', async () => {
    for (const name of ['.fetch-old', '.fetch-new']) write(join(cacheFolder(env), name, 'half'), '');
    const yesterday = Date.now() / 1000 - 90_000;
    utimesSync(join(cacheFolder(env), '.fetch-old'), yesterday, yesterday);
    respond = () => ({ status: 404 });
    await expect(fetchIt()).rejects.toThrow();
    expect(readdirSync(cacheFolder(env))).toEqual(['.fetch-new']);
  });

  it('leaves nothing behind when the connection breaks', async () => {
    makeLibTorch(join(root, 'pack/libtorch'));
    const body = zip(join(root, 'pack'), 'libtorch');
    respond = () => ({ body: body.subarray(0, 200), length: body.length });
    await expect(fetchIt()).rejects.toMatchObject({ code: 'LIBTORCH_UNAVAILABLE' });
    expect(cacheIsEmpty()).toBe(true);
  });

  it('leaves nothing behind when the archive is not one, or lacks the library', async () => {
    respond = () => ({ body: Buffer.from('<html>sign in to the hotel network</html>') });
    await expect(fetchIt()).rejects.toMatchObject({ code: 'LIBTORCH_UNAVAILABLE' });
    write(join(root, 'pack/libtorch/lib/x'), '');
    write(join(root, 'pack/libtorch/include/x'), '');
    write(join(root, 'pack/libtorch/share/x'), '');
    const body = zip(join(root, 'pack'), 'libtorch');
    respond = () => ({ body });
    await expect(fetchIt()).rejects.toThrow(/libtorch_cpu.so.*missing/);
    expect(cacheIsEmpty()).toBe(true);
  });

  it('falls through to pip on a missing archive or an unknown host, within seconds, and lists what it tried', async () => {
    respond = () => ({ status: 404 });
    await expect(fetchIt()).rejects.toThrow(/HTTP 404[\s\S]*pip: there is no python3[\s\S]*LIBTORCH/);
    url = 'http://no-such-host.invalid/libtorch.zip';
    const start = Date.now();
    await expect(fetchIt()).rejects.toThrow(/no-such-host\.invalid/);
    expect(Date.now() - start).toBeLessThan(6000);
  });

  it('takes a wheel from pip, the +cpu build first', async () => {
    respond = () => ({ status: 404 });
    makeLibTorch(join(root, 'pack/torch'));
    write(
      join(root, 'pack/torch-2.13.0.dist-info/RECORD'),
      record(join(root, 'pack'), ['torch/lib/libtorch_cpu.so', 'torch/include/ATen/ATen.h']),
    );
    writeFileSync(join(root, 'torch.whl'), zip(join(root, 'pack'), 'torch', 'torch-2.13.0.dist-info'));
    // A pip that knows the plain version only.
    symlinkSync(capture('sh', ['-c', 'command -v cp'])!, join(root, 'bin/cp'));
    program(
      'python3',
      `
for last; do :; done
case "$*" in
  *download*+cpu) echo "No matching distribution" >&2; exit 1;;
  *download*) while [ "$1" != --dest ]; do shift; done; cp ${join(root, 'torch.whl')} "$2/";;
  *) echo "Python 3.11.2";;
esac`,
    );
    const said: string[] = [];
    const torch = await fetchIt((text) => said.push(text));
    expect(torch.origin).toBe('pip download torch==2.13.0');
    expect(said.join('\n')).toMatch(/pip download torch==2\.13\.0\+cpu: python3 exited with 1/);
    expect(findLibTorch({ env })?.folder).toBe(torch.folder);
  });

  function record(folder: string, names: string[]): string {
    return names
      .map((name) => {
        const bytes: Buffer = readFileSync(join(folder, name));
        return `${name},sha256=${createHash('sha256').update(bytes).digest('base64url')},${bytes.length}\r\n`;
      })
      .join('');
  }

  it('finds a changed byte in an unpacked wheel', async () => {
    makeLibTorch(join(root, 'w/torch'));
    write(join(root, 'w/torch-2.13.0.dist-info/RECORD'), record(join(root, 'w'), ['torch/lib/libtorch_cpu.so']));
    await verifyWheel(join(root, 'w'), () => {});
    writeFileSync(join(root, 'w/torch/lib/libtorch_cpu.so'), 'Library');
    await expect(verifyWheel(join(root, 'w'), () => {})).rejects.toThrow(/wrong SHA-256/);
    writeFileSync(join(root, 'w/torch/lib/libtorch_cpu.so'), 'lib');
    await expect(verifyWheel(join(root, 'w'), () => {})).rejects.toThrow(/wrong size/);
  });
});
