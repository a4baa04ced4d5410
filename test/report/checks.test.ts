import { expect, it } from 'vitest';
import { checkLine, pairedCheck } from '../../src/report/checks.js';

it.each([
  [-3, 1, 5, 'lower', 'holds', 'beyond'],
  [-2, 1, 5, 'lower', 'unclear', 'within'],
  [-1, 1, 5, 'lower', 'unclear', 'within'],
  [0, 1, 5, 'lower', 'fails', 'within'],
  [1, 1, 5, 'lower', 'fails', 'within'],
  [3, 1, 5, 'lower', 'fails', 'beyond'],
  [-1, 0, 2, 'lower', 'holds', 'beyond'],
  [-1, null, 1, 'lower', 'unclear', 'one seed'],
  [1, null, 1, 'lower', 'fails', 'one seed'],
  [3, 1, 5, 'higher', 'holds', 'beyond'],
  [1, 1, 5, 'higher', 'unclear', 'within'],
  [-1, 1, 5, 'higher', 'fails', 'within'],
] as const)('a difference of %d ± %d over %d seeds, wanted %s: %s', (mean, error, pairs, wanted, outcome, word) => {
  const check = pairedCheck('It moves', { mean, standard_error: error, pairs }, wanted);
  expect(check.outcome).toBe(outcome);
  expect(check.detail).toContain(word);
  expect(checkLine(check)).toMatch(new RegExp(`^\\S ${outcome}: It moves \\(paired difference .* over ${pairs} seed`));
});
