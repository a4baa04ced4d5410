import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { figuresNumbered } from '../../src/bandit/paper-figures.js';
import { reproducePaper } from '../../src/reproduce/paper.js';
import { expectSoundPage } from '../report/page.js';
import { temporaryFolder } from '../temporary-folder.js';

const folder = temporaryFolder();

/** The same experiments, cut short. */
const figures = figuresNumbered(2, 6, 7).map((figure) => ({
  ...figure,
  arms: figure.arms.map((arm) => ({
    ...arm,
    settings: { ...arm.settings, iterations: Math.min(arm.settings.iterations, 30) },
  })),
}));

function filesOf(root: string): string[] {
  return readdirSync(root, { recursive: true, encoding: 'utf8' })
    .filter((name) => statSync(join(root, name)).isFile())
    .sort();
}

test('figures, numbers and one page, the same to the bit whatever the number of workers', async () => {
  const outs = [1, 2].map((workers) => join(folder, String(workers)));
  const lines: string[] = [];
  for (const [i, out] of outs.entries())
    await reproducePaper([2021, 2022, 2023], out, (text) => lines.push(text), { figures, workers: i + 1 });

  const [one, two] = outs;
  const files = filesOf(one);
  expect(files).toEqual(filesOf(two));
  expect(files.filter((name) => name.startsWith('figure-02/'))).toEqual(
    [
      ...[
        'alpha-dpo',
        'alpha-ipo',
        'reward-error-dpo',
        'reward-error-ipo',
        'worse-group-loss-dpo',
        'worse-group-loss-ipo',
      ],
      ...['final-alpha', 'final-reward-error', 'final-worse-group-loss-dpo', 'final-worse-group-loss-ipo'],
    ]
      .map((name) => `figure-02/${name}.svg`)
      .concat(['comparison', 'final', 'history'].map((name) => `figure-02/${name}.csv`))
      .sort(),
  );
  expect(files.filter((name) => /^figure-06.*mean-loss/.test(name))).toHaveLength(2);
  const read = (out: string, name: string) => readFileSync(join(out, name), 'utf8');
  for (const name of files.filter((file) => /svg$|csv$/.test(file))) expect(read(one, name)).toBe(read(two, name));

  const results = JSON.parse(read(one, 'results.json'));
  expect(results.figures.map(({ figure }: { figure: number }) => figure)).toEqual([2, 6, 7]);
  expect(results.figures[2].methods['gr-dpo'].theta).toHaveLength(3);
  expect(Object.keys(results.figures[1].methods)).toEqual([
    'χ = 0',
    'χ = 0.2',
    'χ = 0.4',
    'χ = 0.6',
    'χ = 0.8',
    'χ = 1',
  ]);
  // Thirty iterations of DPO are not ten thousand, and must be seen to fail.
  expect(results.checks[0]).toMatchObject({ outcome: 'fails' });

  // 3 seeds; methods that iterate have 31 entries, IPO and IS-IPO 2.
  expect(read(one, 'figure-02/history.csv').trimEnd().split('\n')).toHaveLength(1 + 3 * (4 * 31 + 2 * 2));
  expect(read(one, 'figure-02/comparison.csv')).toMatch(/^gr-dpo,alpha of group 0,0\.786,,/m);
  expect(read(one, 'figure-07/comparison.csv')).toMatch(/^dpo,max validation loss,,,[\d.]+,[\d.]+,,$/m);
  const html = read(one, 'report.html');
  expectSoundPage(html);
  expect(html).toContain('Expected values are an independent re-measurement');
  expect(read(one, 'report.md')).toContain('| Scenario | Method |');
  expect(lines.join('\n')).toMatch(/Figure 7: same features, \(i\) even, imbalanced/);
});
