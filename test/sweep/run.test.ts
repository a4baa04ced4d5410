import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { groupRobust } from '../cli/run.js';
import { runCommand } from '../commands.js';
import { temporaryFolder } from '../temporary-folder.js';
import { writeIdPairs } from '../train/id-pairs.js';

/** Sweeps of the built program, of real runs of a tiny model. */

const folder = temporaryFolder();
const at = (...path: string[]) => join(folder, ...path);
const pairs = (name: string, count: number) => writeIdPairs(at(name), count, (i) => ({ group: ['x', 'y'][i % 2] }));
const data = `{ train: ${pairs('train.jsonl', 12)}, validation: ${pairs('validation.jsonl', 6)}, test: ${pairs('test.jsonl', 8)} }`;

function writeSweep(
  name: string,
  { steps = 3, threads = 'threads: 1', methods }: { steps?: number; threads?: string; methods: string },
): string {
  writeFileSync(
    at(`${name}-base.yaml`),
    `model: random:tiny?layers=1
output: unused
device: cpu
${threads}
data: ${data}
objective: { loss: ipo, beta: 0.5 }
lora: { rank: 2 }
optimizer: { learningRate: 0.01 }
batch: { size: 4 }
steps: ${steps}
checkpoint: { every: 1 }
`,
  );
  const file = at(`${name}.yaml`);
  writeFileSync(file, `base: ${at(`${name}-base.yaml`)}\noutput: ${at(name)}\nseeds: 0-1\nmethods:\n${methods}`);
  return file;
}

const methods = `  - name: ipo
  - name: gr-ipo
    set: { objective.weights: mirror-ascent }
    grid: { objective.step: [0.1, 0.2] }
`;

describe('group-robust sweep', () => {
  const file = writeSweep('whole', { methods });

  it('lists one command a run, makes the others, and reports all', () => {
    const listed = groupRobust(['sweep', file, '--list']).stdout.trim().split('\n');
    expect(listed).toHaveLength(6);
    expect(groupRobust(['sweep', file, '--collect']).stderr).toContain('0 of 6 runs are');
    expect(runCommand(listed[1], '.')).toBe('');
    const first = at('whole/cells/gr-ipo/objective.step=0.1/seed-0/evaluation.json');
    const before = statSync(first).mtimeMs;
    const { json, stderr, status } = groupRobust(['sweep', file, '--jobs', '2', '--json']);
    expect(status, stderr).toBe(0);
    expect(stderr).toContain('1 of 6 runs are done already');
    // Three steps each; one run was there before.
    expect(stderr).toContain('sweep, steps: 3/18 (16 %) 1 of 6 runs\n');
    expect(stderr).toMatch(/sweep, steps: 18\/18 \(100 %\) · .* · took .* s 6 of 6 runs\n/);
    expect(statSync(first).mtimeMs).toBe(before);
    expect(json).toMatchObject({ runs: 6, done: 6, failed: [], report: at('whole/report.html') });
    expect(json.chosen.map(({ method }: { method: string }) => method)).toEqual(['ipo', 'gr-ipo']);
    expect(groupRobust(['sweep', file, '--list']).stdout).toBe('');
    // What a sweep makes is what the command makes.
    const alone = listed[3].replaceAll(at('whole/cells'), at('alone'));
    expect(runCommand(alone, '.')).toBe('');
    const [made, same] = ['whole/cells', 'alone'].map((place) =>
      readFileSync(at(place, 'ipo/seed-1/evaluation.json'), 'utf8'),
    );
    expect(made).toBe(same);
  });

  it('has test figures that are those of evaluation.json, weights of pairs and all', () => {
    const { json, status } = groupRobust(['sweep', file, '--collect', '--json']);
    expect(status).toBe(0);
    for (const { name, measured } of json.comparison.methods) {
      const { runs } = json.chosen.find(({ method }: { method: string }) => method === name);
      const worst = runs.map((run: string) => JSON.parse(readFileSync(join(run, 'evaluation.json'), 'utf8')).worst);
      const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
      expect(measured['worst-group loss'].mean).toBeCloseTo(mean(worst.map(({ loss }: { loss: number }) => loss)), 9);
      expect(measured['worst-group reward accuracy'].mean).toBeCloseTo(
        mean(worst.map(({ accuracy }: { accuracy: number }) => accuracy)),
        9,
      );
    }
  });

  it('reports what is left though a run fails, tells why, and exits with 1', () => {
    const failing = writeSweep('failing', {
      methods: '  - name: ipo\n    grid: { data.maxLength: [512, 1] }\n',
    });
    const { status, stdout } = groupRobust(['sweep', failing]);
    expect(status).toBe(1);
    expect(stdout).toMatch(/failed: .*data\.maxLength=1\/seed-0: .*train\.jsonl:1/);
    expect(stdout).toContain('2 runs of 4 failed');
    expect(stdout).toContain('IPO, chosen by validation: data.maxLength 512');
    expect(existsSync(at('failing/report.html'))).toBe(true);
  });

  it('makes the same bytes whatever --jobs is, where nothing says how many threads there are', () => {
    const [one, two] = [1, 2].map((jobs) => {
      const name = `jobs-${jobs}`;
      const sweep = writeSweep(name, { threads: '', methods: '  - name: ipo\n' });
      expect(groupRobust(['sweep', sweep, '--list']).stdout.match(/ --set threads=1 /g)).toHaveLength(2);
      expect(groupRobust(['sweep', sweep, '--jobs', String(jobs)]).status).toBe(0);
      return [0, 1].map((seed) => {
        const run = (file: string) => readFileSync(at(name, `cells/ipo/seed-${seed}`, file));
        expect(JSON.parse(run('run.json').toString()).threads).toBe(1);
        return [run('evaluation.json'), run('adapter/adapter_model.safetensors')];
      });
    });
    expect(one).toEqual(two);
  });

  it('says where a run goes on with another number of threads, and that runs had different ones', () => {
    const again = writeSweep('whole', { threads: 'threads: 2', methods });
    const run = at('whole/cells/ipo/seed-0');
    // As if it had been killed after its last checkpoint.
    for (const name of ['report.html', 'adapter', 'evaluation.json'])
      rmSync(join(run, name), { recursive: true, force: true });
    const { status, stdout, stderr } = groupRobust(['sweep', again, '--quiet']);
    expect(status, stderr).toBe(0);
    expect(`${stdout}${stderr}`).toMatch(
      /seed-0: warning: the run began with .*"threads":1.* goes on with .*"threads":2/,
    );
    expect(`${stdout}${stderr}`).toContain('warning: runs were made with different numbers of threads (1, 2)');
  });

  it('looks for the column of clusters before the first run', () => {
    const mistyped = writeSweep('mistyped', { methods: '  - name: ipo\ncluster: questoin\n' });
    const { status, stderr } = groupRobust(['sweep', mistyped]);
    expect(status).toBe(2);
    expect(stderr).toMatch(/test\.jsonl.*field "questoin": there is no such column/s);
    expect(existsSync(at('mistyped'))).toBe(false);
  });

  it('refuses what does not go together', () => {
    for (const flags of [
      ['--list', '--jobs', '2'],
      ['--collect', '--jobs', '2'],
      ['--jobs', '0'],
      ['--list', '--collect'],
    ])
      expect(groupRobust(['sweep', file, ...flags]).status).toBe(2);
    const { status, stderr } = groupRobust(['sweep', at('none.yaml')]);
    expect([status, stderr]).toEqual([2, expect.stringContaining('none.yaml: no such file')]);
  });
});

