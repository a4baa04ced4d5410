import { logSumExp } from '../objective/simplex.js';
import { dot } from './group-losses.js';
import type { DifferenceGroup } from './log-linear-problem.js';
import type { LogProbabilitySource, Policy, StepReport, StepSettings } from './policy.js';

/** One prompt with its group merged in: the features of every action, and the actions whose log-probability is wanted. */
export interface LogLinearItem {
  /** [A × d], row-major: row y is φ(x, y, g). */
  features: Float64Array;
  /** Actions y in 0..A-1, repeats allowed. */
  responses: readonly number[];
}

export interface LogLinearSettings {
  /** θ of the reference policy; default 0, which is the uniform policy. */
  referenceTheta?: ArrayLike<number>;
  /** B: after each step θ is projected on the ball ‖θ‖₂ ≤ B; default no projection. */
  radius?: number;
}

/**
 * The log-linear policy π_θ(y|x) ∝ exp⟨φ(x,y,g), θ⟩ behind the same interface as a language model (paper §4).
 *
 * Its optimiser is plain (projected) gradient descent. For full-batch work on preference pairs the normaliser cancels and
 * {@link margins} with {@link addDifferences} give the same step faster.
 *
 * @example Two actions with features 1 and 0: θ is the log-odds of the first.
 * ```ts
 * import { LogLinearPolicy } from 'group-robust-po';
 *
 * const policy = new LogLinearPolicy([Math.log(3)]);
 * const item = { features: Float64Array.of(1, 0), responses: [0, 1] };
 * policy.logProbabilities([item], 'policy'); // → [Math.log(3 / 4), Math.log(1 / 4)]
 * policy.logProbabilities([item], 'reference'); // → [Math.log(1 / 2), Math.log(1 / 2)]
 * ```
 */
export class LogLinearPolicy implements Policy<readonly LogLinearItem[]> {
  readonly theta: Float64Array;
  private readonly referenceTheta: Float64Array;
  private readonly radius: number;
  private readonly accumulators = new Map<number, Float64Array>();
  private batch: readonly LogLinearItem[] = [];

  constructor(theta: ArrayLike<number>, settings: LogLinearSettings = {}) {
    this.theta = Float64Array.from(theta);
    this.referenceTheta = Float64Array.from(settings.referenceTheta ?? new Float64Array(theta.length));
    this.radius = settings.radius ?? Number.POSITIVE_INFINITY;
  }

  logProbabilities(batch: readonly LogLinearItem[], source: LogProbabilitySource): Float64Array {
    const theta = source === 'policy' ? this.theta : this.referenceTheta;
    return Float64Array.from(
      batch.flatMap(({ features, responses }) => {
        const logps = logSoftmax(features, theta);
        return responses.map((action) => logps[action]);
      }),
    );
  }

  forward(batch: readonly LogLinearItem[]): Float64Array {
    this.batch = batch;
    return this.logProbabilities(batch, 'policy');
  }

  /** ∂ log π(y|x)/∂θ = φ(x,y,g) − Σ_y' π(y'|x) φ(x,y',g). */
  backward(cotangents: Float64Array, accumulators: Int32Array): void {
    let response = 0;
    this.batch.forEach(({ features, responses }, i) => {
      const onLogits = new Float64Array(features.length / this.theta.length);
      let total = 0;
      for (const action of responses) {
        onLogits[action] += cotangents[response];
        total += cotangents[response];
        response++;
      }
      const logps = logSoftmax(features, this.theta);
      for (let y = 0; y < onLogits.length; y++) onLogits[y] -= total * Math.exp(logps[y]);
      addRows(features, onLogits, this.accumulator(accumulators[i]));
    });
  }

  discardGradients(): void {
    this.accumulators.clear();
  }

  /** Plain gradient step, then the projection on the ball. */
  step(coefficients: Float64Array, { learningRate, maxGradNorm }: StepSettings): StepReport {
    const gradient = new Float64Array(this.theta.length);
    for (const [k, accumulator] of this.accumulators)
      for (let j = 0; j < gradient.length; j++) gradient[j] += coefficients[k] * accumulator[j];
    this.accumulators.clear();
    const gradNorm = norm(gradient);
    if (!Number.isFinite(gradNorm)) return { gradNorm };
    const clip = maxGradNorm !== undefined && gradNorm > maxGradNorm ? maxGradNorm / gradNorm : 1;
    for (let j = 0; j < gradient.length; j++) this.theta[j] -= learningRate * clip * gradient[j];
    projectOnBall(this.theta, this.radius);
    return { gradNorm };
  }

