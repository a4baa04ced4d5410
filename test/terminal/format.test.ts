import { describe, expect, it } from 'vitest';
import { formatCount, formatEstimate, formatEstimates, formatNumber } from '../../src/terminal/format.js';

describe('formatNumber', () => {
  it.each([
    [0, '0'],
    [17.9312, '17.93'],
    [-0.25, '−0.25'],
    [2500, '2500'],
    [123456.7, '123500'],
    [0.000012345, '1.234e−5'],
    [2e7, '2.000e+7'],
  ])('%d is "%s"', (value, text) => expect(formatNumber(value)).toBe(text));
});

describe('formatEstimate', () => {
  it.each([
    [17.9312, 0.2712, '17.93 ± 0.27'],
    [-0.04567, 0.0055, '−0.0457 ± 0.0055'],
    [1834.26, 12.4, '1834 ± 12'],
    [21834.26, 1234, '21834 ± 1234'],
    [0.5, 0, '0.5 ± 0'],
    [0.8, 7.9e-17, '0.8 ± 0'],
    [0, 0, '0 ± 0'],
    [3.25, null, '3.25'],
    [1e-9, 2e-10, '1.000e−9 ± 2.0e−10'],
  ])('%d with error %d is "%s"', (mean, standard_error, text) =>
    expect(formatEstimate({ mean, standard_error })).toBe(text),
  );
});

it.each<[[number, number | null][], string[]]>([
  [
    [
      [17.9312, 0.2712],
      [3, 1.5],
    ],
    ['17.93 ± 0.27', '3.00 ± 1.50'],
  ],
  [
    [
      [0.5, null],
      [0.4833, null],
      [-2, null],
    ],
    ['0.5000', '0.4833', '−2.0000'],
  ],
  [
    [
      [0.9, 0],
      [0.5, 0.0123],
    ],
    ['0.900 ± 0', '0.500 ± 0.012'],
  ],
  [[[31.4, 1e-9]], ['31.4000 ± 0.0000']],
  [
    [
      [1e-9, 2e-10],
      [1, 0.1],
    ],
    ['1.000e−9 ± 2.0e−10', '1.00 ± 0.10'],
  ],
  [[], []],
])('a column of %j has one format', (values, texts) =>
  expect(formatEstimates(values.map(([mean, standard_error]) => ({ mean, standard_error })))).toEqual(texts),
);

it('separates thousands', () => expect(formatCount(1396)).toBe('1,396'));
