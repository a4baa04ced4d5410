import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SafetensorsFile } from '../../src/policy/safetensors.js';
import { temporaryFolder } from '../temporary-folder.js';
import { writeIdPairs } from '../train/id-pairs.js';
import { type Ended, job, pythonWithTorch, type StartedProcess, startRanks, torchrun, twoHosts } from './processes.js';

/** The program on several processes of this machine, which meet on loopback. */

const folder = temporaryFolder();
const config = join(folder, 'run.json');
const pairs = (name: string, count: number) =>
  writeIdPairs(join(folder, name), count, (i, random) => ({ group: ['x', 'y', 'z'][i < 3 ? i : random.integer(2)] }));
const train = pairs('train.jsonl', 40);
const validation = pairs('validation.jsonl', 30);

let runs = 0;
/** Arguments of a training run in a folder of its own. */
function training(changes: Record<string, unknown> = {}) {
  const output = String(changes.output ?? join(folder, `run-${runs++}`));
  const settings = {
    model: 'random:tiny?layers=1',
    threads: 1,
    dtype: 'float64',
    output,
    'data.train': train,
    'data.validation': validation,
    'data.test': validation,
    'objective.loss': 'ipo',
    'objective.beta': 0.1,
    'objective.weights': 'mirror-ascent',
    'objective.step': 0.02,
    'lora.rank': 2,
    'optimizer.learningRate': 0.01,
    'batch.size': 8,
    'batch.micro': 3,
    steps: 50,
    evaluateEvery: 10,
    'checkpoint.best': true,
    'distributed.timeout': 60,
    ...changes,
  };
  const set = Object.entries(settings).flatMap(([key, value]) => ['--set', `${key}=${value}`]);
  return { output, args: ['train', config, ...set, '--quiet'] };
}

beforeAll(() => writeFileSync(config, '{}'));

function expectDone(ended: readonly Ended[]): void {
  for (const { status, stderr } of ended) expect(status, stderr).toBe(0);
  // Whatever there is to say, rank 0 says.
  for (const { stdout, stderr } of ended.slice(1)) expect(stdout + stderr).toBe('');
}

async function trained(size: number, changes: Record<string, unknown> = {}): Promise<string> {
  const { args, output } = training(changes);
  expectDone(await job(size, args));
  return output;
}

interface Line extends Record<string, unknown> {
  step: number;
}
const linesOf = (run: string): Line[] =>
  readFileSync(join(run, 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));

/** All values of an adapter, float32 as PEFT has them. */
function adapter(run: string, name = 'adapter'): Float32Array {
  const file = join(run, name, 'adapter_model.safetensors');
  using opened = new SafetensorsFile(file);
  return new Float32Array(Uint8Array.from(readFileSync(file).subarray(opened.dataStart)).buffer);
}

const largestDifference = (a: Float32Array, b: Float32Array) =>
  a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i])), 0);

/** Every file of a run but those that hold the time. */
function contents(run: string): Record<string, string> {
  const files = readdirSync(run, { recursive: true, encoding: 'utf8' }).filter(
    (name) => statSync(join(run, name)).isFile() && !/^(run\.json|config\.yaml|report\.html|events\..*)$/.test(name),
  );
  return Object.fromEntries(files.sort().map((name) => [name, readFileSync(join(run, name), 'latin1')]));
}

