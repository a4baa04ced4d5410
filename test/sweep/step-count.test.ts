import { expect, it } from 'vitest';
import { StepCount } from '../../src/sweep/step-count.js';
import { resolveConfig } from '../../src/train/config.js';

const run = (length: object, { train = 'train.jsonl', size = 4 } = {}) => ({
  config: resolveConfig({
    model: 'random:tiny',
    output: 'runs/x',
    data: { train },
    objective: { loss: 'ipo', beta: 0.1 },
    batch: { size },
    ...length,
  }),
});

it('adds what runs take to where they go on, and knows their steps before they start', () => {
  const count = new StepCount();
  const [a, b] = [run({ steps: 10 }), run({ steps: 20 })];
  count.add(a, 0);
  count.add(b, 5);
  expect([count.taken, count.total]).toEqual([5, 30]);
  count.update(a, 3, 10);
  // From an older checkpoint than the newest, which is damaged.
  count.update(b, 4, 20);
  expect([count.taken, count.total]).toEqual([7, 30]);
  count.end(a);
  expect([count.taken, count.total]).toEqual([7, 23]);
});

it('is complete only when every run has ended, whose test pairs are scored after its last step', () => {
  const count = new StepCount();
  const [a, b] = [run({ steps: 3 }), run({ steps: 5 })];
  // What was stopped while its test pairs were scored has all its steps, too.
  count.add(a, 3);
  count.add(b, 0);
  count.update(b, 5, 5);
  expect([count.taken, count.total]).toEqual([2 + 4, 8]);
  count.end(a);
  expect([count.taken, count.total]).toEqual([3 + 4, 8]);
  count.end(b);
  expect([count.taken, count.total]).toEqual([8, 8]);
});

it('estimates the steps of epochs by another run, of the same data where there is one', () => {
  const count = new StepCount();
  const [first, half, twice, other] = [
    run({ epochs: 3 }),
    run({ epochs: 1.5 }),
    run({ epochs: 3 }, { size: 8 }),
    run({ epochs: 1 }, { train: 'other.jsonl' }),
  ];
  for (const one of [first, half, twice, other]) count.add(one, 0);
  expect(count.total).toBeUndefined();
  // 24 pairs: 6 batches of 4, 3 of 8.
  count.update(first, 0, 18);
  expect(count.total).toBe(18 + 9 + 9 + 6);
  count.update(other, 1, 10);
  expect([count.taken, count.total]).toEqual([1, 18 + 9 + 9 + 10]);
  // A plateau ends it early: the others are taken to be as long as planned.
  count.update(first, 6, 18);
  count.end(first);
  expect([count.taken, count.total]).toEqual([7, 6 + 9 + 9 + 10]);
});
