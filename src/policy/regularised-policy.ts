import { present } from '../errors.js';
import { logSoftmax } from './log-linear.js';

/**
 * The policy that maximises E[r] − β KL(π‖π_ref) in one context: π ∝ π_ref exp(r/β) (paper Lemma B.1).
 *
 * @param rewards [A] r(x,y) of every action
 * @param referenceLogps [A] log π_ref(y|x), any reference
 * @returns [A] log π(y|x)
 */
export function regularisedPolicy(rewards: Float64Array, referenceLogps: Float64Array, beta: number): Float64Array {
  const logits = rewards.map((reward, y) => present(referenceLogps[y]) + reward / beta);
  return logSoftmax(logits, Float64Array.of(1));
}