// Up to a dozen processes a test, where other work may have the machine.
describe('training', { timeout: 600_000 }, () => {
  it.each([
    ['float64', { 'optimizer.averageFrom': 20 }, 0.01, 1e-10],
    // Adam makes a whole step of a gradient that is mere rounding, so the rate counts.
    ['float32', {}, 1e-4, 1e-5],
  ])(
    'comes to the same on 1, 2 and 4 processes in %s with %j, and to the same bytes each time',
    async (dtype, more, rate, tolerance) => {
      const settings = { dtype, 'optimizer.learningRate': rate, ...more };
      const alone = await trained(1, settings);
      const two = await trained(2, settings);
      const four = await trained(4, settings);
      for (const run of [two, four]) {
        for (const name of ['adapter', 'adapter-best'])
          expect(largestDifference(adapter(run, name), adapter(alone, name))).toBeLessThan(tolerance);
        const lines = linesOf(run);
        expect(lines.length).toBe(51);
        linesOf(alone).forEach((line, i) => {
          expect(Object.keys(lines[i])).toEqual(Object.keys(line));
          for (const key of ['group/x/alpha', 'group/z/alpha', 'eval_worst/loss', 'loss'])
            if (typeof line[key] === 'number')
              expect(lines[i][key]).toBeCloseTo(line[key], dtype === 'float64' ? 9 : 3);
        });
      }
      // A single step is far more than that.
      const shorter = await trained(1, { ...settings, steps: 49 });
      expect(largestDifference(adapter(alone), adapter(shorter))).toBeGreaterThan(5 * tolerance);
      expect(contents(await trained(2, settings))).toEqual(contents(two));
    },
  );

  it('goes on with another number of processes', async () => {
    const settings = { evaluateEvery: 3, 'checkpoint.every': 3, 'optimizer.averageFrom': 2 };
    const alone = await trained(1, { steps: 9, ...settings });
    const output = await trained(2, { steps: 3, ...settings });
    const longer = training({ output, steps: 6, ...settings });
    const [first] = await job(4, [...longer.args, '--resume']);
    expect(first.status, first.stderr).toBe(0);
    expect(first.stdout).toContain('"processes":2');
    const longest = training({ output, steps: 9, ...settings });
    expect((await job(1, [...longest.args, '--resume']))[0].status).toBe(0);
    expect(largestDifference(adapter(output), adapter(alone))).toBeLessThan(1e-9);
    expect(linesOf(output).map(({ step }) => step)).toEqual(linesOf(alone).map(({ step }) => step));
  });
});

describe('scoring', () => {
  const model = ['--model', 'random:tiny', '--threads', '1', '--pairs', validation, '--quiet'];

  it('eval has the figures of one process, to the bit', async () => {
    const [alone] = await job(1, ['eval', ...model, '--batch', '2', '--json']);
    const team = await job(3, ['eval', ...model, '--batch', '2', '--json']);
    expectDone(team);
    expect(JSON.parse(team[0].stdout)).toEqual(JSON.parse(alone.stdout));
  });

  it('logprobs writes the lines of one process, to the bit', async () => {
    const alone = join(folder, 'alone.jsonl');
    const shared = join(folder, 'shared.jsonl');
    expectDone(await job(1, ['logprobs', ...model, '--batch', '4', '--out', alone]));
    expectDone(await job(2, ['logprobs', ...model, '--batch', '4', '--out', shared]));
    expect(readFileSync(shared, 'utf8')).toBe(readFileSync(alone, 'utf8'));
  });
});

