import type { Random } from '../numbers/random.js';
import { dot, type FeatureMapName, features } from './features.js';

/** K and d of the paper's experiments. */
export const paperGroupCount = 2;
export const paperDimension = 4;

/**
 * True reward parameters θ_g for d features: (1, 3, 1, 3, …) of an even group and (3, 1, 3, 1, …) of an odd one (paper
 * Appendix D.1); for d = 2 the authors' code has (1, 2) and (2, 1).
 */
export function trueTheta(group: number, dimension = paperDimension): Float64Array {
  const large = dimension === 2 ? 2 : 3;
  return Float64Array.from({ length: dimension }, (_, j) => ((group + j) % 2 === 0 ? 1 : large));
}

/** A state, uniform on [0,1]^m, for d = 2m features. */
export function drawState(random: Random, dimension = paperDimension): Float64Array {
  return Float64Array.from({ length: dimension / 2 }, () => random.uniform());
}

/** True reward r(x, y, g) = ⟨φ(x, y, g), θ_g⟩. */
export function reward(map: FeatureMapName, state: ArrayLike<number>, action: number, group: number): number {
  return dot(features(map, state, action, group), trueTheta(group, 2 * state.length));
}
