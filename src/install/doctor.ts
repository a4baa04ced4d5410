import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { detectLibc } from '../native/libc.js';
import { addonCandidates, loaderAdvice } from '../native/load.js';
import type { NativeInfo } from '../native/types.js';
import { BUILD_COMMAND } from '../package.js';
import { cacheFolder } from './cache.js';
import { cachedNvcc, systemNvcc, wantsCuda } from './cuda.js';
import { missingForGpu } from './gpu.js';
import { findLibTorch, missingParts, type ResolvedLibTorch, SUPPORTED_TEXT } from './libtorch.js';
import { readStamp } from './stamp.js';
import {
  findCmake,
  findCompiler,
  findGpus,
  findMake,
  findNvccs,
  findPip,
  findPython,
  isAtLeast,
  type Tool,
} from './tools.js';

export interface Finding {
  name: string;
  /** False only where something required is missing. */
  ok: boolean;
  found: string;
  /** What to do; '' when there is nothing to do. */
  fix: string;
}

export interface Diagnosis {
  ok: boolean;
  checks: Finding[];
}

/** What the addon says about itself in a process of its own, which a crash while loading may take down. */
export function probeAddon(path: string): Promise<NativeInfo | { error: string }> {
  const script = 'process.stdout.write(JSON.stringify(require(process.argv[1]).nativeInfo()))';
  return new Promise((done) => {
    execFile(process.execPath, ['-e', script, path], { timeout: 60_000 }, (error, stdout, stderr) => {
      if (!error) return done(JSON.parse(stdout) as NativeInfo);
      const line = /^(?:\w*Error): (.*)$/m.exec(stderr)?.[1];
      done({ error: line ?? (error.signal ? `killed by ${error.signal}` : error.message) });
    });
  });
}

/** Which LibTorch it is, and which of its parts the dynamic loader finds. */
function describe(torch: ResolvedLibTorch, env: NodeJS.ProcessEnv): string {
  const missing = torch.cuda === undefined ? [] : missingParts(torch, true, env);
  const parts =
    torch.cuda === undefined
      ? 'CPU build'
      : `built with CUDA ${torch.cuda}, ${missing.length === 0 ? 'whole' : `for the CPU only: without ${missing.join(', ')}`}`;
  return `${torch.version}, ${parts}, C++11 ABI ${torch.cxx11Abi ? 'on' : 'off'}, ${torch.folder} (${torch.origin})`;
}

/** Checks everything that a build and a run need. Fetches nothing. */
export async function diagnose(env: NodeJS.ProcessEnv = process.env): Promise<Diagnosis> {
  const checks: Finding[] = [];
  const passedOver: string[] = [];
  const add = (name: string, ok: boolean, found: string, fix = '') => checks.push({ name, ok, found, fix });
  const tool = (name: string, found: Tool | undefined, fix: string) =>
    add(name, found !== undefined, found ? `${found.version} (${found.command})` : 'not found', found ? '' : fix);

  const libc = detectLibc();
  const glibc = libc !== 'musl';
  add(
    'platform',
    glibc,
    [`${process.platform}-${process.arch}`, libc].filter(Boolean).join(', '),
    glibc ? '' : 'LibTorch needs glibc: use Debian, Ubuntu or an image based on one',
  );
  const recent = isAtLeast(process.versions.node, '20.17');
  add('node', recent, process.version, recent ? '' : 'install Node 20.17 or later');
  tool('compiler', findCompiler(env), 'apt-get install g++ (or what your system calls it)');
  tool('cmake', findCmake(env), 'apt-get install cmake');
  tool('make', findMake(env), 'apt-get install make (or ninja-build)');

  const stamp = readStamp();
  const earlier = stamp.libtorch;
  let cuda = false;
  let torch: ResolvedLibTorch | undefined;
  let torchError = '';
  try {
    cuda = wantsCuda(stamp, env);
    torch = findLibTorch({ env, earlier, cuda, log: (text) => passedOver.push(text) });
  } catch (error) {
    torchError = (error as Error).message;
  }
  const python = findPython(env);
  const pip = python && findPip(python, env);
  add(
    'python',
    true,
    python ? `${python.version} (${python.command}), ${pip ? pip.version.split(' from ')[0] : 'no pip'}` : 'not found',
    pip || torch ? '' : 'only to fetch LibTorch by pip: apt-get install python3 python3-pip',
  );
  add(
    'libtorch',
    torch !== undefined,
    torch ? describe(torch, env) : torchError || [`none found (cache: ${cacheFolder(env)})`, ...passedOver].join('; '),
    torch ? '' : `${BUILD_COMMAND} fetches it; or set LIBTORCH to the folder of a LibTorch ${SUPPORTED_TEXT}`,
  );

  const addon = addonCandidates().find((path) => existsSync(path));
  const info = addon ? await probeAddon(addon) : { error: 'not built' };
  const loads = !('error' in info);
  const stale =
    torch && earlier && torch.folder !== earlier
      ? `built against ${earlier}; ${BUILD_COMMAND} takes the one above`
      : '';
  add(
    'addon',
    loads,
    loads
      ? `loads: LibTorch ${info.torchVersion}, C++11 ABI ${info.cxx11Abi ? 'on' : 'off'}, Node-API ${info.napiVersion} (${addon})`
      : info.error,
    loads ? stale : addon ? loaderAdvice(info.error) : BUILD_COMMAND,
  );

  if (loads) {
    const vectors = { 16: 'AVX-512', 8: 'AVX2', 4: 'vectors of four numbers' }[info.registers];
    // What other processors multiply is not asked for.
    if (process.arch === 'x64')
      add(
        'processor',
        true,
        info.bfloat16Products
          ? `${vectors}, multiplies bfloat16: dtype: bfloat16 is the faster choice without a GPU`
          : `${vectors}, does not multiply bfloat16: dtype: float32 is the faster choice without a GPU`,
      );
    add(
      'products',
      true,
      info.products === 'onednn'
        ? "large float32 ones by LibTorch's private entry to oneDNN"
        : "all by LibTorch's public operations: it has no entry to oneDNN that this version knows",
      info.products === 'onednn' ? '' : `a step is slower; a LibTorch ${SUPPORTED_TEXT} with oneDNN has the entry`,
    );
  }

  // A GPU is never required, and where there is no driver nobody wants one.
  const gpus = findGpus(env);
  const missing = gpus && missingForGpu({ info: loads ? info : undefined, gpus, cmake: findCmake(env) });
  const nvcc = torch?.cuda === undefined ? findNvccs(env)[0] : (systemNvcc(torch, env) ?? cachedNvcc(torch, env));
  const built = !loads
    ? addon
      ? 'addon does not load'
      : 'addon not built'
    : info.cudaBuilt
      ? `addon built with CUDA, ${info.cudaDevices} device(s)`
      : 'addon built for the CPU only';
  add(
    'cuda',
    true,
    [
      gpus ? `driver ${gpus.join('; ')}` : 'no driver',
      nvcc ? `nvcc ${nvcc.version} (${nvcc.command})` : 'no nvcc',
      built,
    ].join(', '),
    missing ? `for the GPU: ${missing.problem}; ${missing.fix}` : '',
  );
  add(
    'threads',
    true,
    loads ? `${info.threads} of ${availableParallelism()} cores` : `${availableParallelism()} cores`,
  );
  return { ok: checks.every((check) => check.ok), checks };
}
