/**
 * Feature maps of the two-group linear bandit (paper §5.1, Appendix D.1).
 *
 * A state x lies in [0,1]^m and gives d = 2m features in m coordinate pairs. With k = 1 + y/8, C_j = cos πx_j and
 * S_j = sin πx_j, pair j of φ(x, y, g) is
 *
 * | map     | g even        | g odd         |
 * |---------|---------------|---------------|
 * | same    | (kC_j, S_j/k) | (kC_j, S_j/k) |
 * | swapped | (kC_j, S_j/k) | (S_j/k, kC_j) |
 * | flipped | (kC_j, S_j/k) | (kS_j, C_j/k) |
 */
export const featureMapNames = ['swapped', 'same', 'flipped'] as const;
export type FeatureMapName = (typeof featureMapNames)[number];

/** Number of actions y ∈ {0..7}. */
export const actionCount = 8;

/** φ(x, y, g), of length 2·state.length. */
export function features(map: FeatureMapName, state: ArrayLike<number>, action: number, group: number): Float64Array {
  const k = 1 + action / actionCount;
  const odd = group % 2 === 1;
  const phi = new Float64Array(2 * state.length);
  for (let j = 0; j < state.length; j++) {
    const cos = Math.cos(Math.PI * state[j]);
    const sin = Math.sin(Math.PI * state[j]);
    const flipped = odd && map === 'flipped';
    const swap = odd && map === 'swapped' ? 1 : 0;
    phi[2 * j + swap] = k * (flipped ? sin : cos);
    phi[2 * j + 1 - swap] = (flipped ? cos : sin) / k;
  }
  return phi;
}

/** ⟨a, b⟩. */
export function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}
