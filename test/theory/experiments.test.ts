import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import type { Row } from '../../experiments/convergence/program.js';
import { trainingProblem } from '../../src/bandit/preferences.js';
import { Random } from '../../src/numbers/random.js';
import { marginLoss } from '../../src/objective/losses.js';
import { convergenceConstants, stepSizes } from '../../src/theory/constants.js';
import { minimax } from '../../src/theory/minimax.js';
import { runByObjective } from '../../src/theory/objective-run.js';
import { temporaryFolder } from '../temporary-folder.js';
import { plainLosses } from './problems.js';

/** Each experiment with few short runs, which its expected numbers are not of; all in one process, which loads their modules once. */
const names = ['problems', 'iterates', 'orders', 'quantiles'] as const;
const folder = temporaryFolder();
const rows = new Map<string, Row[]>();

beforeAll(() => {
  const files = names.map((name) => resolve('experiments/convergence', `${name}.ts`));
  const runner = join(folder, 'runner.mts');
  writeFileSync(
    runner,
    `process.argv.splice(2, Infinity, '--horizons', '40,20', '--runs', '2', '--quiet', '--json');
     for (const file of ${JSON.stringify(files)}) await import(file);`,
  );
  const { stdout, stderr, status } = spawnSync(process.execPath, ['--import', 'tsx', runner], { encoding: 'utf8' });
  expect(status, stderr).toBe(0);
  expect(stderr.match(/the expected numbers are of other horizons or runs/g)).toHaveLength(names.length);
  for (const [n, line] of stdout.trim().split('\n').entries()) rows.set(names[n], JSON.parse(line).rows);
}, 240_000);

const of = (name: (typeof names)[number], labels: Record<string, string>) =>
  (rows.get(name) ?? []).filter((row) => Object.entries(labels).every(([key, value]) => row.labels[key] === value));

it('problems.ts varies ρ without changing anything else', () => {
  expect(rows.get('problems')).toHaveLength(14);
  const varied = of('problems', { varied: 'ρ' });
  expect(varied.map(({ labels }) => labels.value)).toEqual(['2', '3', '5', '9', '17']);
  const [{ values: first }] = varied;
  for (const { labels, values } of varied) {
    expect(values['minimax value']).toBeCloseTo(first['minimax value'] as number, 9);
    expect(values.bound).toBeCloseTo((first.bound as number) * Math.sqrt(Number(labels.value) / 2), 9);
    expect(values['mean error']).toBeLessThan(values['duality gap'] as number);
  }
});

it('iterates.ts has the errors of both iterates', () => {
  expect(rows.get('iterates')).toHaveLength(8);
  const problem = trainingProblem({ features: 'swapped', responses: 'uneven', data: 'imbalanced' }, 2021);
  const loss = { loss: 'ipo', beta: 0.1 } as const;
  const { value } = minimax(problem, marginLoss(loss), 10);
  const steps = stepSizes(convergenceConstants(problem, marginLoss(loss), 10, 1), 40);
  const above = (theta: Float64Array) =>
    Math.max(...plainLosses(problem, marginLoss(loss), theta).map((group) => group.value)) - value;
  const mean = { average: 0, last: 0 };
  for (let run = 0; run < 2; run++) {
    const random = Random.stream(2021, 'theory', 'saddle', 40, run);
    const settings = { loss, algorithm: 1, order: 'alternating', radius: 10, steps } as const;
    const { averageTheta, lastTheta } = runByObjective(problem, settings, 40, random);
    mean.average += above(averageTheta) / 2;
    mean.last += above(lastTheta) / 2;
  }
  const [{ values }] = of('iterates', { loss: 'ipo', order: 'alternating', T: '40' });
  expect(values.average).toBeCloseTo(mean.average, 8);
  expect(values.last).toBeCloseTo(mean.last, 8);
});

it('orders.ts has the differences of the two errors, larger for larger steps', () => {
  expect(rows.get('orders')).toHaveLength(8);
  for (const { values } of rows.get('orders') ?? []) {
    expect(values.difference).toBeCloseTo((values.alternating as number) - (values.simultaneous as number), 12);
    expect(values.low).toBeLessThanOrEqual(values.difference as number);
    expect(values.high).toBeGreaterThanOrEqual(values.difference as number);
  }
  const size = (steps: string) =>
    Math.abs(of('orders', { loss: 'dpo', steps, T: '40' })[0].values.difference as number);
  expect(size('× 10')).toBeGreaterThan(size('× 1'));
});

it('quantiles.ts has quantiles that grow with 1 − δ, below a bound that is the published one', () => {
  expect(rows.get('quantiles')).toHaveLength(20);
  for (const algorithm of ['1', 'every-group']) {
    const own = of('quantiles', { algorithm, samples: '40' });
    for (const [n, { values }] of own.entries()) {
      expect(values.quantile).toBeGreaterThanOrEqual((own[n - 1]?.values.quantile ?? 0) as number);
      expect(values.quantile).toBeLessThan(values.bound as number);
    }
    // With δ = 0.02 in place of 0.2: 8 + 2 ln 100 in place of 8 + 2 ln 10.
    const ratio = (own[4].values.bound as number) / (own[1].values.bound as number);
    expect(ratio).toBeCloseTo((8 + 2 * Math.log(100)) / (8 + 2 * Math.log(10)), 10);
  }
});
