import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { reward, trueTheta } from '../../src/bandit/environment.js';
import { actionCount, featureMapNames, features } from '../../src/bandit/features.js';

const state = [0.25, 0.6];
const close = (actual: ArrayLike<number>, expected: number[]) => {
  expect(actual.length).toBe(expected.length);
  expected.forEach((value, i) => {
    expect(Math.abs(actual[i] - value)).toBeLessThan(1e-11);
  });
};

describe('feature maps (oracle O3)', () => {
  const plain = [0.972271824132, 0.514259477227, -0.424898367266, 0.691677466396];

  test('an even group has the same features in every map', () => {
    for (const map of featureMapNames) close(features(map, state, 3, 0), plain);
  });

  test('an odd group', () => {
    close(features('same', state, 3, 1), plain);
    close(features('swapped', state, 3, 1), [0.514259477227, 0.972271824132, 0.691677466396, -0.424898367266]);
    close(features('flipped', state, 3, 1), [0.972271824132, 0.514259477227, 1.307702709906, -0.224739632273]);
  });

  test('parity decides beyond two groups', () => {
    expect(features('flipped', state, 3, 2)).toEqual(features('flipped', state, 3, 0));
    expect(features('flipped', state, 3, 3)).toEqual(features('flipped', state, 3, 1));
  });

  test('true rewards', () => {
    close([reward('swapped', state, 3, 0), reward('swapped', state, 3, 1)], [4.165184287735117, 4.165184287735117]);
    close([reward('same', state, 3, 1)], [2.848057314220907]);
    close([reward('flipped', state, 3, 1)], [7.129443447065908]);
  });
});

test('rewards of every action (oracle O4)', () => {
  const table = [
    5.372579679257, 4.869619803448, 4.477204147471, 4.165184287735, 3.913461275181, 3.708120452766, 3.539222779746,
    3.399479626242,
  ];
  for (const group of [0, 1])
    close(
      table.map((_, action) => reward('swapped', state, action, group)),
      table,
    );
});

test('with swapped features the groups agree on every reward', () => {
  const unit = fc.double({ min: 0, max: 1, noNaN: true });
  fc.assert(
    fc.property(unit, unit, fc.integer({ min: 0, max: actionCount - 1 }), (x0, x1, action) => {
      const [first, second] = [0, 1].map((group) => reward('swapped', [x0, x1], action, group));
      expect(Math.abs(first - second)).toBeLessThan(1e-12);
    }),
  );
});

test('true parameters of other dimensions and groups', () => {
  expect([trueTheta(0), trueTheta(1)]).toEqual([Float64Array.of(1, 3, 1, 3), Float64Array.of(3, 1, 3, 1)]);
  expect([trueTheta(0, 2), trueTheta(1, 2)]).toEqual([Float64Array.of(1, 2), Float64Array.of(2, 1)]);
  expect(trueTheta(0, 8)).toEqual(Float64Array.of(1, 3, 1, 3, 1, 3, 1, 3));
  expect(trueTheta(1, 16)).toEqual(Float64Array.from({ length: 16 }, (_, j) => (j % 2 === 0 ? 3 : 1)));
  expect(trueTheta(4, 8)).toEqual(trueTheta(0, 8));
  expect(trueTheta(5, 2)).toEqual(trueTheta(1, 2));
});
