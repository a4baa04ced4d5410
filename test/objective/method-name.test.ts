import { expect, it } from 'vitest';
import { ambiguityNames } from '../../src/objective/ambiguity.js';
import { isMoving, weightingNames } from '../../src/objective/group-weights.js';
import { methodName, parseMethod } from '../../src/objective/method-name.js';
import { pairLossNames } from '../../src/objective/pairs.js';
import { orderMethods } from '../../src/report/palette.js';

const methods = pairLossNames.flatMap((loss) =>
  weightingNames.flatMap((weights) =>
    // Only weights that move have an α for a set to bound.
    ambiguityNames
      .filter((set) => set === 'simplex' || isMoving({ weights }))
      .map((set) => ({ loss, weights, set, name: methodName({ loss, weights, ambiguity: { set } }) })),
  ),
);

it('every loss, weighting and ambiguity set can be read off the name of their method', () => {
  expect(methods).toHaveLength(pairLossNames.length * (3 + 4 * ambiguityNames.length));
  for (const { name, ...parts } of methods) expect(parseMethod(name), name).toEqual(parts);
  for (const name of ['', 'gr-', 'mine', 'gr-mine', 'cvar-ipo', 'gr-simplex-ipo', 'gr-ipo-2', 'GR-IPO', 'toString'])
    expect(parseMethod(name), name).toBeUndefined();
});

it.each(pairLossNames)('reports list plain methods of %s before robust ones, and nothing between', (loss) => {
  const order = orderMethods(methods.map(({ name }) => name).reverse());
  const listed = order.map((name) => methods.find((method) => method.name === name)!);
  const own = listed.filter((method) => method.loss === loss);
  const start = listed.findIndex((method) => method.loss === loss);
  expect(listed.slice(start, start + own.length)).toEqual(own);
  const robust = own.map(isMoving);
  expect(robust).toEqual([...robust].sort((a, b) => Number(a) - Number(b)));
});
