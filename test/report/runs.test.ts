import { appendFileSync, cpSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Command } from '@commander-js/extra-typings';
import { parse } from 'csv-parse/sync';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { registerReport } from '../../src/cli/report.js';
import { InputError } from '../../src/errors.js';
import { printYaml } from '../../src/files/yaml.js';
import type { LineChart } from '../../src/report/charts.js';
import { withClusters } from '../../src/report/clustered-run.js';
import { renderPage } from '../../src/report/html.js';
import { readTestScores } from '../../src/report/pair-scores.js';
import { differingSettings, readRun } from '../../src/report/runs.js';
import { runsCsv, runsPage } from '../../src/report/runs-page.js';
import { formatEstimate } from '../../src/terminal/format.js';
import { configKeys } from '../../src/train/config.js';
import { settingsOf } from '../../src/train/identity.js';
import { temporaryFolder } from '../temporary-folder.js';
import { finalScores, groupNames, writeFakeRuns } from './fake-runs.js';
import { expectSoundPage, tableOf } from './page.js';

let folders: string[];
beforeEach(() => {
  folders = writeFakeRuns(temporaryFolder());
});

const seeds = [0, 1, 2];
const escaped = (text: string) =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');

/** Mean ± s/√3 of three values, worked out here. */
function overSeeds(value: (seed: number) => number): string {
  const values = seeds.map(value);
  const mean = (values[0] + values[1] + values[2]) / 3;
  const variance = values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / 2;
  return formatEstimate({ mean, standard_error: Math.sqrt(variance / 3) });
}

const changeFile = (folder: string, name: string, change: (value: Record<string, unknown>) => void) => {
  const value = JSON.parse(readFileSync(join(folder, name), 'utf8'));
  change(value);
  writeFileSync(join(folder, name), JSON.stringify(value));
};

/** As a run with `checkpoint.best` leaves them: run.json names the step, and evaluation-best.json has its test scores. */
function keepBest(folder: string, step: number, losses: number[]): void {
  changeFile(folder, 'run.json', (run) => {
    run.best = { step, loss: 6, group: groupNames[2] };
  });
  const groups = groupNames.map((name, g) => [
    name,
    { count: 40 - 10 * g, loss: losses[g], 'rewards/accuracies': 0.5 },
  ]);
  const mean = { loss: (4 * losses[0] + 3 * losses[1] + 2 * losses[2]) / 9 };
  writeFileSync(join(folder, 'evaluation-best.json'), JSON.stringify({ groups: Object.fromEntries(groups), mean }));
}

/** As a run on a survey's pairs leaves it: similarities by group, of the policy and of its reference. */
function answerSurvey(folder: string, policy: number[], reference?: number[]): void {
  const opinions = (similarities: number[]) => ({
    groups: Object.fromEntries(
      groupNames.map((name, g) => [
        name,
        { questions: 9 - g, similarity: similarities[g], standard_error: 0.01, calibration_error: 0.3 - 0.1 * g },
      ]),
    ),
    mean: { similarity: 0.61 },
    group_mean: { similarity: similarities.reduce((sum, one) => sum + one) / 3 },
    worst: { group: groupNames[0], similarity: Math.min(...similarities) },
  });
  changeFile(folder, 'evaluation.json', (evaluation) => {
    evaluation.survey = {
      policy: opinions(policy),
      ...(reference && { reference: opinions(reference) }),
      uniform: opinions([0.5, 0.5, 0.5]),
    };
  });
}