describe('processes that do not fit together are refused by name', () => {
  const ended = (started: readonly StartedProcess[]) => Promise.all(started.map((one) => one.ended));

  it.each([
    ['settings', 'objective.beta', '0.2', 'field "objective.beta": is 0.2 on rank 1, and 0.1 on rank 0'],
    ['threads', 'threads', '2', 'field "threads": is 2 on rank 1, and 1 on rank 0'],
    ['data', 'data.train', validation, 'field "data.train": is "sha256:'],
  ])('%s', async (_, key, value, message) => {
    const { args, output } = training({ steps: 1 });
    const other = [...args, '--set', `${key}=${value}`];
    const both = await ended(await startRanks(2, (rank) => (rank === 1 ? other : args)));
    expect(both.map(({ status }) => status)).toEqual([2, 2]);
    expect(both[0].stderr).toContain(message);
    // What rank 0 has said already is not said again.
    expect(both[1].stderr).toBe('');
    expect(existsSync(output)).toBe(false);
  });

  it('the number of processes', async () => {
    const { args } = training();
    const both = await ended(
      await startRanks(
        2,
        () => args,
        (rank) => (rank === 1 ? { WORLD_SIZE: '3' } : {}),
      ),
    );
    expect(both.map(({ status }) => status)).toEqual([2, 2]);
    expect(both[0].stderr).toContain('field "WORLD_SIZE": is 3 on rank 1, and 2 on rank 0');
    expect(both[1].stderr).toContain('rank 1: error: field "WORLD_SIZE": is 2 on rank 0, and 3 on rank 1');
  });

  it('a configuration that one of them cannot read', async () => {
    const { args } = training();
    const both = await ended(await startRanks(2, (rank) => (rank === 1 ? [...args, '--set', 'steps=none'] : args)));
    expect(both.map(({ status }) => status)).toEqual([1, 2]);
    expect(both[1].stderr).toMatch(/^rank 1: error: .*steps/);
    expect(both[0].stderr).toMatch(/^error: rank 1 has stopped: .*steps/);
  });

  it('a port in use, a master that is not there, a process that does not come', async () => {
    const { args } = training({ 'distributed.timeout': 3 });
    const server = createServer();
    await new Promise<void>((done) => server.listen(0, '0.0.0.0', done));
    const port = String((server.address() as { port: number }).port);
    const [first] = await startRanks(
      1,
      () => args,
      () => ({ WORLD_SIZE: '2', MASTER_PORT: port }),
    );
    const taken = await first.ended;
    server.close();
    expect(taken.stderr).toContain(`field "MASTER_PORT": ${port} is in use on this machine`);
    expect(taken.status).toBe(2);

    const [second] = await startRanks(
      1,
      () => args,
      () => ({ RANK: '1', WORLD_SIZE: '2' }),
    );
    const astray = await second.ended;
    expect(astray.stderr).toMatch(
      /^rank 1: error: field "MASTER_ADDR": rank 0, or its launcher, cannot be reached at 127/,
    );
    expect(astray.stderr).toContain('within 3 seconds');
    expect(astray.status).toBe(2);

    const [third] = await startRanks(
      1,
      () => args,
      () => ({ WORLD_SIZE: '3' }),
    );
    const waiting = await third.ended;
    expect(waiting.stderr).toContain('rank 1, 2 of 3 processes have not come within 3 seconds');
    expect(waiting.status).toBe(1);
  });

  it('an interface that is not there', async () => {
    const { args } = training();
    const both = await ended(
      await startRanks(
        2,
        () => args,
        () => ({ GLOO_SOCKET_IFNAME: 'none7' }),
      ),
    );
    expect(both[0].stderr).toContain('field "GLOO_SOCKET_IFNAME": none7 cannot be used');
    expect(both[0].status).toBe(2);
  });
});

/** Waits until a run has logged this step. */
async function atStep(run: string, step: number): Promise<void> {
  const log = join(run, 'metrics.jsonl');
  while (!existsSync(log) || !readFileSync(log, 'utf8').includes(`{"step":${step},`)) await sleep(20);
}

/** That nothing else is said, as by c10d: each line is an error, or goes on with one. */
function expectOnlyErrors(stderr: string): void {
  for (const line of stderr.trimEnd().split('\n')) expect(line).toMatch(/^((rank \d+: )?error: | {2}(fix|then): )/);
}

describe('a process that is lost', () => {
  const endless = () => training({ steps: 1_000_000, evaluateEvery: 1_000_000, 'checkpoint.every': 5 });

  it('ends the others, which name it, and the run can go on', async () => {
    const { args, output } = endless();
    const started = await startRanks(3, () => args);
    await atStep(output, 7);
    started[1].child.kill('SIGKILL');
    const [first, , third] = await Promise.all(started.map(({ ended }) => ended));
    expect(first.stderr).toContain('rank 1 of 3 processes is lost');
    expect(third.stderr).toContain('rank 2: error: rank 1 of 3 processes is lost');
    expect([first.status, third.status]).toEqual([1, 1]);
    for (const { stderr } of [first, third]) expectOnlyErrors(stderr);
    const again = await startRanks(2, () => [...args, '--resume']);
    await atStep(output, 40);
    again[0].child.kill('SIGTERM');
    const [resumed] = await Promise.all(again.map(({ ended }) => ended));
    expect(resumed.status, resumed.stderr).toBe(143);
    expect(linesOf(output).map(({ step }) => step)).toEqual([...linesOf(output).keys()]);
  });

  it('is named by its rank where it hangs, after the timeout', async () => {
    const { args, output } = training({ steps: 1_000_000, evaluateEvery: 1_000_000, 'distributed.timeout': 5 });
    const started = await startRanks(2, () => args);
    await atStep(output, 3);
    started[1].child.kill('SIGSTOP');
    const first = await started[0].ended;
    started[1].child.kill('SIGKILL');
    expect(first.stderr).toContain('rank 1 of 2 processes is lost (');
    expect(first.status).toBe(1);
  });

  it('takes its own error to the others', async () => {
    const { args, output } = endless();
    const started = await startRanks(2, () => args);
    await atStep(output, 3);
    rmSync(join(output, '.lock'), { recursive: true });
    const [first, second] = await Promise.all(started.map(({ ended }) => ended));
    expect(first.stderr).toContain('has been moved or removed');
    expect(second.stderr).toMatch(/rank 1: error: rank 0 has stopped: .*has been moved or removed/);
    expect([first.status, second.status]).toEqual([1, 1]);
  });
});

