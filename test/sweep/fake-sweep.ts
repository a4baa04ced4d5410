import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Cell, cellsOf } from '../../src/sweep/cells.js';
import { loadSweep, type SweepConfig } from '../../src/sweep/config.js';
import { printConfig } from '../../src/train/config-file.js';

/** What a pretended run made of the test pairs: [line, group, weight, loss, right]. */
export type FakePair = readonly [line: number, group: string, weight: number, loss: number, right: 0 | 1];

export interface FakeRun {
  /** Validation losses of the groups a and b at the last evaluation. */
  validation: readonly [number, number];
  pairs: readonly FakePair[];
  dataHash?: string;
  /** The best step was kept, and is this one: that of the first evaluation, where all rewards tie, or that of the last. */
  best?: 0 | 10;
}

/** Writes the file of a sweep, and what it is based on, into `folder`. */
export function writeSweep(folder: string, text: string, base = ''): string {
  mkdirSync(folder, { recursive: true });
  const pairs = (name: string) => join(folder, `${name}.jsonl`);
  writeFileSync(
    join(folder, 'base.yaml'),
    `model: random:tiny
output: unused
data: { train: ${pairs('train')}, validation: ${pairs('validation')}, test: ${pairs('test')} }
objective: { loss: ipo, beta: 0.1 }
epochs: 1
${base}`,
  );
  const file = join(folder, 'sweep.yaml');
  writeFileSync(file, `base: ${join(folder, 'base.yaml')}\noutput: ${join(folder, 'out')}\n${text}`);
  return file;
}

/** Leaves the folders that `group-robust train` would, of the runs of which `of` tells. */
export function pretendRuns(
  file: string,
  of: (cell: Cell) => FakeRun | undefined,
): { sweep: SweepConfig; cells: Cell[] } {
  const sweep = loadSweep(file);
  const cells = cellsOf(sweep);
  for (const cell of cells) {
    const run = of(cell);
    if (run) writeRun(cell, run);
  }
  return { sweep, cells };
}

function writeRun(
  { folder, config, seed, method }: Cell,
  { validation, pairs, dataHash = 'same', best }: FakeRun,
): void {
  mkdirSync(folder, { recursive: true });
  const write = (name: string, text: string) => writeFileSync(join(folder, name), text);
  write('config.yaml', printConfig(config));
  const groups = ['a', 'b'];
  const counts = Object.fromEntries(groups.map((name) => [name, { train: 8, validation: 4, test: 4 }]));
  write(
    'run.json',
    JSON.stringify({
      method,
      seed,
      dataHash,
      groups: counts,
      steps: 10,
      best: best === undefined ? undefined : { step: best },
    }),
  );
  const lines = [0, 10].map((step) => {
    // The first evaluation is not to be taken for the last.
    const losses = validation.map((loss) => (step === 0 ? 1 : loss));
    const accuracies = losses.map((loss) => (step === 0 ? 0 : 1 / (1 + loss)));
    return {
      step,
      epoch: step / 10,
      loss: 1,
      'eval_worst/loss': Math.max(...losses),
      'eval_worst/accuracy': Math.min(...accuracies),
      ...Object.fromEntries(
        groups.flatMap((name, g) => [
          [`eval_group/${name}/loss`, losses[g]],
          [`eval_group/${name}/rewards/accuracies`, accuracies[g]],
          [`eval_group/${name}/rewards/margins`, step],
        ]),
      ),
    };
  });
  write('metrics.jsonl', lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
  const linesOfPairs = (changed: object) =>
    pairs
      .map(([line, group, weight, loss, right]) => ({
        line,
        group,
        weight,
        loss,
        'rewards/accuracies': right,
        'logps/accuracies': right,
        ...changed,
      }))
      .map((line) => `${JSON.stringify(line)}\n`)
      .join('');
  const tested = groups.filter((name) => pairs.some(([, group]) => group === name));
  const means = Object.fromEntries(
    tested.map((name) => {
      const own = pairs.filter(([, group]) => group === name);
      const total = own.reduce((sum, [, , weight]) => sum + weight, 0);
      const over = (of: (pair: FakePair) => number) => own.reduce((sum, pair) => sum + pair[2] * of(pair), 0) / total;
      return [
        name,
        {
          count: own.length,
          loss: over(([, , , loss]) => loss),
          'rewards/accuracies': over(([, , , , right]) => right),
        },
      ];
    }),
  );
  if (best !== undefined) {
    const ties = { 'rewards/accuracies': 0, 'rewards/margins': 0 };
    const ofBest = Object.entries(means).map(([name, own]) => [name, best === 0 ? { ...own, ...ties } : own]);
    write('evaluation-best.json', JSON.stringify({ groups: Object.fromEntries(ofBest), mean: { loss: 1 } }));
    write('evaluation-best-pairs.jsonl', linesOfPairs(best === 0 ? ties : {}));
  }
  write('evaluation.json', JSON.stringify({ groups: means, mean: { loss: 1 } }));
  write('evaluation-pairs.jsonl', linesOfPairs({}));
  write('report.html', '');
}
