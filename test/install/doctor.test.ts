import { execFile } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { type Diagnosis, diagnose, probeAddon } from '../../src/install/doctor.js';
import { missingForGpu } from '../../src/install/gpu.js';
import { loadNative } from '../../src/native/load.js';
import { PACKAGE_ROOT } from '../../src/package.js';
import { temporaryFolder } from '../temporary-folder.js';

let root: string;
beforeEach(() => {
  root = temporaryFolder();
});

/** `group-robust doctor --json` from source. */
function doctor(env: NodeJS.ProcessEnv): Promise<{ code: number; report: Diagnosis }> {
  const args = ['--import', 'tsx', 'src/cli/main.ts', 'doctor', '--json'];
  return new Promise((done) => {
    execFile(process.execPath, args, { cwd: PACKAGE_ROOT, env }, (error, stdout) =>
      done({ code: error ? Number(error.code) : 0, report: JSON.parse(stdout) as Diagnosis }),
    );
  });
}

it('finds everything on the machine that built the addon, and exits 0', async () => {
  const { code, report } = await doctor(process.env);
  expect(report.checks.filter((check) => !check.ok)).toEqual([]);
  expect({ code, ok: report.ok }).toEqual({ code: 0, ok: true });
  const names = [
    'platform',
    'node',
    'compiler',
    'cmake',
    'make',
    'python',
    'libtorch',
    'addon',
    ...(process.arch === 'x64' ? ['processor'] : []),
    'products',
    'cuda',
  ];
  expect(report.checks.map((check) => check.name)).toEqual([...names, 'threads']);
  for (const check of report.checks) {
    expect(Object.keys(check).sort()).toEqual(['fix', 'found', 'name', 'ok']);
    expect(check.found).not.toBe('');
  }
});

it('names what is missing, says what to do, and exits 1', async () => {
  mkdirSync(join(root, 'bin'));
  const { code, report } = await doctor({ PATH: join(root, 'bin'), HOME: root, LIBTORCH: join(root, 'nothing') });
  expect({ code, ok: report.ok }).toEqual({ code: 1, ok: false });
  for (const name of ['compiler', 'cmake', 'make', 'libtorch']) {
    const check = report.checks.find((one) => one.name === name);
    expect(check).toMatchObject({ ok: false });
    expect(check?.fix).not.toBe('');
  }
});

it.runIf(process.arch === 'x64' && existsSync('/proc/cpuinfo'))(
  'says what the processor has, as the kernel lists it',
  async () => {
    const flags = /^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))![1].trim().split(/\s+/);
    const { checks } = await diagnose();
    const { found } = checks.find((check) => check.name === 'processor')!;
    expect(found.startsWith('AVX-512')).toBe(flags.includes('avx512vl'));
    expect(found.includes(', multiplies bfloat16')).toBe(flags.includes('avx512_bf16') || flags.includes('amx_bf16'));
  },
);

it('says what makes the large products, and what that costs where it is the slower way', async () => {
  const { checks } = await diagnose();
  const { found, fix } = checks.find((check) => check.name === 'products')!;
  const [way, advice] = {
    onednn: ["large float32 ones by LibTorch's private entry to oneDNN", /^$/],
    libtorch: [expect.stringMatching(/^all by LibTorch's public operations/), /a step is slower/],
  }[loadNative().nativeInfo().products] as [string, RegExp];
  expect(found).toEqual(way);
  expect(fix).toMatch(advice);
});

it('never calls a missing GPU an error', async () => {
  const report = await diagnose({ ...process.env, PATH: root, CUDACXX: '', CUDA_HOME: root });
  expect(report.checks.find((check) => check.name === 'cuda')).toMatchObject({ ok: true, fix: '' });
});

describe('a GPU', () => {
  const withDriver = async (driver: string, others: Record<string, string> = {}) => {
    const smi = join(root, 'nvidia-smi');
    writeFileSync(smi, `#!/bin/sh\necho "${driver}, NVIDIA H100 80GB HBM3"\n`);
    chmodSync(smi, 0o755);
    const env = { ...process.env, PATH: `${root}:${process.env.PATH}`, GROUP_ROBUST_CUDA: '0', ...others };
    return (await diagnose(env)).checks.find((check) => check.name === 'cuda');
  };

  it('that the addon was not built for is named, with what to do', async () => {
    const cuda = await withDriver('580.95.05');
    expect(cuda).toMatchObject({ ok: true, found: expect.stringMatching(/^driver 580\.95\.05, NVIDIA H100/) });
    // In a build for CUDA, which sees no card here, the advice is another.
    expect(cuda?.fix).toMatch(/GROUP_ROBUST_CUDA=1 npm run build|the addon sees no GPU/);
    // In the words with which a model on the GPU is refused.
    const info = loadNative().nativeInfo();
    const missing = missingForGpu({ info, gpus: ['580.95.05, NVIDIA H100 80GB HBM3'], cmake: undefined });
    expect(cuda?.fix).toContain(`for the GPU: ${missing?.problem}; `);
  });

  it('with a driver too old for the CUDA that would be fetched is told so', async () =>
    expect((await withDriver('550.54.14'))?.fix).toMatch(/a driver 580 or later/));

  it('shows the nvcc that a build would take', async () => {
    const home = join(root, 'cuda');
    mkdirSync(join(home, 'bin'), { recursive: true });
    writeFileSync(join(home, 'bin/nvcc'), '#!/bin/sh\necho "Cuda compilation tools, release 13.7, V13.7.1"\n');
    chmodSync(join(home, 'bin/nvcc'), 0o755);
    expect((await withDriver('580.1', { CUDA_HOME: home, CUDACXX: '' }))?.found).toContain('nvcc 13.7');
  });
});

it('tells of a CUDA build of LibTorch whether it serves for the CPU only', async () => {
  const { checks } = await diagnose();
  expect(checks.find((check) => check.name === 'libtorch')?.found).toMatch(
    /^2\.\d+\.\d+\S*, (CPU build|built with CUDA \d+\.\d+, (whole|for the CPU only: without lib\S+))/,
  );
});

it('survives an addon that crashes while loading, and passes on what the loader says', async () => {
  writeFileSync(join(root, 'crash.cjs'), 'process.abort()');
  expect(await probeAddon(join(root, 'crash.cjs'))).toEqual({ error: 'killed by SIGABRT' });
  writeFileSync(join(root, 'broken.node'), 'x'.repeat(100));
  expect(await probeAddon(join(root, 'broken.node'))).toEqual({ error: expect.stringMatching(/ELF|too short|valid/) });
});
