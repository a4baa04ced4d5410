import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import type { OpinionPair } from '../../src/data/surveys/opinion-pairs.js';
import type { OpinionSummary, SurveySummary } from '../../src/train/survey.js';
import { temporaryFolder } from '../temporary-folder.js';
import { groupRobust } from './run.js';

/** Opinions as distributions: in `eval --survey`, and at the end of a run on a survey's pairs. */
const folder = temporaryFolder();
const at = (...names: string[]) => join(folder, ...names);
const lines = (file: string) =>
  readFileSync(file, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
const test = at('data', 'test.jsonl');
const model = ['--model', 'random:tiny', '--adapter', at('run', 'adapter'), '--quiet', '--json'];

beforeAll(() => {
  const made = groupRobust(['data', 'survey', '--rows', '100', '--out', at('data')]);
  expect(made.status, made.stderr).toBe(0);
  const config = {
    model: 'random:tiny',
    output: at('run'),
    data: { train: at('data', 'train.jsonl'), test },
    objective: { loss: 'ipo', beta: 0.1 },
    optimizer: { learningRate: 0.01 },
    steps: 2,
  };
  writeFileSync(at('config.yaml'), stringify(config));
  const { status, stderr } = groupRobust(['train', at('config.yaml'), '--quiet']);
  expect(status, stderr).toBe(0);
});

/** By other formulas than the program's: entropies for the divergence, and every pair of options twice, once from each side. */
function oracle(questions: { group: string; shares: number[]; logps: number[] }[]) {
  const h = (p: number[]) => -p.reduce((sum, x) => sum + (x > 0 ? x * Math.log2(x) : 0), 0);
  const groups = new Map<string, typeof questions>();
  for (const question of questions) groups.set(question.group, [...(groups.get(question.group) ?? []), question]);
  const measure = (members: typeof questions) => {
    const predictions = members.map(({ logps }) => {
      const masses = logps.map((logp) => Math.exp(logp - Math.max(...logps)));
      return masses.map((mass) => mass / masses.reduce((sum, one) => sum + one));
    });
    const similarities = members.map(({ shares }, q) => {
      const middle = shares.map((share, o) => (share + predictions[q][o]) / 2);
      return 1 - (h(middle) - (h(shares) + h(predictions[q])) / 2);
    });
    const mean = similarities.reduce((sum, one) => sum + one) / members.length;
    const squares = similarities.reduce((sum, one) => sum + (one - mean) ** 2, 0);
    // Twenty bins from 0 to 1 of ordered pairs: what is predicted to lose mirrors what is predicted to win.
    const bins = Array.from({ length: 20 }, () => ({ count: 0, predicted: 0, observed: 0 }));
    members.forEach(({ shares }, q) => {
      const p = predictions[q];
      for (const [i, share] of shares.entries())
        for (const [j, other] of shares.entries()) {
          if (i === j || share + other === 0) continue;
          const bin = bins[Math.min(19, Math.floor(20 * (p[i] / (p[i] + p[j]))))];
          bin.count++;
          bin.predicted += p[i] / (p[i] + p[j]);
          bin.observed += share / (share + other);
        }
    });
    const pairs = bins.reduce((sum, { count }) => sum + count, 0);
    // Scores of float32 that come of other batches.
    const closeTo = (value: number) => expect.closeTo(value, 6);
    return {
      questions: members.length,
      similarity: closeTo(mean),
      ...(members.length > 1 && {
        standard_error: closeTo(Math.sqrt(squares / (members.length - 1) / members.length)),
      }),
      calibration_error: closeTo(
        bins.reduce((sum, { predicted, observed }) => sum + Math.abs(predicted - observed), 0) / pairs,
      ),
      calibration: bins.slice(10).flatMap(({ count, predicted, observed }, bin) =>
        count === 0
          ? []
          : [
              {
                from: closeTo((10 + bin) / 20),
                to: closeTo((11 + bin) / 20),
                count,
                predicted: closeTo(predicted / count),
                observed: closeTo(observed / count),
              },
            ],
      ),
    };
  };
  return Object.fromEntries([...groups].map(([name, members]) => [name, measure(members)]));
}

describe('eval --survey', () => {
  let survey: SurveySummary;
  beforeAll(() => {
    const { json } = groupRobust(['eval', '--survey', ...model, '--pairs', test]);
    expect(json).toMatchObject({ reference: null, dropped: { empty: 0, degenerate: 0, tooLong: 0 } });
    ({ survey } = json);
  });

  it('has what each option scores by itself makes of policy and reference', () => {
    const pairs: OpinionPair[] = lines(test);
    const options = pairs.flatMap(({ group, prompt, shares }) =>
      shares.map((_, option) => {
        const chosen = String.fromCharCode(65 + option);
        return { group, prompt, chosen, rejected: 'zzz' };
      }),
    );
    writeFileSync(at('options.jsonl'), options.map((option) => JSON.stringify(option)).join('\n'));
    // A pair at a time, so that no two options share a forward pass.
    const { json } = groupRobust(['logprobs', ...model, '--pairs', at('options.jsonl'), '--batch', '1', '--out', '-']);
    for (const [source, column] of [
      ['policy', 'chosen'],
      ['reference', 'reference_chosen'],
    ] as const) {
      let option = 0;
      const questions = pairs.map(({ group, shares }) => ({
        group,
        shares,
        logps: shares.map((): number => json.logprobs[option++][column]),
      }));
      const expected = oracle(questions);
      expect(survey[source]?.groups).toEqual(expected);
      expect(survey[source]?.mean).toEqual(omit(oracle(questions.map((one) => ({ ...one, group: '' })))['']));
    }
    expect(survey.policy.mean.similarity).not.toBeCloseTo(survey.reference!.mean.similarity, 3);
  });

  it('sets the uniform distribution beside them, and names the worst group of each', () => {
    const even = (lines(test) as OpinionPair[]).map(({ group, shares }) => ({
      group,
      shares,
      logps: shares.map(() => 0),
    }));
    const tied = oracle(even);
    for (const [name, { calibration, ...opinions }] of Object.entries(survey.uniform.groups)) {
      expect({ ...tied[name], ...opinions }).toEqual({ ...tied[name], calibration_error: 0 });
      expect(calibration).toEqual([
        { from: 0.5, to: 0.55, count: calibration[0].count, predicted: 0.5, observed: 0.5 },
      ]);
    }
    for (const { groups, worst, group_mean, group_order } of Object.values(survey) as OpinionSummary[]) {
      const similarities = Object.values(groups).map(({ similarity }) => similarity);
      expect(group_order).toEqual(Object.keys(groups));
      expect(worst).toEqual({ group: expect.any(String), similarity: Math.min(...similarities) });
      expect(groups[worst.group].similarity).toBe(worst.similarity);
      expect(group_mean.similarity).toBeCloseTo(similarities.reduce((sum, one) => sum + one) / similarities.length, 12);
    }
  });

  it('is what the run has in its evaluation.json and shows in its report', () => {
    const evaluation = JSON.parse(readFileSync(at('run', 'evaluation.json'), 'utf8'));
    expect(evaluation.survey).toEqual(survey);
    const page = readFileSync(at('run', 'report.html'), 'utf8');
    expect(page).toContain('Similarity of the distribution over all options to each group’s answers (1 − JSD), test');
    expect(page).toContain('Expected calibration error of the win share');
  });
});

it('is refused beside --objective, and for pairs without shares', () => {
  const both = groupRobust(['eval', '--survey', ...model, '--pairs', test, '--objective', 'dpo,beta=1']);
  expect(both.stderr).toMatch(/'--survey' cannot be used with option '--objective/);
  writeFileSync(at('plain.jsonl'), JSON.stringify({ group: 'a', prompt: 'q', chosen: 'A', rejected: 'B' }));
  const without = groupRobust(['eval', '--survey', ...model, '--pairs', at('plain.jsonl')]);
  expect(without.stderr).toMatch(
    /plain\.jsonl:1, field "shares": there is no such column\n {2}fix: .*data global-opinions/,
  );
  expect([both.status, without.status]).toEqual([2, 2]);
});

function omit({ questions, standard_error, ...measures }: Record<string, unknown>): object {
  expect([questions, standard_error]).not.toContain(undefined);
  return measures;
}