describe('the page of several runs', () => {
  const read = async () => renderPage(runsPage(await Promise.all(folders.map(readRun))));

  it('is sound: bars for loss and accuracies, five curves, α, gradient norm, in stable order', async () => {
    const html = await read();
    expectSoundPage(html);
    expect(html.match(/<figure>/g)).toHaveLength(10);
    folders.reverse();
    expect((await read()).split('<details>')[0]).toBe(html.split('<details>')[0]);
  });

  it('carries a run that ended early on with its last value, as in the paper’s figures', async () => {
    const linesOf = (folder: string) => readFileSync(join(folder, 'metrics.jsonl'), 'utf8').trim().split('\n');
    const worst = (folder: string, step: number) => JSON.parse(linesOf(folder)[step])['eval_worst/loss'] as number;
    const [first, second, third] = folders;
    writeFileSync(join(second, 'metrics.jsonl'), `${linesOf(second).slice(0, 21).join('\n')}\n`);
    const [{ figures }] = runsPage(await Promise.all(folders.map(readRun))).sections;
    const chart = figures?.find(({ name }) => name === 'worst-group-loss')?.chart as LineChart;
    const { points } = chart.series.find(({ name }) => name === 'IPO')!;
    const mean = (worst(first, 30) + worst(second, 20) + worst(third, 30)) / 3;
    expect(points.at(-1)).toMatchObject({ x: 30 * 16, y: expect.closeTo(mean, 10) });
  });

  it('explains error bars and bands', async () => {
    const html = await read();
    expect(html).toContain('error bars: ± one standard error over seeds');
    expect(html).toContain('bands: ± one standard error over seeds');
  });

  it('has scores of every method with standard errors', async () => {
    const [, ...rows] = tableOf(await read(), 'Final test, mean ± standard error over seeds');
    (['ipo', 'gr-ipo'] as const).forEach((method, i) => {
      const losses = (seed: number) => finalScores(method, seed).losses;
      expect(rows[i]).toEqual([
        method.toUpperCase(),
        '3',
        overSeeds((seed) => losses(seed)[2]),
        // To as many decimals as the other method's.
        overSeeds((seed) => losses(seed)[2] - losses(seed)[0]).replace('6 ± 0', '6.000 ± 0'),
        overSeeds((seed) => (losses(seed)[0] + losses(seed)[1] + losses(seed)[2]) / 3),
        // 40, 30 and 20 test pairs.
        overSeeds((seed) => (4 * losses(seed)[0] + 3 * losses(seed)[1] + 2 * losses(seed)[2]) / 9),
        overSeeds((seed) => finalScores(method, seed).accuracies[2]),
        `${escaped(groupNames[2])} (3)`,
        '30',
        method === 'ipo' ? '–' : '0.01',
      ]);
    });
  });

  it('pairs methods by seed: the difference has a far smaller error than the means', async () => {
    const html = await read();
    const [, row] = tableOf(html, 'Paired differences over seeds, mean ± standard error');
    const difference = overSeeds((seed) => finalScores('gr-ipo', seed).losses[2] - finalScores('ipo', seed).losses[2]);
    expect(row.slice(0, 3)).toEqual(['GR-IPO\u00a0−\u00a0IPO', '3', difference]);
    expect(html).toContain(
      `<li><span class="holds">✓ holds</span> GR-IPO lowers the worst group’s test loss against IPO (paired difference ${difference} over 3 seeds; 95 % interval `,
    );
  });

  it('sets the best steps beside the last ones, where runs have kept them', async () => {
    for (const [seed, folder] of folders.slice(3, 5).entries()) keepBest(folder, 10 + 5 * seed, [6, 5, 6.5 + seed]);
    const html = await read();
    const [head, ...rows] = tableOf(html, 'Final test, mean ± standard error over seeds');
    expect(head.slice(-2)).toEqual(['Step', 'objective.step']);
    expect(rows.map(([title, , , , , , , , step]) => [title, step])).toEqual([
      ['IPO', '30'],
      ['GR-IPO', '30'],
      ['GR-IPO,\u00a0best\u00a0step', '10–15'],
    ]);
    // Worst losses 6.5 and 7.5, means over pairs (4 · 6 + 3 · 5 + 2 · 6.5) / 9 and 2/9 more.
    expect(rows[2].slice(1, 6)).toEqual(['2', '7.000 ± 0.500', '2.000 ± 0.500', '6.000 ± 0.167', '5.889 ± 0.111']);
    expect(html).toContain('smallest worst-group validation loss');
    expect(html).not.toContain('step\u00a0−');
    for (const [seed, folder] of folders.slice(0, 3).entries()) keepBest(folder, 5, [3, 5, 8 + seed]);
    const pairs = tableOf(await read(), 'Paired differences over seeds, mean ± standard error');
    // Seeds 0 and 1: 6.5 − 8 and 7.5 − 9.
    expect(pairs.at(-1)!.slice(0, 3)).toEqual([
      'GR-IPO,\u00a0best\u00a0step\u00a0−\u00a0IPO,\u00a0best\u00a0step',
      '2',
      '−1.500 ± 0',
    ]);
    expect(pairs).toHaveLength(3);
    const csv = parse(runsCsv(await Promise.all(folders.map(readRun))), { columns: true }) as Record<string, string>[];
    const best = csv.filter(({ policy }) => policy === 'best');
    expect(best).toHaveLength(5 * 3);
    const row = best.find(({ run, group }) => run === folders[4] && group === groupNames[2])!;
    expect(row).toMatchObject({ split: 'test', step: '15', loss: '7.5', count: '20' });
    expect(Number(row.alpha)).toBeCloseTo(1 / 3 + 0.005 * 15 * 1.2, 12);
    const final = csv.find(({ run, policy }) => run === folders[4] && policy === 'final')!;
    expect(final.step).toBe('30');
  });

  it('shows no accuracy of ties, and no worst group among equals, where step 0 is the best', async () => {
    keepBest(folders[3], 0, [0.7, 0.7, 0.7]);
    changeFile(folders[3], 'evaluation-best.json', ({ groups }) => {
      for (const group of Object.values(groups as Record<string, Record<string, number>>))
        Object.assign(group, { 'rewards/accuracies': 0, 'rewards/margins': 0 });
    });
    const html = await read();
    const best = () => tableOf(html, 'Final test, mean ± standard error over seeds').at(-1)!;
    expect(best().slice(0, 3)).toEqual(['GR-IPO,\u00a0best\u00a0step', '1', '0.700']);
    expect(best().slice(6, 9)).toEqual(['–', '–', '0']);
    expect(html).toContain('Where the best step is 0, no later evaluation had a smaller worst-group validation loss');
    expect(html).toContain('0: worst-group validation loss 6 (all groups alike)');
    const csv = parse(runsCsv([await readRun(folders[3])]), { columns: true }) as Record<string, string>[];
    const accuracies = csv.filter(({ policy }) => policy === 'best').map((row) => row['rewards/accuracies']);
    expect(accuracies).toEqual(['', '', '']);
    // Neither has the comparison of a sweep, which reads the pairs.
    const pair = { line: 1, group: 'a', loss: 0.7, 'rewards/accuracies': 0 };
    const accuracyOf = async (margin: number) => {
      const line = JSON.stringify({ ...pair, 'rewards/margins': margin });
      writeFileSync(join(folders[3], 'evaluation-best-pairs.jsonl'), `${line}\n`);
      return (await readTestScores(folders[3])).pairs[0]?.reward_accuracy;
    };
    expect([await accuracyOf(0), await accuracyOf(-0.1)]).toEqual([undefined, 0]);
    // All wrong is something else.
    changeFile(folders[3], 'evaluation-best.json', ({ groups }) => {
      for (const group of Object.values(groups as Record<string, Record<string, number>>))
        group['rewards/margins'] = -0.1;
    });
    expect(await read()).not.toContain('Where the best step is 0');
    expect((await readRun(folders[3])).best?.groups.get(groupNames[0])?.['rewards/accuracies']).toBe(0);
  });

  it('has no mean of accuracies, and no difference, where one of several seeds has none', async () => {
    const tie = (folder: string) =>
      changeFile(folder, 'evaluation-best.json', ({ groups }) => {
        for (const group of Object.values(groups as Record<string, Record<string, number>>))
          Object.assign(group, { 'rewards/accuracies': 0, 'rewards/margins': 0 });
      });
    for (const folder of folders) keepBest(folder, 10, [1, 2, 3]);
    const rows = async () => {
      const html = await read();
      const best = (caption: string) => tableOf(html, caption).filter(([title]) => title.includes('best'));
      return {
        scores: best('Final test, mean ± standard error over seeds').map((row) => row.slice(1, 7)),
        difference: best('Paired differences over seeds, mean ± standard error')[0].slice(1),
      };
    };
    const whole = await rows();
    expect(whole.scores.map(([seeds]) => seeds)).toEqual(['3', '3']);
    for (const cells of [...whole.scores, whole.difference]) expect(cells).not.toContain('–');
    tie(folders[4]);
    const { scores, difference } = await rows();
    expect(scores).toEqual([whole.scores[0], [...whole.scores[1].slice(0, -1), '–']]);
    expect(difference).toEqual([...whole.difference.slice(0, -1), '–']);
  });

  it('says where a pair counts in several groups', async () => {
    const overlapText = 'Groups overlap: a pair counts in each of its groups';
    // Of 3 · 80 memberships.
    for (const [train, said] of [
      [240, false],
      [239, true],
    ] as const) {
      changeFile(folders[0], 'run.json', (run) => {
        run.pairs = { train };
      });
      expect((await read()).includes(overlapText)).toBe(said);
    }
  });

  it('says whose policy is a mean of adapters, and what is not of it', async () => {
    expect(await read()).not.toContain('averageFrom');
    for (const folder of folders.slice(3))
      appendFileSync(join(folder, 'config.yaml'), 'optimizer: { averageFrom: 20 }\n');
    expect(await read()).toContain('The policy of GR-IPO is the mean of the adapters from step 20 on up to the step');
    const [ipo] = folders;
    appendFileSync(join(ipo, 'config.yaml'), 'optimizer: { averageFrom: 10 }\n');
    expect(runsPage([await readRun(ipo), await readRun(folders[3])]).sections[0]?.text).toEqual(
      expect.arrayContaining([
        expect.stringMatching(/^The policy of IPO is .* step 10 on/),
        expect.stringMatching(/^The policy of GR-IPO is .* step 20 on/),
      ]),
    );
  });

  it('has no best steps where the scores are not of the test split', async () => {
    for (const folder of folders) keepBest(folder, 10, [1, 1, 1]);
    rmSync(join(folders[0], 'evaluation.json'));
    expect(await read()).not.toContain(',\u00a0best\u00a0step');
  });

  it('takes the mean over pairs from the run, whose pairs may have weights', async () => {
    folders = folders.slice(0, 1);
    changeFile(folders[0], 'evaluation.json', (evaluation) => {
      evaluation.mean = { loss: 4.25 };
    });
    expect(tableOf(await read(), 'Final test')[1][5]).toBe('4.25');
  });

  it('has loss and accuracy of every group', async () => {
    const html = await read();
    for (const [caption, key] of [
      ['Loss of each group, mean ± standard error over seeds', 'losses'],
      ['Reward accuracy of each group, mean ± standard error over seeds', 'accuracies'],
    ] as const)
      expect(tableOf(html, caption)).toEqual([
        ['Group', 'Test pairs', 'IPO', 'GR-IPO'],
        ...groupNames.map((name, g) => [
          escaped(name),
          String(40 - 10 * g),
          ...(['ipo', 'gr-ipo'] as const).map((method) =>
            overSeeds((seed) => finalScores(method, seed)[key][g]).replace(
              /^(0\.\d+) ± 0$/,
              (_, mean) => `${mean.padEnd(5, '0')} ± 0`,
            ),
          ),
        ]),
      ]);
  });

  it('sets the answers to a survey beside those of the references, once where methods share them', async () => {
    const caption = 'Similarity of the distribution over all options to each group’s answers (1 − JSD), test';
    expect(await read()).not.toContain('1 − JSD');
    const similarities = (seed: number) => [0.7 + 0.01 * seed, 0.8, 0.9];
    folders.forEach((folder, i) => {
      answerSurvey(folder, similarities(i), [0.6, 0.6, 0.6]);
    });
    const html = await read();
    expectSoundPage(html);
    const [head, first, ...others] = tableOf(html, `${caption}, mean ± standard error over seeds`);
    expect(head).toEqual(['Group', 'Questions', 'IPO', 'GR-IPO', 'Reference', 'Uniform']);
    const of = (seed: number) => similarities(seed)[0];
    expect(first.slice(0, 4)).toEqual(['Nigeria', '9', overSeeds(of), overSeeds((seed) => of(seed + 3))]);
    const means = (cells: string[]) => cells.map((cell) => Number.parseFloat(cell));
    expect(means(first.slice(4))).toEqual([0.6, 0.5]);
    expect(others.slice(2).map(([name, , ...cells]) => [name, ...means(cells)])).toEqual([
      ['Worst group', 0.71, 0.74, 0.6, 0.5],
      ['Mean over questions', 0.61, 0.61, 0.61, 0.61],
      ['Mean over groups', expect.closeTo(0.8 + 0.01 / 3, 3), expect.closeTo(0.8 + 0.04 / 3, 3), 0.6, 0.5],
    ]);
    const [, , calibration] = tableOf(
      html,
      'Expected calibration error of the win share of one option against another',
    );
    expect([calibration[0], ...means(calibration.slice(1))]).toEqual([escaped(groupNames[1]), 0.2, 0.2]);

    // Of two seeds and one the errors differ, but not what they are the errors of.
    const [one, two, , four] = folders;
    folders = [one, two, four];
    const [uneven] = tableOf(await read(), `${caption}, mean ± standard error over seeds`);
    expect(uneven.slice(2)).toEqual(['IPO', 'GR-IPO', 'Reference', 'Uniform']);

    folders = [one, four];
    answerSurvey(folders[1], similarities(1), [0.65, 0.6, 0.6]);
    const apart = tableOf(await read(), caption);
    expect(apart[0].slice(2)).toEqual(['IPO', 'GR-IPO', 'Reference of IPO', 'Reference of GR-IPO', 'Uniform']);
    const withErrors = (cells: string[]) => cells.map((cell) => cell.split(' ± ').map(Number));
    expect(withErrors(apart[1].slice(2))).toEqual([0.7, 0.71, 0.6, 0.65, 0.5].map((mean) => [mean, 0.01]));
    answerSurvey(folders[1], similarities(1));
    const [only, row] = tableOf(await read(), caption);
    expect(only.slice(2)).toEqual(['IPO', 'GR-IPO', 'Reference', 'Uniform']);
    expect(withErrors(row.slice(4, 5))).toEqual([[0.6, 0.01]]);
    const csv = parse(runsCsv(await Promise.all(folders.map(readRun))), { columns: true }) as Record<string, string>[];
    expect(csv.filter(({ similarity }) => similarity !== '').map((line) => line.split)).toEqual(Array(6).fill('test'));
    expect(csv[0]).toMatchObject({
      similarity: '0.7',
      'similarity standard error': '0.01',
      'reference similarity': '0.6',
      'uniform similarity': '0.5',
      'calibration error': '0.3',
    });
  });

  it('shows environment and configurations', async () => {
    changeFile(folders[1], 'run.json', (run) => {
      run.resumed = [{ step: 20, versions: { node: 'v24' } }];
      run.dropped = { train: { empty: 0, tooLong: 2 }, test: { empty: 0, tooLong: 0 } };
      run.best = { step: 20, loss: 6.5, group: 'Nigeria' };
    });
    const html = await read();
    const environment = tableOf(html, 'Where and with what this was made');
    expect(environment).toContainEqual(['versions node', 'v20.17.0']);
    expect(environment).toContainEqual(['pairs of Nigeria', 'train 80, validation 10, test 10']);
    expect(environment).toContainEqual(['resumed 0 step', '20']);
    expect(environment).toContainEqual(['pairs left out of train', 'tooLong 2']);
    expect(environment).toContainEqual(['pairs left out of test', 'none']);
    expect(environment).toContainEqual(['best step', '20: worst-group validation loss 6.5 (Nigeria)']);
    const created = environment.find(([name]) => name === 'created');
    expect(created?.[1]).toMatch(/^2026-01-01T00:00:\d\dZ … 2026-01-01T00:02:\d\dZ \(6 different\)$/);
    expect(html.match(/<details>/g)).toHaveLength(6);
    expect(html).toContain('weights: mirror-ascent');
  });

  it('reports a robust method that does no better as failing', async () => {
    for (const folder of folders.slice(3))
      changeFile(folder, 'evaluation.json', ({ groups }) => {
        (groups as Record<string, { loss: number }>)[groupNames[0]].loss = 30;
      });
    expect(await read()).toContain(
      '<span class="fails">✗ fails</span> GR-IPO lowers the worst group’s test loss against IPO',
    );
  });

  it.each([
    ['optimistic', 'optimistic-ipo', 'OPTIMISTIC-IPO'],
    ['best-response', 'max-ipo', 'MAX-IPO'],
    ['exp3', 'exp3-ipo', 'EXP3-IPO'],
  ])('judges weights: %s as group robust, and draws their α', async (weights, method, title) => {
    for (const folder of folders.slice(3)) {
      changeFile(folder, 'run.json', (run) => {
        run.method = method;
      });
      writeFileSync(join(folder, 'config.yaml'), `objective: { loss: ipo, beta: 0.1, weights: ${weights} }\n`);
    }
    const html = await read();
    expect(html).toContain(`</span> ${title} lowers the worst group’s test loss against IPO`);
    expect(html).toContain(`${title}: group weights α over training`);
    expect(html).not.toMatch(/[^-]IPO: group weights α/);
  });

  it.each(['uniform', 'importance'])('judges nothing of weights: %s, which stay', async (weights) => {
    for (const folder of folders.slice(3))
      writeFileSync(join(folder, 'config.yaml'), `objective: { loss: ipo, beta: 0.1, weights: ${weights} }\n`);
    const html = await read();
    expect(html).not.toContain('lowers the worst group’s');
    expect(html).not.toContain('group weights α over training');
  });

  it('pairs no runs that saw different data, and compares no losses of different β', async () => {
    changeFile(folders[5], 'run.json', (run) => {
      run.dataHash = 'other';
    });
    expect(await read()).toContain('over 2 seeds; 95 % interval −2.13 to −1.85');
    for (const folder of folders.slice(3))
      writeFileSync(join(folder, 'config.yaml'), 'objective: { loss: ipo, beta: 0.2, weights: mirror-ascent }\n');
    const html = await read();
    expect(html).not.toContain('Paired differences over seeds, mean');
    expect(html).toContain('IPO loss (β = 0.1)');
    expect(html).toContain('IPO loss (β = 0.2)');
  });

  it('compares no losses of different margins γ', async () => {
    const compared = async (gammas: readonly [string, string]) => {
      for (const [i, folder] of folders.entries()) {
        const weights = i < 3 ? 'erm' : 'mirror-ascent';
        const gamma = gammas[i < 3 ? 0 : 1];
        const objective = `{ loss: simpo, beta: 2, weights: ${weights}${gamma} }`;
        writeFileSync(join(folder, 'config.yaml'), `objective: ${objective}\n`);
      }
      return read();
    };
    expect(await compared(['', ', gamma: 0'])).toContain('Paired differences over seeds, mean');
    const html = await compared(['', ', gamma: 0.5']);
    expect(html).not.toContain('Paired differences over seeds, mean');
    expect(html).toContain('SimPO loss / nats (β = 2)');
    expect(html).toContain('SimPO loss / nats (β = 2, γ = 0.5)');
  });

  it('gives no standard error to one seed', async () => {
    folders = [folders[0], folders[3]];
    const html = await read();
    expect(html).toContain(
      '≈ unclear</span> GR-IPO lowers the worst group’s test loss against IPO (paired difference −2 over 1 seed; one seed says nothing about chance)',
    );
    expect(tableOf(html, 'Final test')[1][2]).toBe('9');
    expect(html).not.toMatch(/(error bars|bands): ±/);
  });

  it('has standard errors over the pairs of a single seed, where its evaluation has them', async () => {
    folders = [folders[0]];
    changeFile(folders[0], 'evaluation.json', ({ groups }) => {
      Object.values(groups as Record<string, Record<string, unknown>>).forEach((group, g) => {
        group.standard_error = { loss: 0.3 + 0.1 * g, 'rewards/accuracies': 0.05 };
      });
    });
    const html = await read();
    const [, row] = tableOf(html, 'Final test, mean ± standard error over the pairs of the one seed');
    // Worst and best group: 9 ± 0.5 and 3 ± 0.3.
    expect(row.slice(2, 4)).toEqual(['9.00 ± 0.50', '6.00 ± 0.58']);
    expect(tableOf(html, 'Loss of each group, mean ± standard error over the pairs of the one seed')[1][2]).toBe(
      '3.00 ± 0.30',
    );
    // Of one group there is no difference.
    changeFile(folders[0], 'evaluation.json', (evaluation) => {
      const [first] = Object.entries(evaluation.groups as object);
      evaluation.groups = Object.fromEntries([first]);
    });
    const [, one] = tableOf(await read(), 'Final test, mean ± standard error over the pairs of the one seed');
    expect(one.slice(2, 4)).toEqual(['3.00 ± 0.30', '0']);
    expect(html).toContain('error bars: ± one standard error over the pairs of the one seed');
    expect(runsCsv([await readRun(folders[0])])).toContain('loss standard error');
  });

  describe('over clusters of test pairs', () => {
    /** Two pairs of each of three people in every group, whose losses are the group's by −1, 0 and 1; `across`: the same people in all. */
    function cluster(folder: string, across: boolean): void {
      const lines = groupNames.flatMap((group, g) =>
        [-1, -1, 0, 0, 1, 1].map((noise, i) => ({
          user_id: `user${Math.floor(i / 2)}${across ? '' : `of${g}`}`,
          group,
          weight: 1,
          loss: [3, 5, 9][g] + noise,
          'rewards/accuracies': 1,
        })),
      );
      const write = (name: string, rows: object[]) =>
        writeFileSync(join(folder, name), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
      write('test.jsonl', lines);
      write(
        'evaluation-pairs.jsonl',
        lines.map(({ user_id, ...scores }, i) => ({ line: i + 1, ...scores })),
      );
      appendFileSync(join(folder, 'config.yaml'), `data:\n  test: ${join(folder, 'test.jsonl')}\n`);
    }
    const caption = 'mean ± standard error over the clusters of pairs (user_id) of the one seed';
    const page = async (folder: string) => renderPage(runsPage([await withClusters(await readRun(folder), 'user_id')]));

    it('has their errors, s/√G of the means of three people', async () => {
      cluster(folders[0], false);
      const html = await page(folders[0]);
      const [, row] = tableOf(html, `Final test, ${caption}`);
      expect(html).toContain('Few clusters: a group has pairs of only 3 clusters (user_id)');
      // 1/√3 of a group; √2 times that of a difference of two.
      expect(row.slice(2, 4)).toEqual(['9.00 ± 0.58', '6.00 ± 0.82']);
      expect(tableOf(html, `Loss of each group, ${caption}`)[1][2]).toBe('3.00 ± 0.58');
    });

    it('has none of a difference of groups that share people', async () => {
      cluster(folders[0], true);
      const html = await page(folders[0]);
      expect(tableOf(html, `Final test, ${caption}`)[1].slice(2, 4)).toEqual(['9.00 ± 0.58', '6']);
    });

    it('refuses runs without test pairs, and test files that have changed', async () => {
      await expect(page(folders[0])).rejects.toThrow(/field "--cluster": is about test pairs/);
      cluster(folders[0], false);
      const file = join(folders[0], 'test.jsonl');
      writeFileSync(file, `${readFileSync(file, 'utf8').split('\n').slice(0, 17).join('\n')}\n`);
      await expect(page(folders[0])).rejects.toThrow(/test\.jsonl:18: has no pair that .* tested under this number/);
      rmSync(join(folders[0], 'evaluation-pairs.jsonl'));
      await expect(page(folders[0])).rejects.toThrow(InputError);
    });
  });

  it('has a column for every setting that varies, in the page and the CSV', async () => {
    for (const [i, rank] of [4, 8].entries())
      for (const folder of folders.slice(3 * i, 3 * i + 3)) {
        const seed = folders.indexOf(folder) % 3;
        writeFileSync(
          join(folder, 'config.yaml'),
          `model: random:tiny\nseed: ${seed}\nobjective:\n  loss: ipo\n  beta: ${rank / 40}\nlora:\n  rank: ${rank}\n`,
        );
      }
    const [head, ...rows] = tableOf(await read(), 'Final test, mean ± standard error over seeds');
    expect(head.slice(-2)).toEqual(['objective.beta', 'lora.rank']);
    expect(rows.map((row) => row.slice(-2))).toEqual([
      ['0.1', '4'],
      ['0.2', '8'],
    ]);
    const records = parse(runsCsv(await Promise.all(folders.map(readRun))), { columns: true }) as Record<
      string,
      string
    >[];
    expect(records[0]).toMatchObject({ 'objective.beta': '0.1', 'lora.rank': '4' });
    expect(records.at(-1)).toMatchObject({ 'objective.beta': '0.2', 'lora.rank': '8' });
  });

  const chartOf = async (name: string) => {
    const [{ figures = [] }] = runsPage([await readRun(folders[0])]).sections;
    return figures.find((figure) => figure.name === name)!.chart as LineChart;
  };
  const changeLog = (change: (line: Record<string, number>) => void) => {
    const file = join(folders[0], 'metrics.jsonl');
    const lines = readFileSync(file, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    lines.forEach(change);
    writeFileSync(file, `${lines.map((line) => JSON.stringify(line)).join('\n')}\n`);
  };

  it('has a logarithmic axis where one spike would flatten the curve, and only there', async () => {
    expect((await chartOf('gradient-norm')).y.log).toBeUndefined();
    changeLog((line) => {
      line.grad_norm = line.step === 7 ? 4000 : 1 + line.step / 30;
    });
    expect((await chartOf('gradient-norm')).y).toMatchObject({ log: true, title: 'Gradient norm, logarithmic' });
    expect((await chartOf('worst-group-loss')).y.log).toBeUndefined();
  });

  it('begins no curve of reward accuracy with the ties of step 0', async () => {
    changeLog((line) => {
      if (line.eval_loss === undefined) return;
      line['eval_worst/accuracy'] = line.step === 0 ? 0 : 0.6;
      line['eval_rewards/margins'] = line.step;
    });
    expect((await chartOf('worst-group-accuracy')).series[0].points[0]).toMatchObject({ x: 80, y: 0.6 });
  });

  it('takes runs that have no rewards, such as SFT', async () => {
    for (const folder of folders.slice(0, 3)) {
      changeFile(folder, 'run.json', (run) => {
        run.method = 'sft';
      });
      changeFile(folder, 'evaluation.json', ({ groups }) => {
        for (const group of Object.values(groups as Record<string, Record<string, number>>))
          delete group['rewards/accuracies'];
      });
      writeFileSync(join(folder, 'config.yaml'), 'objective:\n  loss: sft\n');
    }
    const html = await read();
    expectSoundPage(html);
    expect(tableOf(html, 'Final test, mean ± standard error over seeds')[1][6]).toBe('–');
    expect(tableOf(html, 'Reward accuracy of each group, mean ± standard error over seeds')[0]).not.toContain('SFT');
  });

  it('takes runs of one method with different settings for two methods, named by what differs', async () => {
    for (const [i, folder] of folders.slice(0, 3).entries()) {
      changeFile(folder, 'run.json', (run) => {
        run.method = 'gr-ipo';
      });
      const objective = '  loss: ipo\n  beta: 0.1\n  weights: mirror-ascent\n  step: 0.002';
      writeFileSync(join(folder, 'config.yaml'), `model: random:tiny\nseed: ${i}\nobjective:\n${objective}\n`);
    }
    const html = await read();
    const [, ...rows] = tableOf(html, 'Final test, mean ± standard error over seeds');
    expect(rows.map(([title, seeds]) => [title, seeds])).toEqual([
      ['GR-IPO (step 0.002)', '3'],
      ['GR-IPO (step 0.01)', '3'],
    ]);
    expect(html).toContain('#D55E00');
    expect(
      new Set(html.match(/<i class="swatch" style="border-top:3px solid (#\w+)"><\/i>GR-IPO \([^)]*\)/g)).size,
    ).toBe(2);
    // Neither is the plain method, so none is claimed to be better.
    expect(html).not.toContain('lowers the worst group');
  });

  it('takes runs that differ in what a resumed run may change for seeds of one method', async () => {
    const nested = (key: string) =>
      key.split('.').reduceRight<unknown>((value, name) => ({ [name]: value }), 1) as object;
    const free = configKeys().filter((key) => settingsOf(nested(key)).length === 0);
    expect(free).toEqual(expect.arrayContaining(['output', 'threads', 'checkpoint.every', 'distributed.timeout']));
    expect(free).not.toContain('objective.beta');
    const [folder] = folders;
    const config = readFileSync(join(folder, 'config.yaml'), 'utf8');
    const methods = async () => {
      const [, ...rows] = tableOf(await read(), 'Final test, mean ± standard error over seeds');
      return rows.map(([title, seeds]) => `${title}: ${seeds}`);
    };
    for (const key of ['checkpoint.best', ...free]) {
      writeFileSync(join(folder, 'config.yaml'), `${config}${printYaml(nested(key))}`);
      expect(differingSettings(await Promise.all(folders.slice(0, 3).map(readRun))), key).toEqual([]);
    }
    expect(await methods()).toEqual(['IPO: 3', 'GR-IPO: 3']);
    writeFileSync(join(folder, 'config.yaml'), `${config}optimizer: { learningRate: 0.5, betas: [0.9, 0.99] }\n`);
    expect((await methods()).slice(0, 2)).toEqual([
      'IPO (optimizer.learningRate 0.5, optimizer.betas 0.9, 0.99): 1',
      'IPO (optimizer.learningRate –, optimizer.betas –): 2',
    ]);
  });

  it('falls back to the validation split where a run has no test, and says so', async () => {
    rmSync(join(folders[0], 'evaluation.json'));
    const html = await read();
    expect(html).toContain('There is no test split on which all runs were scored');
    const [, ipo] = tableOf(html, 'Final validation, mean ± standard error over seeds');
    // The last line of the fake metrics, which is an evaluation.
    const left = (seed: number) => Math.exp(-3) * (1 + 0.05 * Math.sin(30 + seed));
    const last = (loss: number, seed: number) => loss + (25 - loss) * left(seed);
    expect(ipo[2]).toBe(overSeeds((seed) => last(finalScores('ipo', seed).losses[2], seed)));
  });

  it('falls back to the batches of the last epoch, each counted by its pairs', async () => {
    folders = folders.slice(0, 1);
    rmSync(join(folders[0], 'evaluation.json'));
    const line = (step: number, epoch: number, count: number, loss: number) => ({
      step,
      epoch,
      'group/a/count': count,
      'group/a/loss': loss,
      'group/a/rewards/accuracies': loss / 10,
    });
    const lines = [{ step: 0, epoch: 0 }, line(1, 0.5, 4, 9), line(2, 1, 4, 8), line(3, 1.5, 1, 6), line(4, 2, 3, 2)];
    // A step that was skipped says nothing.
    lines.push({ step: 5, epoch: 3.5 });
    writeFileSync(join(folders[0], 'metrics.jsonl'), lines.map((entry) => `${JSON.stringify(entry)}\n`).join(''));
    const html = await read();
    expectSoundPage(html);
    expect(html).toContain('no measure of how it generalises');
    expect(tableOf(html, 'Loss of each group')[1]).toEqual(['a', '4', '3']);
    expect(tableOf(html, 'Reward accuracy of each group')[1][2]).toBe('0.3');
    expect(html).toContain('batch loss of each group over training');
  });

  it('refuses runs that have no split in common', async () => {
    for (const [folder, scored] of [
      [folders[0], 'eval_group/a/loss'],
      [folders[3], 'group/a/loss'],
    ]) {
      rmSync(join(folder, 'evaluation.json'));
      writeFileSync(join(folder, 'metrics.jsonl'), `${JSON.stringify({ step: 1, epoch: 1, [scored]: 1 })}\n`);
    }
    folders = [folders[0], folders[3]];
    await expect(read()).rejects.toThrow(/no split on which all runs have scores: .*ipo-0 has none on test, /);
  });

  it('refuses two runs of one method, settings and seed', async () => {
    const copy = `${folders[0]}-again`;
    cpSync(folders[0], copy, { recursive: true });
    folders.push(copy);
    await expect(read()).rejects.toThrow(/ipo-0-again, field "seed": has the method, settings and seed of .*ipo-0\b/);
  });
});

describe('readRun', () => {
  const metrics = (folder: string) => join(folder, 'metrics.jsonl');

  it('leaves out the half line of a run that was killed', async () => {
    const before = await readRun(folders[0]);
    appendFileSync(metrics(folders[0]), Buffer.from('{"step": 31, "note": "é', 'utf8').subarray(0, -1));
    expect((await readRun(folders[0])).metrics).toEqual(before.metrics);
  });

  it.each<[string, (folder: string) => void, RegExp]>([
    ['no such folder', (folder) => rmSync(folder, { recursive: true }), /run\.json: no such file\n {2}fix: /],
    [
      'no score at all',
      (folder) => {
        rmSync(join(folder, 'evaluation.json'));
        writeFileSync(metrics(folder), '{"step": 0, "epoch": 0}\n');
      },
      /metrics\.jsonl: has no scores of any group\n/,
    ],
    ['no metrics', (folder) => rmSync(metrics(folder)), /metrics\.jsonl: no such file/],
    ['broken JSON', (folder) => writeFileSync(join(folder, 'run.json'), '{"seed": 1,'), /run\.json: is not JSON/],
    [
      'a missing seed',
      (folder) => writeFileSync(join(folder, 'run.json'), '{"method": "ipo"}'),
      /run\.json, field "seed": /,
    ],
    [
      'a broken line',
      (folder) => appendFileSync(metrics(folder), '{"step": 31, "lo\n'),
      /metrics\.jsonl:32: is not JSON/,
    ],
    [
      'a line without step',
      (folder) => appendFileSync(metrics(folder), '{"loss": 1}\n'),
      /metrics\.jsonl:32, field "step": /,
    ],
    [
      'a metric that is no number',
      (folder) => appendFileSync(metrics(folder), '{"step": 31, "loss": [1]}\n'),
      /metrics\.jsonl:32, field "loss": /,
    ],
    [
      'a group without loss',
      (folder) => writeFileSync(join(folder, 'evaluation.json'), '{"groups": {"a": {"count": 3}}}'),
      /evaluation\.json, field "groups\.a\.loss": /,
    ],
    [
      'no groups',
      (folder) => writeFileSync(join(folder, 'evaluation.json'), '{"groups": {}}'),
      /evaluation\.json, field "groups": /,
    ],
    ['broken YAML', (folder) => writeFileSync(join(folder, 'config.yaml'), 'a: 1\nb: [1\n'), /config\.yaml:\d+: /],
    [
      'a configuration without objective',
      (folder) => writeFileSync(join(folder, 'config.yaml'), 'seed: 1\n'),
      /config\.yaml, field "objective": /,
    ],
  ])('names file, line and field: %s', async (_, damage, message) => {
    damage(folders[0]);
    const error = await readRun(folders[0]).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(InputError);
    expect((error as InputError).message).toMatch(message);
  });
});

describe('group-robust report', () => {
  let stdout: string;
  let stderr: string;
  beforeEach(() => {
    stdout = '';
    stderr = '';
    vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
      stdout += text;
      return true;
    });
    vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
      stderr += text;
      return true;
    });
  });
  afterEach(() => {
    vi.restoreAllMocks();
    process.exitCode = undefined;
  });
  const report = (...args: string[]) => {
    const program = new Command();
    registerReport(program);
    return program.parseAsync(['report', ...args], { from: 'user' });
  };

  it('writes into the first run folder, not over its own report, and prints one JSON object', async () => {
    await report(...folders, '--json');
    const path = join(folders[0], 'comparison.html');
    expect(JSON.parse(stdout)).toEqual({ report: path, runs: 6 });
    expectSoundPage(readFileSync(path, 'utf8'));
    expect(process.exitCode).toBeUndefined();
  });

  it('writes where --out says', async () => {
    const path = join(dirname(folders[0]), 'new', 'page.html');
    await report(folders[0], '--out', path);
    expect(existsSync(path)).toBe(true);
    expect(existsSync(join(folders[0], 'comparison.html'))).toBe(false);
    expect(stdout).toBe(`${path}: 1 run\n`);
  });

  it('exits with 2 and writes nothing when a run is broken', async () => {
    rmSync(join(folders[4], 'metrics.jsonl'));
    await report(...folders);
    expect(process.exitCode).toBe(2);
    expect(stderr).toContain(join(folders[4], 'metrics.jsonl'));
    expect(existsSync(join(folders[0], 'comparison.html'))).toBe(false);
  });

  it('writes CSV: every run, split and group at full precision, whatever their names hold', async () => {
    await report(...folders, '--format', 'csv');
    const rows = parse(readFileSync(join(folders[0], 'comparison.csv')), { columns: true }) as Record<string, string>[];
    expect(rows).toHaveLength(6 * 3 * 3);
    const row = rows.find(
      ({ run, split, group }) => run === folders[4] && split === 'test' && group === groupNames[2],
    )!;
    const { losses, accuracies } = finalScores('gr-ipo', 1);
    expect(row).toMatchObject({ method: 'gr-ipo', seed: '1', count: '20' });
    expect([Number(row.loss), Number(row['rewards/accuracies'])]).toEqual([losses[2], accuracies[2]]);
    expect(Number(row.alpha)).toBeCloseTo(1 / 3 + 0.005 * 30 * 1.2, 12);
  });

  it('writes Markdown with the tables of the page', async () => {
    await report(...folders, '--format', 'md');
    const text = readFileSync(join(folders[0], 'comparison.md'), 'utf8');
    const loss = overSeeds((seed) => finalScores('ipo', seed).losses[0]);
    expect(text).toContain(`| Nigeria | 40 | ${loss} | `);
    expect(text).toContain('| --- | --: | --: | --: |');
    expect(text).toContain('- ✓ holds GR-IPO lowers the worst group’s test loss against IPO');
    expect(text).toContain('\\<b\\>"A\\&B"\\</b\\>');
  });

  it('writes LaTeX with the tables of the page, and nothing of a name that LaTeX would obey', async () => {
    await report(...folders, '--format', 'latex');
    const text = readFileSync(join(folders[0], 'comparison.tex'), 'utf8');
    expect(text.match(/\\begin\{tabular\}\{l(l|r)+\}\n {4}\\toprule/g)).toHaveLength(5);
    const loss = overSeeds((seed) => finalScores('ipo', seed).losses[0]).replace('±', '$\\pm$');
    expect(text).toContain(`    Nigeria & 40 & ${loss} & `);
    expect(text).toContain("\\textless{}b\\textgreater{}''A\\&B''");
    // Braces come in pairs, and what is no ASCII is a letter.
    expect(text.replaceAll(/\\[{}]/g, '').match(/\{/g)).toHaveLength(
      text.replaceAll(/\\[{}]/g, '').match(/\}/g)!.length,
    );
    expect(text).not.toMatch(/[−±α√✓]/);
  });

  it('writes every figure as SVG with its legend', async () => {
    const path = join(dirname(folders[0]), 'figures');
    await report(...folders, '--format', 'svg', '--out', path);
    const names = readdirSync(path).sort();
    expect(names).toEqual([
      'alpha-2.svg',
      'gradient-norm.svg',
      'group-accuracy.svg',
      'group-log-probability-accuracy.svg',
      'group-loss.svg',
      'log-probability-accuracy-by-group-1.svg',
      'log-probability-accuracy-by-group-2.svg',
      'loss-by-group-1.svg',
      'loss-by-group-2.svg',
      'worst-group-loss.svg',
    ]);
    for (const name of names) expect(readFileSync(join(path, name), 'utf8')).toMatch(/^<svg .*<\/svg>$/s);
    expect(readFileSync(join(path, 'alpha-2.svg'), 'utf8')).toContain('>Nigeria</text>');
  });
});