describe('a sweep that is stopped', () => {
  const taken = (run: string) => {
    const log = join(run, 'metrics.jsonl');
    return existsSync(log) ? readFileSync(log, 'utf8').trim().split('\n').length : 0;
  };
  /** Starts one, and waits until a run of it has come further. */
  async function begun(file: string, run: string): Promise<ChildProcess> {
    const before = taken(run);
    const child = spawn(process.execPath, [resolve('dist/cli/main.js'), 'sweep', file, '--quiet'], { stdio: 'pipe' });
    while (taken(run) < before + 3 && child.exitCode === null) await wait(20);
    expect(child.exitCode).toBeNull();
    return child;
  }
  const ended = (child: ChildProcess) => new Promise<number | null>((done) => child.on('close', (code) => done(code)));
  const free = async (run: string) => {
    for (let i = 0; i < 500 && existsSync(join(run, '.lock')); i++) await wait(50);
    expect(existsSync(join(run, '.lock'))).toBe(false);
  };
  const evaluation = (name: string) => readFileSync(at(name, 'cells/ipo/seed-0/evaluation.json'), 'utf8');
  const onlyIpo = '  - name: ipo\n';
  const steps = 200;

  it('by SIGTERM saves its runs, and by SIGKILL leaves none behind; both go on where they were', async () => {
    const file = writeSweep('stopped', { steps, methods: onlyIpo });
    const run = at('stopped/cells/ipo/seed-0');
    const first = await begun(file, run);
    let said = '';
    first.stdout?.on('data', (text) => {
      said += text;
    });
    first.stderr?.on('data', (text) => {
      said += text;
    });
    first.kill('SIGTERM');
    expect(await ended(first)).toBe(143);
    expect(said).toContain('SIGTERM: the runs that go on finish their step and save');
    expect(said).toContain('run the same command to go on');
    await free(run);
    expect(taken(run)).toBeLessThan(steps);

    const second = await begun(file, run);
    second.kill('SIGKILL');
    await ended(second);
    await free(run);
    expect(taken(run)).toBeLessThan(steps);

    const { status, stderr } = groupRobust(['sweep', file]);
    expect(status).toBe(0);
    const { resumed } = JSON.parse(readFileSync(join(run, 'run.json'), 'utf8'));
    const before = resumed.at(-1).step;
    expect(stderr).toContain(
      `sweep, steps: ${before}/${2 * steps} (${Math.floor((100 * before) / (2 * steps))} %) 0 of 2`,
    );
    expect(stderr).toMatch(/sweep, steps: 400\/400 .* [12] of 2 runs\n/);
    const whole = writeSweep('undisturbed', { steps, methods: onlyIpo });
    expect(groupRobust(['sweep', whole, '--quiet']).status).toBe(0);
    expect(evaluation('stopped')).toBe(evaluation('undisturbed'));
  });
});
