import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { basename, dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { machine } from '../../src/files/owner.js';
import { cacheFolder } from '../../src/install/cache.js';
import { cudaTools, requireWorking, wantsCuda } from '../../src/install/cuda.js';
import {
  archiveFolder,
  findLibTorch,
  inspectLibTorch,
  isSupported,
  MANIFEST,
  readCached,
  wheelFolder,
} from '../../src/install/libtorch.js';
import { archiveUrl, downloadLibTorch } from '../../src/install/libtorch-download.js';
import { capture } from '../../src/install/tools.js';
import { temporaryFolder } from '../temporary-folder.js';

/** A resolver sees folders, an environment and programs; all three are made up here. */
let root: string;
let env: NodeJS.ProcessEnv;

beforeEach(() => {
  root = temporaryFolder();
  // A PATH of our own: no nvcc, no python, unless a test adds one.
  mkdirSync(join(root, 'bin'));
  env = { PATH: join(root, 'bin'), GROUP_ROBUST_CACHE: join(root, 'cache'), CUDA_HOME: join(root, 'no-cuda') };
});

function write(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}

interface Made {
  version?: string;
  /** Of CUDA; undefined for a CPU build. */
  cuda?: string;
  oldAbi?: boolean;
}

function makeLibTorch(folder: string, { version = '2.13.0', cuda, oldAbi = false }: Made = {}): string {
  write(join(folder, 'lib/libtorch_cpu.so'), 'library');
  if (cuda) {
    write(join(folder, 'lib/libtorch_cuda.so'), 'library');
    write(join(folder, 'version.py'), `__version__ = '${version}'\ncuda: Optional[str] = '${cuda}'\nhip = None\n`);
  }
  write(join(folder, 'include/ATen/ATen.h'), '');
  write(
    join(folder, 'share/cmake/Torch/TorchConfig.cmake'),
    oldAbi ? 'set(TORCH_CXX_FLAGS "-D_GLIBCXX_USE_CXX11_ABI=0")' : '',
  );
  write(join(folder, 'share/cmake/Torch/TorchConfigVersion.cmake'), `set(PACKAGE_VERSION "${version}")`);
  return folder;
}

function makeCached(variant: string, made: Made = {}): string {
  const folder = makeLibTorch(archiveFolder(variant, env), made);
  write(join(folder, MANIFEST), JSON.stringify({ version: '2.13.0', source: 'test', sizes: { 'libtorch_cpu.so': 7 } }));
  return folder;
}

/** What stands in the metadata of PyPI's torch 2.13.0 for Linux, and a word of each other kind. */
const METADATA = `Metadata-Version: 2.1
Name: torch
Requires-Dist: filelock
Requires-Dist: cuda-toolkit[cublas,cudart,cupti]==13.0.3; platform_system == "Linux"
Requires-Dist: cuda-bindings<14,>=13.0.3; platform_system == "Linux" and python_version < "3.15"
Requires-Dist: nvidia-cudnn-cu13==9.20.0.48; platform_system == "Linux"
Requires-Dist: triton==3.7.1; platform_system == "Linux" and python_version < "3.15"
`;

function program(name: string, body: string): void {
  const path = join(root, 'bin', name);
  writeFileSync(path, `#!/bin/sh\n${body}\n`);
  chmodSync(path, 0o755);
}

const pythonWithTorch = (folder: string) =>
  program('python3', `case "$1" in --version) echo "Python 3.11.2";; -c) echo "${folder}";; esac`);
const nvcc = (version: string) => program('nvcc', `echo "Cuda compilation tools, release ${version}, V${version}.88"`);
/** A loader that finds a library only where its file is: libtorch_cpu needs libcudart, libtorch_cuda libcudnn too. */
function loader(): void {
  const line = (name: string) =>
    `[ -e "$lib/${name}" ] && echo "	${name} => $lib/${name} (0x00007f0000000000)" || echo "	${name} => not found"`;
  program(
    'ldd',
    `lib="\${1%/torch/lib/*}/nvidia/cu13/lib"
echo "	linux-vdso.so.1 (0x00007ffd00000000)"
${line('libcudart.so.13')}
case "$1" in *cuda.so) ${line('libcudnn.so.9')}; echo "	libcuda.so.1 => not found";; esac
true`,
  );
}

describe.skipIf(process.platform !== 'linux')('finding LibTorch', () => {
  it('reads version, CUDA and ABI of a folder', () => {
    expect(inspectLibTorch(makeLibTorch(join(root, 'a')))).toMatchObject({
      version: '2.13.0',
      cuda: undefined,
      cxx11Abi: true,
    });
    expect(inspectLibTorch(makeLibTorch(join(root, 'b'), { cuda: '13.0', oldAbi: true }))).toMatchObject({
      cuda: '13.0',
      cxx11Abi: false,
    });
    const archive = makeLibTorch(join(root, 'c'), { cuda: '0.0' });
    rmSync(join(archive, 'version.py'));
    expect(inspectLibTorch(archive).cuda).toBe('unknown');
    write(join(archive, 'build-version'), '2.13.0+cu130\n');
    expect(inspectLibTorch(archive).cuda).toBe('13.0');
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
    expect(() => findLibTorch({ env })).toThrow(/is not a LibTorch folder/);
    env.LIBTORCH = makeLibTorch(join(root, 'old'), { version: '2.4.0' });
    expect(() => findLibTorch({ env })).toThrow(/2\.4\.0 is not supported[\s\S]*2\.11 to 2\.14/);
  });

  it("passes over Python's torch of another version, and says so", () => {
    pythonWithTorch(makeLibTorch(join(root, 'torch'), { version: '2.9.1' }));
    const said: string[] = [];
    expect(findLibTorch({ env, log: (text) => said.push(text) })).toBeUndefined();
    expect(said.join()).toMatch(/2\.9\.1 is not supported[\s\S]*2\.11 to 2\.14/);
  });

  it('takes a CUDA build for the CPU, without nvcc', () => {
    pythonWithTorch(makeLibTorch(join(root, 'torch'), { cuda: '13.0' }));
    expect(findLibTorch({ env })).toMatchObject({ cuda: '13.0', origin: "Python's torch" });
    env.LIBTORCH = join(root, 'torch');
    expect(findLibTorch({ env })).toMatchObject({ cuda: '13.0', origin: 'LIBTORCH' });
  });

  it('takes only a CUDA build for CUDA, and says why others are passed over', () => {
    const cpu = makeCached('cpu');
    const said: string[] = [];
    const find = () => findLibTorch({ env, cuda: true, log: (text) => said.push(text) })?.folder;
    expect(find()).toBeUndefined();
    expect(said.join()).toMatch(/is built for the CPU only, and one for CUDA is wanted/);
    const cuda = makeCached('cu130', { cuda: '13.0' });
    expect(find()).toBe(cuda);
    env.LIBTORCH = cpu;
    expect(find).toThrow(/is built for the CPU only[\s\S]*GROUP_ROBUST_CUDA=0/);
  });

  it('does not take a torch whose own libraries would not load, and says what to install', () => {
    loader();
    const site = join(root, 'site');
    pythonWithTorch(makeLibTorch(join(site, 'torch'), { cuda: '13.0' }));
    const said: string[] = [];
    const find = (cuda: boolean) => findLibTorch({ env, cuda, log: (text) => said.push(text) });
    expect(find(false)).toBeUndefined();
    expect(said.join()).toMatch(/need libcudart\.so\.13, which is not here/);
    write(join(site, 'torch-2.13.0.dist-info/METADATA'), METADATA);
    env.LIBTORCH = join(site, 'torch');
    expect(() => find(false)).toThrow(/pip install 'cuda-toolkit\[cudart,cupti\]==13\.0\.3'\s*$/);
    write(join(site, 'nvidia/cu13/lib/libcudart.so.13'), '');
    expect(find(false)).toMatchObject({ folder: join(site, 'torch') });
    expect(() => find(true)).toThrow(
      /need libcudnn\.so\.9,[\s\S]*'cuda-toolkit\[cublas,cudart,cupti\]==13\.0\.3' 'nvidia-cudnn-cu13==9\.20\.0\.48'/,
    );
    write(join(site, 'nvidia/cu13/lib/libcudnn.so.9'), '');
    expect(find(true)).toMatchObject({ folder: join(site, 'torch') });
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
  const fetchIt = (log: (text: string) => void = () => {}, cuda = false) =>
    downloadLibTorch({ env, cuda, log, archive: url });
  const cacheIsEmpty = () => !existsSync(cacheFolder(env)) || readdirSync(cacheFolder(env)).length === 0;

  it('installs an archive, which the next search finds in the cache', async () => {
    makeLibTorch(join(root, 'pack/libtorch'));
    const body = zip(join(root, 'pack'), 'libtorch');
    respond = () => ({ body });
    const torch = await fetchIt();
    expect(torch).toMatchObject({ version: '2.13.0', folder: archiveFolder('cpu', env) });
    expect(findLibTorch({ env })).toMatchObject({ origin: 'cache', folder: torch.folder });
    expect(readdirSync(cacheFolder(env))).toHaveLength(1);
  });

  it('clears away what killed fetches have left, and nothing of others', async () => {
    const { pid } = spawnSync('true');
    const killed = `.fetch-${pid}.${machine()}-aBc123`;
    const others = [
      `.fetch-${process.pid}.${machine()}-aBc123`,
      `.fetch-${pid}.0123456789abcdef-aBc123`,
      '.git',
      '.ssh',
    ];
    for (const name of [killed, ...others]) write(join(cacheFolder(env), name, 'half'), '');
    const old = Date.now() / 1000 - 900_000;
    for (const name of others) utimesSync(join(cacheFolder(env), name), old, old);
    respond = () => ({ status: 404 });
    await expect(fetchIt()).rejects.toThrow();
    expect(readdirSync(cacheFolder(env)).sort()).toEqual(others.sort());
  });

  it('fetches an archive once, also where its libraries would not load', async () => {
    makeLibTorch(join(root, 'pack/libtorch'));
    const body = zip(join(root, 'pack'), 'libtorch');
    let fetched = 0;
    respond = () => {
      fetched++;
      return { body };
    };
    program('ldd', 'echo "	libgomp.so.1 => not found"');
    for (let i = 0; i < 2; i++) await expect(fetchIt()).rejects.toThrow(/its libraries need libgomp\.so\.1/);
    expect(fetched).toBe(1);
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
    await expect(fetchIt()).rejects.toThrow(/HTTP 404[\s\S]*there is no python3 on PATH[\s\S]*LIBTORCH/);
    url = 'http://no-such-host.invalid/libtorch.zip';
    const start = Date.now();
    await expect(fetchIt()).rejects.toThrow(/no-such-host\.invalid/);
    expect(Date.now() - start).toBeLessThan(6000);
  });

  /**
   * An index with the torch wheel and its parts, as pip installs them with --target; every call is noted. It takes the options
   * that pip 20 has, and does not merge into a folder that is there.
   */
  function pip({ python = 'Python 3.11.2', broken = '' } = {}): () => string[] {
    const site = join(root, 'index');
    makeLibTorch(join(site, 'torch'), { cuda: '13.0' });
    write(join(site, 'torch/nn/functional.py'), 'not needed');
    write(join(site, 'torch-2.13.0.dist-info/METADATA'), METADATA);
    write(join(root, 'parts/nvidia/cu13/lib/libcudart.so.13'), 'x');
    write(join(root, 'all/nvidia/cu13/lib/libcudart.so.13'), 'x');
    write(join(root, 'all/nvidia/cu13/lib/libcudnn.so.9'), 'x');
    write(join(root, 'all/nvidia/cu13/include/cudnn.h'), 'x');
    write(join(root, 'toolkit/nvidia/cu13/lib/libcudart.so.13'), 'x');
    write(
      join(root, 'toolkit/nvidia/cu13/bin/nvcc'),
      '#!/bin/sh\necho "Cuda compilation tools, release 13.0, V13.0.88"\n',
    );
    chmodSync(join(root, 'toolkit/nvidia/cu13/bin/nvcc'), 0o755);
    symlinkSync(capture('sh', ['-c', 'command -v cp'])!, join(root, 'bin/cp'));
    const calls = join(root, 'pip-calls');
    writeFileSync(calls, '');
    program(
      'python3',
      `
all="$*"
case "$all" in
  --version) echo "${python}"; exit;;
  "-m pip --version") echo "pip 23.0"; exit;;
  *"pip install"*) ;;
  *) exit;;
esac
echo "$all" >> ${calls}
for word; do case "$word" in
  --target|--no-user|--no-compile|--only-binary=:all:|--disable-pip-version-check|--no-warn-script-location) ;;
  --no-deps|--python-version|--ignore-requires-python) ;;
  --*) echo "no such option: $word" >&2; exit 2;;
esac; done
case "$TMPDIR" in ${cacheFolder(env)}/.fetch-*) ;; *) echo "unpacks into $TMPDIR" >&2; exit 1;; esac
case "$all" in *"${broken || 'nothing is broken'}"*) echo "ERROR: no matching distribution" >&2; exit 1;; esac
while [ "$1" != --target ]; do shift; done
[ ! -e "$2" ] || { echo "WARNING: Target directory already exists" >&2; exit 1; }
case "$all" in
  *nvcc*) from=toolkit;;
  *cudnn*) from=all;;
  *cuda-toolkit*) from=parts;;
  *) from=index;;
esac
cp -r ${root}/$from "$2"`,
    );
    return () => readFileSync(calls, 'utf8').trim().split('\n').filter(Boolean);
  }
  const requirementsOf = (call: string) => call.split(' ').filter((word) => /^(torch|cuda-toolkit|nvidia-)/.test(word));

  it('takes the torch wheel from pip and the two small packages that it needs, each in one fetch', async () => {
    respond = () => ({ status: 404 });
    loader();
    const calls = pip();
    const torch = await fetchIt();
    expect(torch).toMatchObject({
      origin: 'pip install torch==2.13.0',
      folder: wheelFolder(env),
      version: '2.13.0',
      cuda: '13.0',
    });
    expect(calls().map(requirementsOf)).toEqual([['torch==2.13.0'], ['cuda-toolkit[cudart,cupti]==13.0.3']]);
    expect(calls()[0]).toContain('--no-deps');
    expect(calls()[0]).not.toContain('--python-version');
    expect(existsSync(join(torch.folder, 'nn'))).toBe(false);
    expect(findLibTorch({ env })).toMatchObject({ folder: torch.folder, origin: 'cache' });
    expect(readdirSync(cacheFolder(env))).toEqual([basename(dirname(torch.folder))]);
  });

  it('completes a wheel that is there already, and fetches nothing twice', async () => {
    respond = () => ({ status: 404 });
    loader();
    const calls = pip();
    await fetchIt();
    rmSync(join(dirname(wheelFolder(env)), 'nvidia'), { recursive: true });
    expect(findLibTorch({ env })).toBeUndefined();
    await fetchIt();
    await fetchIt(undefined, true);
    expect(calls().slice(2).map(requirementsOf)).toEqual([
      ['cuda-toolkit[cudart,cupti]==13.0.3'],
      ['cuda-toolkit[cublas,cudart,cupti]==13.0.3', 'nvidia-cudnn-cu13==9.20.0.48'],
    ]);
    expect(findLibTorch({ env, cuda: true })?.folder).toBe(wheelFolder(env));
    expect(existsSync(join(dirname(wheelFolder(env)), 'nvidia/cu13/include'))).toBe(false);
  });

  it('says what pip lacks, and leaves what it has brought for the next time', async () => {
    respond = () => ({ status: 404 });
    loader();
    const calls = pip({ broken: 'cuda-toolkit' });
    await expect(fetchIt()).rejects.toThrow(/pip install torch==2\.13\.0: python3 exited with 1/);
    await expect(fetchIt()).rejects.toThrow();
    expect(calls().map(requirementsOf)).toEqual([
      ['torch==2.13.0'],
      ['cuda-toolkit[cudart,cupti]==13.0.3'],
      ['cuda-toolkit[cudart,cupti]==13.0.3'],
    ]);
    expect(readdirSync(cacheFolder(env))).toHaveLength(1);
  });

  it.each(['Python 3.9.18', 'Python 3.15.0'])('takes wheels of another Python for %s', async (python) => {
    respond = () => ({ status: 404 });
    const calls = pip({ python });
    await fetchIt();
    expect(calls()[0]).toContain('--python-version 3.12 --ignore-requires-python');
  });

  describe('nvcc', () => {
    const torchOf = (cuda: string) => inspectLibTorch(makeLibTorch(join(root, `site-${cuda}/torch`), { cuda }));
    const said: string[] = [];
    const find = (cuda: string) => cudaTools(torchOf(cuda), (text) => said.push(text), env);

    /** Where the loader finds it for a LibTorch of that CUDA. */
    const runtimeOf = (cuda: string) => join(root, `site-${cuda}/nvidia/cu13/lib/libcudart.so.13`);
    beforeEach(() => {
      loader();
      for (const cuda of ['12.8', '13.0', 'unknown']) write(runtimeOf(cuda), '');
    });

    it('is fetched by pip into the cache, with the names that nvcc and CMake look for', async () => {
      const calls = pip();
      write(join(root, 'site-13.0/torch-2.13.0.dist-info/METADATA'), METADATA);
      const { nvcc, runtime } = await find('13.0');
      const toolkit = join(cacheFolder(env), `cuda-toolkit-13.0.3-${process.platform}-${process.arch}`, 'nvidia/cu13');
      expect(nvcc).toEqual({ command: join(toolkit, 'bin/nvcc'), version: '13.0' });
      expect(runtime).toBe(runtimeOf('13.0'));
      expect(existsSync(join(toolkit, 'lib64/libcudart.so'))).toBe(true);
      await find('13.0');
      expect(calls().map(requirementsOf)).toEqual([['cuda-toolkit[nvcc,cudart,crt,nvvm,cccl]==13.0.3']]);
    });

    it('is taken of any patch where the LibTorch has no metadata', async () => {
      const calls = pip();
      await find('13.0');
      expect(calls().map(requirementsOf)).toEqual([['cuda-toolkit[nvcc,cudart,crt,nvvm,cccl]==13.0.*']]);
    });

    it("is the system's where one is of the right major version, wherever that is", async () => {
      const calls = pip();
      nvcc('13.2');
      expect(await find('13.0')).toEqual({ nvcc: { command: 'nvcc', version: '13.2' }, runtime: runtimeOf('13.0') });
      nvcc('12.8');
      expect((await find('unknown')).nvcc.command).toBe('nvcc');
      mkdirSync(join(root, 'cuda/bin'), { recursive: true });
      env.CUDA_HOME = join(root, 'cuda');
      write(join(root, 'cuda/bin/nvcc'), '#!/bin/sh\necho "Cuda compilation tools, release 13.1, V13.1.1"\n');
      chmodSync(join(root, 'cuda/bin/nvcc'), 0o755);
      expect((await find('13.0')).nvcc).toEqual({ command: join(root, 'cuda/bin/nvcc'), version: '13.1' });
      expect(calls()).toEqual([]);
      env.CUDA_HOME = join(root, 'no-cuda');
      expect((await find('13.0')).nvcc.command).toMatch(/cuda-toolkit-13\.0/);
      expect(said.join()).toMatch(/passed over nvcc: CUDA 12\.8, and LibTorch is built for 13\.0/);
    });

    it('that does not work is heard, as CMake would call it', () => {
      program('nvcc', 'echo "unsupported GNU version! gcc 42" >&2; exit 1');
      const tried = () => requireWorking({ command: join(root, 'bin/nvcc'), version: '13.0' }, env);
      expect(tried).toThrow(/nvcc does not work here[\s\S]*unsupported GNU version! gcc 42[\s\S]*GROUP_ROBUST_CUDA=0/);
      program('nvcc', 'case "$*" in "-ccbin other -O1 -c"*) ;; *) exit 1;; esac');
      expect(tried).toThrow();
      Object.assign(env, { CUDAHOSTCXX: 'other', CUDAFLAGS: '-O1' });
      expect(tried).not.toThrow();
      rmSync(join(root, 'bin/nvcc'));
      expect(tried).toThrow(/ENOENT/);
    });

    it('says what to do where none can be had', async () => {
      await expect(find('12.8')).rejects.toThrow(/complete nvcc only from CUDA 13 on[\s\S]*install a CUDA 12 toolkit/);
      await expect(find('13.0')).rejects.toThrow(/there is no python3 on PATH[\s\S]*GROUP_ROBUST_CUDA=0/);
      pip({ broken: 'nvcc' });
      await expect(find('13.0')).rejects.toThrow(/exited with 1/);
      expect(existsSync(cacheFolder(env)) ? readdirSync(cacheFolder(env)) : []).toEqual([]);
    });
  });
});

describe.skipIf(process.platform !== 'linux')('whether to build for CUDA', () => {
  it('is what GROUP_ROBUST_CUDA says, else what the checkout was built for', () => {
    const wants = (value: string | undefined, cuda?: boolean) =>
      wantsCuda({ cuda }, { ...env, GROUP_ROBUST_CUDA: value });
    expect(wants('1', false)).toBe(true);
    expect(wants('0', true)).toBe(false);
    expect(wants(undefined, true)).toBe(true);
    expect(wants('', false)).toBe(false);
    expect(wants(undefined)).toBe(false);
    expect(() => wants('yes')).toThrow(/GROUP_ROBUST_CUDA.*must be 1 or 0, not "yes"/);
  });

  it('the first time, is so where LibTorch and nvcc for it are both here', () => {
    const wants = () => wantsCuda({}, env);
    nvcc('13.0');
    expect(wants()).toBe(false);
    env.LIBTORCH = makeLibTorch(join(root, 'cpu'));
    expect(wants()).toBe(false);
    env.LIBTORCH = makeLibTorch(join(root, 'cuda'), { cuda: '13.0' });
    expect(wants()).toBe(true);
    nvcc('12.8');
    expect(wants()).toBe(false);
    rmSync(join(root, 'bin/nvcc'));
    expect(wants()).toBe(false);
  });
});