/** How docs/many-machines.md starts the program, by each of the files that it names. */
const page = readFileSync('docs/many-machines.md', 'utf8');
const launched = [...new Set([...page.matchAll(/([^\s[]*group-robust(?:\.js)?),? train/g)].map(([, file]) => file))];

/** Files of these names below the folder, as a checkout and npm have them. */
beforeAll(() => {
  mkdirSync(join(folder, 'node_modules/.bin'), { recursive: true });
  symlinkSync(resolve('bin'), join(folder, 'bin'));
  symlinkSync(resolve('bin/group-robust.js'), join(folder, 'node_modules/.bin/group-robust'));
});

it('the page starts the program by its file in every recipe', () => {
  expect(page).not.toMatch(/npx,? group-robust,? train/);
  expect(launched.sort()).toEqual(['bin/group-robust.js', 'node_modules/.bin/group-robust']);
});

it.each([0, 1])('SIGTERM to rank %i, as the page starts it, saves once and ends all', async (rank) => {
  const { args, output } = training({ steps: 1_000_000, evaluateEvery: 1_000_000, 'checkpoint.best': false });
  // The wish must come to the program itself, by whatever file it was started.
  const started = await startRanks(
    2,
    () => args,
    () => ({}),
    (one) => [join(folder, launched[one])],
    [],
  );
  await atStep(output, 3);
  started[rank].child.kill('SIGTERM');
  const [first, second] = await Promise.all(started.map(({ ended }) => ended));
  expect([first.status, second.status]).toEqual([143, 143]);
  expect(first.stderr).toContain('stopped by SIGTERM after step');
  expect(second.stderr).toBe('');
  const [checkpoint, ...more] = readdirSync(join(output, 'checkpoints'));
  expect(more).toEqual([]);
  expect(Number(checkpoint.slice('step-'.length))).toBe(linesOf(output).at(-1)?.step);
});

const network = twoHosts();
afterAll(() => network?.remove());
describe.skipIf(network === undefined)(
  'on hosts with addresses of their own (needs the right to make network namespaces)',
  () => {
    it('trains, and a cut cable ends both after the timeout, each naming the other', async () => {
      const { hosts, cut } = network!;
      const { args, output } = training({ steps: 1_000_000, evaluateEvery: 1_000_000, 'distributed.timeout': 8 });
      const started = await startRanks(
        2,
        () => args,
        () => ({ MASTER_ADDR: hosts[0].address }),
        (rank) => hosts[rank].run,
      );
      await atStep(output, 3);
      cut();
      const [first, second] = await Promise.all(started.map(({ ended }) => ended));
      expect(first.stderr).toContain('rank 1 of 2 processes is lost');
      expect(second.stderr).toContain('rank 1: error: rank 0 of 2 processes is lost');
      expect([first.status, second.status]).toEqual([1, 1]);
    });
  },
);

const python = pythonWithTorch();
describe.skipIf(python === undefined)('under torchrun (needs a Python with torch, which PYTHON names)', () => {
  it('trains, and a job that loses a process goes on by itself to the same bytes', async () => {
    const settings = { steps: 400, evaluateEvery: 100, 'checkpoint.every': 10 };
    const straight = training(settings);
    const { status, stderr } = await (await torchrun(python!, 2, straight.args)).ended;
    expect(status, stderr).toBe(0);
    const { args, output } = training(settings);
    const started = await torchrun(python!, 2, [...args, '--resume'], { restarts: 3 });
    await atStep(output, 25);
    const workers = execFileSync('pgrep', ['-P', String(started.child.pid)], { encoding: 'utf8' })
      .trim()
      .split('\n');
    process.kill(Number(workers.at(-1)), 'SIGKILL');
    const ended = await started.ended;
    expect(ended.status, ended.stderr).toBe(0);
    expect(contents(output)).toEqual(contents(straight.output));
    const { resumed } = JSON.parse(readFileSync(join(output, 'run.json'), 'utf8'));
    expect(resumed).toHaveLength(1);
  });
});
