import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type Diagnosis, diagnose, probeAddon } from '../../src/native/doctor.js';
import { PACKAGE_ROOT } from '../../src/native/libtorch.js';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'doctor-test-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

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
  const names = ['platform', 'node', 'compiler', 'cmake', 'make', 'python', 'libtorch', 'addon', 'cuda', 'threads'];
  expect(report.checks.map((check) => check.name)).toEqual(names);
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

it('never calls a missing GPU an error', async () => {
  const report = await diagnose({ ...process.env, PATH: root, CUDACXX: '', CUDA_HOME: root });
  expect(report.checks.find((check) => check.name === 'cuda')).toMatchObject({ ok: true, fix: '' });
});

it('survives an addon that crashes while loading, and passes on what the loader says', async () => {
  writeFileSync(join(root, 'crash.cjs'), 'process.abort()');
  expect(await probeAddon(join(root, 'crash.cjs'))).toEqual({ error: 'killed by SIGABRT' });
  writeFileSync(join(root, 'broken.node'), 'x'.repeat(100));
  expect(await probeAddon(join(root, 'broken.node'))).toEqual({ error: expect.stringMatching(/ELF|too short|valid/) });
});
