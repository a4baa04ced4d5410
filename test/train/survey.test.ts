import { expect, it } from 'vitest';
import type { PairDataset } from '../../src/data/pairs/dataset.js';
import { GemmaPolicy } from '../../src/policy/gemma.js';
import { evaluateSurvey, scoredSurvey } from '../../src/train/survey.js';

/** 1 − JSD of (1, 0) and (½, ½): 1 − (log₂ 4/3 + ½ log₂ 2/3 + ½ log₂ 2)/2. */
const sure = 1 - (Math.log2(4 / 3) + Math.log2(2 / 3) / 2 + 1 / 2) / 2;

it('counts what a group was asked in several words once, with the mean, in means and in errors', async () => {
  const asked = (group: number, question: string, share: number) => ({
    id: `${group}:${question}:${share}`,
    group,
    question,
    prompt: Int32Array.of(2, 5),
    options: [Int32Array.of(6, 1), Int32Array.of(7, 1)],
    shares: [share, 1 - share],
  });
  const questions = [asked(0, 'a', 0.5), asked(0, 'a', 1), asked(0, 'a', 0), asked(0, 'b', 0.5), asked(1, 'a', 1)];
  using policy = await GemmaPolicy.open('random:tiny?layers=1', { threads: 1 });
  const data = { file: 'pairs.jsonl', groups: ['x', 'y'], questions } as unknown as PairDataset;
  const scored = await scoredSurvey(data, undefined);
  const { uniform, reference } = await evaluateSurvey(policy, scored!);
  expect(reference).toBeUndefined();
  const a = (1 + 2 * sure) / 3;
  expect(uniform.groups.x).toMatchObject({ questions: 2, similarity: expect.closeTo((a + 1) / 2, 12) });
  expect(uniform.groups.x.standard_error).toBeCloseTo((1 - a) / 2, 12);
  expect(uniform.groups.y).toMatchObject({ questions: 1, similarity: expect.closeTo(sure, 12) });
  expect(uniform.mean.similarity).toBeCloseTo((a + 1 + sure) / 3, 12);
  expect(uniform.worst.group).toBe('y');
});
