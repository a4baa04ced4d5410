import type { PairDataset } from '../../src/data/pairs/dataset.js';
import type { NativeBatch } from '../../src/native/types.js';
import { logSumExp } from '../../src/objective/simplex.js';
import type { LogProbabilitySource, Policy, StepReport, StepSettings } from '../../src/policy/policy.js';

export const vocabulary = 6;

/**
 * The smallest policy there is: each response token is drawn from softmax(θ) whatever came before. It needs no addon, and
 * its gradient (counts minus probabilities) is written down here by hand.
 */
export class UnigramPolicy implements Policy<NativeBatch> {
  readonly theta = Float64Array.from({ length: vocabulary }, (_, token) => Math.sin(token));
  private readonly start = this.theta.slice();
  private readonly accumulators = new Map<number, Float64Array>();
  private recorded: NativeBatch | undefined;
  readonly batches: NativeBatch[] = [];
  steps = 0;

  logProbabilities(batch: NativeBatch, source: LogProbabilitySource) {
    const theta = source === 'policy' ? this.theta : this.start;
    const total = logSumExp(theta);
    return Float64Array.from(responsesOf(batch), ({ tokens }) =>
      tokens.reduce((sum, token) => sum + theta[token] - total, 0),
    );
  }

  forward(batch: NativeBatch) {
    this.recorded = batch;
    this.batches.push(batch);
    return this.logProbabilities(batch, 'policy');
  }

  backward(cotangents: Float64Array, accumulators: Int32Array) {
    const total = logSumExp(this.theta);
    responsesOf(this.recorded as NativeBatch).forEach(({ tokens, tree }, r) => {
      const sums = this.accumulators.get(accumulators[tree]) ?? new Float64Array(vocabulary);
      this.accumulators.set(accumulators[tree], sums);
      for (const token of tokens) sums[token] += cotangents[r];
      for (let v = 0; v < vocabulary; v++) sums[v] -= cotangents[r] * tokens.length * Math.exp(this.theta[v] - total);
    });
  }

  discardGradients() {
    this.accumulators.clear();
  }

  gradient(coefficients: Float64Array) {
    const sum = new Float64Array(vocabulary);
    for (const [k, values] of this.accumulators)
      for (let v = 0; v < vocabulary; v++) sum[v] += coefficients[k] * values[v];
    return sum;
  }

  step(coefficients: Float64Array, settings: StepSettings): StepReport | Promise<StepReport> {
    return this.descend(this.gradient(coefficients), settings);
  }

  protected descend(
    gradient: Float64Array,
    { learningRate, maxGradNorm = Number.POSITIVE_INFINITY }: StepSettings,
  ): StepReport {
    const gradNorm = Math.hypot(...gradient);
    this.accumulators.clear();
    if (!Number.isFinite(gradNorm)) return { gradNorm };
    const scale = Math.min(1, maxGradNorm / gradNorm);
    for (let v = 0; v < vocabulary; v++) this.theta[v] -= learningRate * scale * gradient[v];
    this.steps++;
    return { gradNorm };
  }
}

export function responsesOf(batch: NativeBatch): { tokens: number[]; tree: number }[] {
  const found: { tokens: number[]; tree: number }[] = [];
  let offset = 0;
  for (let tree = 0; tree < batch.promptLengths.length; tree++) {
    offset += batch.promptLengths[tree];
    for (let r = 0; r < batch.responseCounts[tree]; r++) {
      const length = batch.responseLengths[found.length];
      found.push({ tokens: [...batch.tokens.subarray(offset, offset + length)], tree });
      offset += length;
    }
  }
  return found;
}

/** Pairs [group, chosen tokens, rejected tokens, weight?]; every prompt differs. */
export function dataset(rows: [number, number[], number[], number?][]): PairDataset {
  const groupCount = Math.max(...rows.map(([group]) => group)) + 1;
  return {
    file: 'made.jsonl',
    groups: Array.from({ length: groupCount }, (_, g) => `g${g}`),
    pairs: rows.map(([group, chosen, rejected, weight = 1], i) => ({
      id: `made.jsonl:${i + 1}`,
      group,
      prompt: Int32Array.of(2, i),
      chosen: Int32Array.from(chosen),
      rejected: Int32Array.from(rejected),
      weight,
    })),
    counts: Array.from({ length: groupCount }, (_, g) => rows.filter(([group]) => group === g).length),
    report: {
      dropped: { empty: 0, degenerate: 0, tooLong: 0 },
      boundaryDiffers: { count: 0, firstLines: [] },
      warnings: [],
    },
  };
}