  private accumulator(k: number): Float64Array {
    const found = this.accumulators.get(k) ?? new Float64Array(this.theta.length);
    this.accumulators.set(k, found);
    return found;
  }
}

/** log π_θ(y|x) of every action, from features [A × d]. */
export function logSoftmax(features: Float64Array, theta: Float64Array): Float64Array {
  const logits = multiply(features, theta, new Float64Array(features.length / theta.length));
  const normaliser = logSumExp(logits);
  return logits.map((logit) => logit - normaliser);
}

/** h_i = ⟨d_i, θ⟩ − o_i of every pair of the group, into `out` [N_g], which is returned. */
export function margins(
  { differences, offsets }: DifferenceGroup,
  theta: Float64Array,
  out: Float64Array,
): Float64Array {
  multiply(differences, theta, out);
  if (offsets) for (let i = 0; i < out.length; i++) out[i] -= offsets[i];
  return out;
}

/** Adds Σ_i c_i d_i to `out` [d]; with c_i = l'(h_i) this is the gradient of the group's summed loss. */
export function addDifferences(group: DifferenceGroup, coefficients: Float64Array, out: Float64Array): void {
  addRows(group.differences, coefficients, out);
}

/** Scales θ in place to the nearest point of the ball ‖θ‖₂ ≤ radius. */
export function projectOnBall(theta: Float64Array, radius: number): void {
  const length = norm(theta);
  if (length > radius) for (let j = 0; j < theta.length; j++) theta[j] *= radius / length;
}

/** Math.hypot, which no size overflows, takes longer than all the rest of a per-sample step: it is kept for sizes that need it. */
function norm(vector: Float64Array): number {
  const square = dot(vector, vector);
  return square > 1e-280 && square < 1e280 ? Math.sqrt(square) : Math.hypot(...vector);
}

/**
 * Rows of the row-major matrix times `vector`. Four columns a pass, whose coefficients stay in registers: with d = 4, the
 * paper's case, this is one pass without an inner loop. Two rows a turn, since V8 does not unroll loops.
 */
function multiply(rows: Float64Array, vector: Float64Array, out: Float64Array): Float64Array {
  const d = vector.length;
  const blocked = d - (d % 4);
  const n = out.length;
  out.fill(0);
  for (let j = 0; j < blocked; j += 4) {
    const a = vector[j];
    const b = vector[j + 1];
    const c = vector[j + 2];
    const e = vector[j + 3];
    let i = 0;
    let at = j;
    for (; i < n - 1; i += 2, at += 2 * d) {
      const next = at + d;
      out[i] += a * rows[at] + b * rows[at + 1] + c * rows[at + 2] + e * rows[at + 3];
      out[i + 1] += a * rows[next] + b * rows[next + 1] + c * rows[next + 2] + e * rows[next + 3];
    }
    if (i < n) out[i] += a * rows[at] + b * rows[at + 1] + c * rows[at + 2] + e * rows[at + 3];
  }
  for (let j = blocked; j < d; j++)
    for (let i = 0, at = j; i < out.length; i++, at += d) out[i] += vector[j] * rows[at];
  return out;
}

/** Adds Σ_i c_i row_i of the row-major matrix to `out`, in blocks of four columns and two rows as in {@link multiply}. */
function addRows(rows: Float64Array, coefficients: Float64Array, out: Float64Array): void {
  const d = out.length;
  const n = coefficients.length;
  const blocked = d - (d % 4);
  for (let j = 0; j < blocked; j += 4) {
    let a = 0;
    let b = 0;
    let c = 0;
    let e = 0;
    let i = 0;
    let at = j;
    for (; i < n - 1; i += 2, at += 2 * d) {
      const next = at + d;
      const first = coefficients[i];
      const second = coefficients[i + 1];
      a += first * rows[at] + second * rows[next];
      b += first * rows[at + 1] + second * rows[next + 1];
      c += first * rows[at + 2] + second * rows[next + 2];
      e += first * rows[at + 3] + second * rows[next + 3];
    }
    if (i < n) {
      const coefficient = coefficients[i];
      a += coefficient * rows[at];
      b += coefficient * rows[at + 1];
      c += coefficient * rows[at + 2];
      e += coefficient * rows[at + 3];
    }
    out[j] += a;
    out[j + 1] += b;
    out[j + 2] += c;
    out[j + 3] += e;
  }
  for (let j = blocked; j < d; j++) {
    let sum = 0;
    for (let i = 0, at = j; i < coefficients.length; i++, at += d) sum += coefficients[i] * rows[at];
    out[j] += sum;
  }
}
