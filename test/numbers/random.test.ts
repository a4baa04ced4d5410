import fc from 'fast-check';
import { uniformInt } from 'pure-rand/distribution/uniformInt';
import { xoroshiro128plusFromState } from 'pure-rand/generator/xoroshiro128plus';
import { expect, it } from 'vitest';
import { Random } from '../../src/numbers/random.js';

it('draws the same whole numbers as pure-rand, whatever the bound', () => {
  const bound = fc.oneof(fc.integer({ min: 1, max: 1000 }), fc.integer({ min: 2 ** 30, max: 2 ** 32 - 1 }));
  fc.assert(
    fc.property(fc.integer(), fc.array(bound, { minLength: 20, maxLength: 100 }), (seed, bounds) => {
      const random = Random.stream(seed, 'integer');
      const generator = xoroshiro128plusFromState(random.state());
      for (const n of bounds) expect(random.integer(n)).toBe(uniformInt(generator, 0, n - 1));
      expect(random.state()).toEqual(generator.getState());
    }),
  );
});
