import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { methodSettings } from '../../src/bandit/methods.js';
import { validationProblem } from '../../src/bandit/preferences.js';
import { runSeed } from '../../src/bandit/run.js';
import { confidenceInterval, pairedDifference } from '../../src/numbers/statistics.js';
import { banditCells } from '../../src/sweep/bandit.js';
import { loadSweep } from '../../src/sweep/config.js';
import { groupRobust } from '../cli/run.js';
import { runCommand } from '../commands.js';
import { temporaryFolder } from '../temporary-folder.js';

const folder = temporaryFolder();
const at = (...path: string[]) => join(folder, ...path);
function writeSweep(name: string, text: string): string {
  const file = at(`${name}.yaml`);
  writeFileSync(file, `output: ${at(name)}\n${text}`);
  return file;
}

describe('a sweep of the bandit', () => {
  const steps = [0.001, 0.05];
  const seeds = [1, 2, 3];
  const file = writeSweep(
    'bandit',
    `bandit: { features: swapped, iterations: 50 }
seeds: 1-3
methods:
  - { name: ipo, set: { method: ipo } }
  - { name: gr-ipo, set: { method: gr-ipo }, grid: { alphaStep: [${steps}] } }
`,
  );

  it('lists commands that leave what it leaves, skips what is done, and chooses and compares as single runs say', () => {
    const listed = groupRobust(['sweep', file, '--list']).stdout.trim().split('\n');
    expect(listed).toHaveLength(9);
    expect(runCommand(listed[0], '.')).toBe('');
    const { json, stderr, status } = groupRobust(['sweep', file, '--jobs', '2', '--json']);
    expect(status, stderr).toBe(0);
    expect(stderr).toContain('1 of 9 runs are done already');
    const setting = { features: 'swapped', responses: 'uneven', data: 'imbalanced' } as const;
    const runs = new Map(
      [undefined, ...steps].map((alphaStep) => [
        alphaStep,
        seeds.map((seed) => {
          const name = alphaStep === undefined ? 'ipo' : 'gr-ipo';
          return runSeed({ setting, seed, methods: [methodSettings(name, { iterations: 50, alphaStep })] }).runs[0];
        }),
      ]),
    );
    const mean = (step: number) => runs.get(step)!.reduce((sum, run) => sum + run.maxValidationLoss, 0) / 3;
    const best = mean(steps[0]) <= mean(steps[1]) ? steps[0] : steps[1];
    expect(json.chosen.map(({ setting }: { setting: object }) => setting)).toEqual([{}, { alphaStep: best }]);
    expect(json.chosen[1].validation.worst.mean).toBeCloseTo(mean(best), 12);
    const errors = (step: number | undefined) =>
      new Map(runs.get(step)!.map((run, i) => [seeds[i], run.maxRelativeRewardError]));
    const difference = pairedDifference(errors(best), errors(undefined))!;
    const found = json.comparison.differences[0].measured['relative reward error'];
    expect(found.mean).toBeCloseTo(difference.mean, 12);
    expect(found.interval[0]).toBeCloseTo(confidenceInterval(difference, 3)![0], 10);
    expect(found.interval[1]).toBeCloseTo(confidenceInterval(difference, 3)![1], 10);
    for (const name of ['report.html', 'report.md', 'report.tex', 'runs.csv', 'comparison.csv'])
      expect(existsSync(at('bandit', name)), name).toBe(true);
    expect(existsSync(at('bandit/figures/sensitivity-gr-ipo-alphaStep.svg'))).toBe(true);
    expect(groupRobust(['sweep', file, '--collect']).status).toBe(0);
    expect(groupRobust(['sweep', file, '--list']).stdout).toBe('');
  });

  it('chooses by the accuracy on validation pairs where losses have other units', () => {
    const methods = 'methods: [{ name: gr-dpo, set: { method: gr-dpo, iterations: 5 }, grid: { beta: [0.5, 2] } }]';
    const byLoss = writeSweep('beta', `bandit: {}\nseeds: 4\n${methods}\n`);
    expect(groupRobust(['sweep', byLoss]).stderr).toContain('changes the unit of the loss');
    const { json, status } = groupRobust([
      'sweep',
      writeSweep('beta', `bandit: {}\nseeds: 4\nselect: worst/accuracy\n${methods}\n`),
      '--json',
    ]);
    expect(status).toBe(0);
    const accuracies = [0.5, 2].map((beta) => {
      const job = { features: 'swapped', responses: 'uneven', data: 'imbalanced' } as const;
      const { theta } = runSeed({ setting: job, seed: 4, methods: [methodSettings('gr-dpo', { iterations: 5, beta })] })
        .runs[0];
      const shares = validationProblem(job, 4).groups.map(({ count, differences }) => {
        const right = Array.from(
          { length: count },
          (_, i) => theta.reduce((sum, t, j) => sum + t * differences[4 * i + j], 0) > 0,
        );
        return right.filter(Boolean).length / count;
      });
      return Math.min(...shares);
    });
    expect(json.chosen[0].setting.beta).toBe(accuracies[1] > accuracies[0] ? 2 : 0.5);
    expect(json.chosen[0].validation.worst.mean).toBeCloseTo(Math.max(...accuracies), 12);
    // One seed tells nothing of chance.
    expect(json.comparison.methods[0].measured['relative reward error'].interval).toBeNull();
  });

  it('refuses a folder of other options', () => {
    const text = (chi: number) => `bandit: { method: gr-ipo, chi: ${chi} }\nseeds: 1\nmethods: [{ name: a }]\n`;
    expect(groupRobust(['sweep', writeSweep('changed', text(0.5)), '--quiet']).status).toBe(0);
    const { status, stderr } = groupRobust(['sweep', writeSweep('changed', text(0.6))]);
    expect(status).toBe(2);
    expect(stderr).toMatch(/cells\/a\/seed-1\/results\.json: was made with other options than the sweep has now/);
  });

  it.each([
    ['bandit: {}\nseeds: 1\nmethods: [{ name: a }]', /method a, field "method": is missing/],
    [
      'bandit: {}\nseeds: 1\nmethods: [{ name: a, set: { method: ippo } }]',
      /field "method": must be one of dpo, is-dpo/,
    ],
    ['bandit: { alphastep: 1, method: ipo }\nseeds: 1\nmethods: [{ name: a }]', /alphastep/],
    [
      'bandit: { method: ipo }\nseeds: 1\nmethods: [{ name: a, grid: { chi: [0, 1] } }]',
      /method a, field "chi": has no effect on ipo/,
    ],
    ['bandit: { method: dpo }\nseeds: 1\nmethods: [{ name: a, set: { batch: 301 } }]', /batch.*\[1, 300\]/],
    ['bandit: { method: gr-dpo, dimension: 3 }\nseeds: 1\nmethods: [{ name: a }]', /dimension must be 2, 4, 6/],
    [
      'bandit: { method: dpo }\ncluster: x\nseeds: 1\nmethods: [{ name: a }]',
      /field "cluster": does nothing with bandit/,
    ],
    ['bandit: { method: dpo }\nbase: x.yaml\nseeds: 1\nmethods: [{ name: a }]', /give either base.* or bandit/],
    ['seeds: 1\nmethods: [{ name: a }]', /give either base.* or bandit/],
    [
      'bandit: { method: gr-ipo, chi: 0.5 }\nseeds: 1\nmethods: [{ name: a, set: { weighting: { weights: best-response } } }]',
      /field "chi": does nothing with weighting/,
    ],
    [
      'bandit: { method: gr-ipo }\nseeds: 1\nmethods: [{ name: a, set: { weighting: { weights: erm } } }]',
      /weighting.*do not move/,
    ],
    [
      'bandit: { method: gr-ipo, adaptiveAlpha: 1 }\nseeds: 1\nmethods: [{ name: a, set: { weighting: { weights: best-response } } }]',
      /method a, field "adaptiveAlpha".*no effect on best-response/,
    ],
    [
      'bandit: { method: dpo, thetaStep: 1, adaptiveTheta: 1 }\nseeds: 1\nmethods: [{ name: a }]',
      /method a, field "thetaStep": does nothing with adaptiveTheta/,
    ],
    [
      'bandit: { method: ipo, alphaStep: 0.2 }\nseeds: 1\nmethods: [{ name: a }]',
      /field "bandit\.alphaStep": has no effect on any method of the sweep/,
    ],
    [
      'bandit: { chi: 0.2 }\nseeds: 1\nmethods: [{ name: a, set: { method: ipo } }, { name: b, set: { method: gr-ipo, chi: 0.5 } }]',
      /field "bandit\.chi": has no effect on any method of the sweep/,
    ],
    [
      `bandit: { responses: uneven, data: imbalanced }
seeds: 0-2
methods: [{ name: ipo, set: { method: ipo, features: swapped } }, { name: is-ipo, set: { method: is-ipo }, grid: { features: [swapped, flipped] } }]`,
      /method is-ipo, field "features": is "flipped", but "swapped" in method ipo: all runs must be judged on the same\n {2}fix: give it one value, or/,
    ],
    [
      'bandit: { method: ipo }\nseeds: 0\nmethods: [{ name: a, grid: { data: [balanced, imbalanced] } }]',
      /method a, field "data": is "imbalanced", but "balanced" in another setting of it/,
    ],
    ...['responses: even', 'groups: 4', 'dimension: 6', 'deterministicRatio: 0.7', 'referenceTheta: [1, 1, 1, 1]'].map(
      (setting): [string, RegExp] => [
        `bandit: { method: ipo }\nseeds: 0\nmethods: [{ name: a, set: { ${setting} } }, { name: b }]`,
        new RegExp(`method b, field "${setting.split(':')[0]}": is .*, but .* in method a`),
      ],
    ),
  ])('%s is refused', (text, message) => {
    expect(() => banditCells(loadSweep(writeSweep('refused', `${text}\n`)))).toThrow(message);
  });

  it('has options that all methods share, though not all of them read them', () => {
    const text =
      'bandit: { alphaStep: 0.2, data: balanced }\nseeds: 1\nmethods: [{ name: a, set: { method: ipo } }, { name: b, set: { method: gr-ipo } }]\n';
    const cells = banditCells(loadSweep(writeSweep('shared', text)));
    expect(cells.map(({ problem }) => problem.data)).toEqual(['balanced', 'balanced']);
    expect(cells[1].settings.weights).toMatchObject({ step: 0.2 });
  });

  it('has grids of weightings', () => {
    const weightings = ['{ weights: best-response }', '{ weights: best-response, iterate: average }'];
    const text = `bandit: { method: gr-ipo }\nseeds: 1\nmethods: [{ name: a, grid: { weighting: [${weightings}] } }]\n`;
    const cells = banditCells(loadSweep(writeSweep('grid', text)));
    expect(cells.map(({ settings: { weights } }) => weights)).toEqual([
      { weights: 'best-response' },
      { weights: 'best-response', iterate: 'average' },
    ]);
    expect(new Set(cells.map(({ folder: own }) => own)).size).toBe(2);
  });

  it('compares weightings, and lists each as a command that takes it', () => {
    const text = `bandit: { features: swapped, iterations: 20, method: gr-ipo, average: true }
seeds: 1
methods:
  - { name: ascent }
  - { name: response, set: { weighting: { weights: best-response, iterate: average } } }
`;
    const file = writeSweep('weightings', text);
    const [ascent, response] = banditCells(loadSweep(file));
    expect(ascent.settings).toMatchObject({ average: true, weights: { weights: 'mirror-ascent' } });
    expect(response.settings.weights).toEqual({ weights: 'best-response', iterate: 'average' });
    const listed = groupRobust(['sweep', file, '--list']).stdout.trim().split('\n');
    expect(runCommand(listed[1], '.')).toBe('');
    expect(groupRobust(['sweep', file, '--list']).stdout.trim().split('\n')).toEqual([listed[0]]);
  });
});
