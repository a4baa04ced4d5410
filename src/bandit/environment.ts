import type { Random } from '../random.js';
import { dot, type FeatureMapName, features } from './features.js';

/** Length m of a state x ∈ [0,1]^m. */
export const stateSize = 2;

/** d, the length of θ and of φ. */
export const dimension = 2 * stateSize;

/** True reward parameters θ_g of the two groups (paper Appendix D.1). */
export const trueThetas: readonly Float64Array[] = [Float64Array.of(1, 3, 1, 3), Float64Array.of(3, 1, 3, 1)];

/** A state, uniform on [0,1]^m. */
export function drawState(random: Random): Float64Array {
  return Float64Array.from({ length: stateSize }, () => random.uniform());
}

/** True reward r(x, y, g) = ⟨φ(x, y, g), θ_g⟩. */
export function reward(map: FeatureMapName, state: ArrayLike<number>, action: number, group: number): number {
  return dot(features(map, state, action, group), trueThetas[group]);
}
