import { describe, expect, test } from 'vitest';
import { type MethodName, type MethodOptions, methodNames, methodSettings } from '../../src/bandit/methods.js';
import type { BanditSetting } from '../../src/bandit/preferences.js';
import { banditCsv, banditReport, historyCsv } from '../../src/bandit/report.js';
import { runSeed, runSeeds, type SeedJob } from '../../src/bandit/run.js';

const setting = { features: 'flipped', responses: 'even', data: 'imbalanced' } as const;
const methods = methodNames.map((name) => ({ name, settings: methodSettings(name, { iterations: 20 }) }));
const jobs: SeedJob[] = [4, 2, 7].map((seed) => ({
  setting,
  seed,
  methods: methods.map(({ settings }) => settings),
  historyPoints: 2,
}));

test('results do not depend on the number of workers, nor on being in a worker', async () => {
  const here = jobs.map(runSeed);
  const seen: number[] = [];
  const [one, two] = await Promise.all([
    runSeeds(jobs, { workers: 1 }),
    runSeeds(jobs, { workers: 2, onDone: (done, total) => seen.push(done, total) }),
  ]);
  expect(one).toEqual(here);
  expect(two).toEqual(here);
  expect(seen).toEqual([1, 3, 2, 3, 3, 3]);
});

test('an error in a worker reaches the caller', async () => {
  const broken = { ...jobs[0], methods: [{ ...methods[0].settings, loss: { loss: 'dpo', beta: -1 } as const }] };
  await expect(runSeeds([jobs[0], broken], { workers: 1 })).rejects.toThrow(/beta must be a positive number/);
});

test('history starts at iteration 0 and ends with the result', () => {
  const [{ history, theta: _, ...end }] = runSeed(jobs[0]).runs;
  expect(history?.map((entry) => entry.iteration)).toEqual([0, 10, 20]);
  expect(history?.[2]).toEqual({ iteration: 20, ...end });
  expect(history?.[0].alpha).toEqual([0.2, 0.8].map((weight) => expect.closeTo(weight, 12)));
});

const options: { setting?: Partial<BanditSetting>; methods?: MethodOptions; of?: MethodName }[] = [
  { setting: { groups: 3 } },
  { setting: { dimension: 8 } },
  { setting: { deterministicRatio: 0.5 } },
  { setting: { referenceTheta: [1, 0, 0, 1] } },
  { methods: { ridge: 0.1 } },
  { methods: { adaptive: { theta: 0.1 } }, of: 'gr-dpo' },
  { methods: { adaptive: { alpha: 0.1 } } },
];

test.each(options)('the option $setting$methods changes the result', (option) => {
  for (const name of option.of ? [option.of] : (['gr-dpo', 'gr-ipo'] as const)) {
    const job = (changed: typeof option) =>
      runSeed({
        setting: { ...setting, ...changed.setting },
        seed: 3,
        methods: [methodSettings(name, { iterations: 20, ...changed.methods })],
      }).runs[0];
    const [plain, changed] = [job({}), job(option)];
    expect(changed.maxValidationLoss).toBeGreaterThan(0);
    expect(changed.maxRelativeRewardError).toBeLessThan(1);
    expect(changed.theta).not.toEqual(plain.theta);
  }
});

describe('report', () => {
  const results = jobs.map(runSeed);
  const report = banditReport(setting, methods, results);

  test('means and standard errors over seeds', () => {
    expect(report.seeds).toEqual([4, 2, 7]);
    expect(Object.keys(report.methods)).toEqual([...methodNames]);
    const [a, b, c] = results.map((result) => result.runs[2].maxValidationLoss);
    const mean = (a + b + c) / 3;
    const variance = ((a - mean) ** 2 + (b - mean) ** 2 + (c - mean) ** 2) / 2;
    const { max_validation_loss, alpha, theta } = report.methods['gr-dpo']!;
    expect(max_validation_loss.mean).toBeCloseTo(mean, 12);
    expect(max_validation_loss.standard_error).toBeCloseTo(Math.sqrt(variance / 3), 12);
    expect(alpha[0] + alpha[1]).toBeCloseTo(1, 12);
    expect(theta).toEqual(results.map((result) => result.runs[2].theta));
  });

  test('CSV has a line per seed and method, at full precision', () => {
    const lines = banditCsv(methodNames, results).trimEnd().split('\n');
    expect(lines).toHaveLength(1 + 3 * 6);
    const cells = lines[1 + 6 + 2].split(',');
    const column = (name: string) => cells[lines[0].split(',').indexOf(name)];
    expect([column('features'), column('method'), column('seed')]).toEqual(['flipped', 'gr-dpo', '2']);
    expect(Number(column('max_validation_loss'))).toBe(results[1].runs[2].maxValidationLoss);
    expect(Number(column('theta_3'))).toBe(results[1].runs[2].theta[3]);
  });

  test('the history has a line per seed, method and recorded iteration', () => {
    const lines = historyCsv(methodNames, results).trimEnd().split('\n');
    // 0, 10 and 20 of the methods that iterate, 0 and 1 of the two that do not.
    expect(lines).toHaveLength(1 + 3 * (4 * 3 + 2 * 2));
    expect(lines[0]).toMatch(
      /^method,seed,iteration,max_validation_loss,.*,validation_loss_0,validation_loss_1,alpha_0/,
    );
    const cells = lines[3].split(',');
    expect(cells.slice(0, 4)).toEqual(['dpo', '4', '20', String(results[0].runs[0].maxValidationLoss)]);
  });
});
