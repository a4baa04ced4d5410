import { ambiguityNames } from './ambiguity.js';
import { isMoving, type WeightingName, weightingNames } from './group-weights.js';
import { type PairLossName, pairLossNames } from './pairs.js';

/** What the name of a method begins with, before that of its loss: mirror-ascent and ipo are gr-ipo. */
const prefixes: Readonly<Record<WeightingName, string>> = {
  erm: '',
  uniform: 'uniform-',
  importance: 'is-',
  'mirror-ascent': 'gr-',
  optimistic: 'optimistic-',
  'best-response': 'max-',
  exp3: 'exp3-',
};

type AmbiguityName = (typeof ambiguityNames)[number];

/** What the name of a method says of it. */
interface MethodParts {
  loss: PairLossName;
  weights: WeightingName;
  /** What α may be; the simplex, too, where there is no α. */
  set: AmbiguityName;
}

/** Name of the method a loss and its group weights make, e.g. "gr-ipo", or "gr-cvar-ipo" with another ambiguity set than the simplex. */
export function methodName(objective: {
  loss: PairLossName;
  weights: WeightingName;
  ambiguity?: { set: AmbiguityName };
}): string {
  const { loss, weights, ambiguity: { set } = { set: 'simplex' } } = objective;
  return prefixes[weights] + (set === 'simplex' ? '' : `${set}-`) + loss;
}

const methods: ReadonlyMap<string, MethodParts> = new Map(
  weightingNames.flatMap((weights) =>
    (isMoving({ weights }) ? ambiguityNames : (['simplex'] as const)).flatMap((set) =>
      pairLossNames.map((loss) => [methodName({ loss, weights, ambiguity: { set } }), { loss, weights, set }] as const),
    ),
  ),
);

/** The reverse of {@link methodName}; undefined for a name of the user's own. */
export function parseMethod(name: string): MethodParts | undefined {
  return methods.get(name);
}
