import { expect, it } from 'vitest';
import { checkLine, jointOutcome, pairedCheck } from '../../src/terminal/checks.js';

it.each([
  [-3, 1, 5, 'lower', 'holds', '95 % interval −5.78 to −0.224'],
  [-2.8, 1, 5, 'lower', 'holds', 'to −0.0236'],
  [-2.7, 1, 5, 'lower', 'unclear', 'to 0.076'],
  [-1, 1, 5, 'lower', 'unclear', ''],
  // A tie is not the contrary.
  [0, 0, 5, 'lower', 'unclear', '0 to 0'],
  [0, 1, 5, 'lower', 'unclear', ''],
  [0, null, 1, 'higher', 'unclear', 'one seed'],
  [1, 1, 5, 'lower', 'fails', ''],
  [3, 1, 5, 'lower', 'fails', ''],
  // Two seeds that agree well may do so by chance.
  [-12, 1, 2, 'lower', 'unclear', 'to 0.706'],
  [-13, 1, 2, 'lower', 'holds', 'to −0.294'],
  [-2.1, 1, 31, 'lower', 'holds', ''],
  // Student's t of 998 degrees of freedom is 1.9623 at 97.5 %.
  [-1.962, 1, 999, 'lower', 'unclear', ''],
  [-1.963, 1, 999, 'lower', 'holds', ''],
  [-1, 0, 2, 'lower', 'holds', '−1 to −1'],
  [-1, null, 1, 'lower', 'unclear', 'one seed'],
  [1, null, 1, 'lower', 'fails', 'one seed'],
  [3, 1, 5, 'higher', 'holds', ''],
  [1, 1, 5, 'higher', 'unclear', ''],
  [-1, 1, 5, 'higher', 'fails', ''],
] as const)('a difference of %d ± %d over %d seeds, wanted %s: %s', (mean, error, pairs, wanted, outcome, word) => {
  const check = pairedCheck('It moves', { mean, standard_error: error, pairs }, wanted);
  expect(check.outcome).toBe(outcome);
  expect(check.detail).toContain(word);
  expect(checkLine(check)).toMatch(new RegExp(`^\\S ${outcome}: It moves \\(paired difference .* over ${pairs} seed`));
});

it('a claim of several parts fails with one of them, and is unclear before it holds', () => {
  expect(jointOutcome([])).toBe('holds');
  expect(jointOutcome(['holds', 'holds'])).toBe('holds');
  expect(jointOutcome(['holds', 'unclear'])).toBe('unclear');
  expect(jointOutcome(['unclear', 'fails', 'holds'])).toBe('fails');
});
