import { marginLoss, type Ramp, sigmoid, softplus } from '../objective/losses.js';
import { type CurvedLoss, margin, norm } from '../policy/group-losses.js';
import type { LogLinearProblem } from '../policy/log-linear-problem.js';

/**
 * A ramp is a maximum, l(h) = max over p in [0, 1] of p z with z = slope (end − h), so its pairs have dual weights p as groups have α. From p'
 * the proximal point is
 *
 *   max over p of p z − s KL(p‖p') = s log(1 − p' + p' e^(z/s)) = s softplus(z/s + λ') − s softplus(λ'),    λ' = log(p'/(1 − p')),
 *
 * which is s times the DPO loss with β = slope/s of a pair whose margin is end + s λ'/slope less, and a constant.
 *
 * @param logits per group, [N_g] λ'
 * @returns the problem, its loss, and [K] the mean constants of the groups
 */
export function smoothRamp(
  problem: LogLinearProblem,
  { slope, end }: Ramp,
  logits: readonly Float64Array[],
  s: number,
): { problem: LogLinearProblem; loss: CurvedLoss; constants: Float64Array } {
  const dpo = marginLoss({ loss: 'dpo', beta: slope / s });
  const { second = () => 0, selfConcordance = 0 } = dpo.curvature ?? {};
  const groups = problem.groups.map((group, g) => ({
    ...group,
    offsets: logits[g].map((logit, i) => (group.offsets?.[i] ?? 0) + end + (s * logit) / slope),
  }));
  return {
    problem: { ...problem, groups },
    loss: {
      value: (h) => s * dpo.value(h),
      derivative: (h) => s * dpo.derivative(h),
      curvature: { second: (h) => s * second(h), selfConcordance },
    },
    constants: Float64Array.from(
      logits,
      (group) => -s * (group.reduce((sum, logit) => sum + softplus(logit), 0) / group.length),
    ),
  };
}

/** λ of the proximal point: λ' + z/s. */
export function nextLogits(
  problem: LogLinearProblem,
  { slope, end }: Ramp,
  logits: readonly Float64Array[],
  s: number,
  theta: Float64Array,
): Float64Array[] {
  return problem.groups.map((group, g) =>
    logits[g].map((logit, i) => logit + (slope * (end - margin(group, i, theta))) / s),
  );
}

/**
 * A lower bound on the least Σ_g w_g L_g over the ball: with weights p of the pairs it is at least the minimum of the linear function
 * Σ_g w_g/N_g Σ_i p_i slope (end − ⟨d_i, θ⟩ + o_i), which is reached on the sphere.
 */
export function rampMinimum(
  problem: LogLinearProblem,
  { slope, end }: Ramp,
  weights: ArrayLike<number>,
  logits: readonly Float64Array[],
  radius: number,
): number {
  const d = problem.dimension;
  const pull = new Float64Array(d);
  let constant = 0;
  for (const [g, group] of problem.groups.entries())
    for (let i = 0; i < group.count; i++) {
      const share = (weights[g] / group.count) * slope * sigmoid(logits[g][i]);
      constant += share * (end + (group.offsets?.[i] ?? 0));
      for (let j = 0; j < d; j++) pull[j] += share * group.differences[i * d + j];
    }
  return constant - radius * norm(pull);
}
