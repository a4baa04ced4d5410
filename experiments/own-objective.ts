/**
 * A loss and a weighting of one's own, in a file of one's own: nothing in the package knows of them. The loss is AdaBoost's, e^(−βh); the
 * weights follow the rank of each group's mean loss so far, rank-dependent as in ordered weighted averages (Yager 1988).
 *
 *   npx tsx experiments/own-objective.ts
 *
 * Expected: the worst group's loss falls from 1, where policy and reference are one model, and the weights end as 2/3 and 1/3, the larger on
 * the group that has been worse on the whole. Exits 1 where they do not. In a project of yours the imports come from 'group-robust-po'.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  evaluatePairs,
  GemmaPolicy,
  type GroupWeights,
  gradientAccumulators,
  loadPairs,
  marginObjective,
  openTokenizer,
  Reference,
  resolveConfig,
  scoredDataset,
  trainPolicy,
} from '../src/index.js';

const beta = 0.1;
const loss = marginObjective({
  beta,
  value: (h) => Math.exp(-beta * h),
  derivative: (h) => -beta * Math.exp(-beta * h),
});

/** The group of the r-th largest mean loss so far has weight ∝ 1/r. A checkpoint keeps the sums. */
class RankWeights implements GroupWeights {
  readonly name = 'rank';
  readonly alpha: Float64Array;
  readonly weights: Float64Array;
  private sums: number[];

  constructor(groupCount: number) {
    this.alpha = new Float64Array(groupCount).fill(1 / groupCount);
    this.weights = this.alpha;
    this.sums = new Array<number>(groupCount).fill(0);
  }

  next(signal: Float64Array): Float64Array {
    this.sums = this.sums.map((sum, g) => sum + signal[g]);
    const order = [...this.sums.keys()].sort((a, b) => this.sums[b] - this.sums[a]);
    const total = order.reduce((sum, _, rank) => sum + 1 / (rank + 1), 0);
    order.forEach((g, rank) => {
      this.alpha[g] = 1 / (rank + 1) / total;
    });
    return this.weights.slice();
  }

  state(): object {
    return { sums: this.sums, alpha: [...this.alpha] };
  }

  restore({ sums, alpha }: { sums: number[]; alpha: number[] }): void {
    this.sums = sums;
    this.alpha.set(alpha);
  }
}

const folder = mkdtempSync(join(tmpdir(), 'own-objective-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
const file = join(folder, 'pairs.jsonl');
const rows = ['bank', 'landlord', 'mayor'].flatMap((who) => [
  { group: 'formal', prompt: `formal: Write to my ${who}.`, chosen: 'Good day.', rejected: 'Hi!' },
  { group: 'casual', prompt: `casual: Write to my ${who}.`, chosen: 'Hi!', rejected: 'Good day.' },
]);
writeFileSync(file, rows.map((row) => JSON.stringify(row)).join('\n'));

// Everything but the objective, which is ours: the configuration needs one, and it is left out below.
const { objective: _, ...settings } = resolveConfig({
  model: 'random:tiny',
  output: join(folder, 'run'),
  data: { train: file },
  objective: { loss: 'dpo', beta },
  optimizer: { learningRate: 0.003 },
  batch: { size: rows.length },
  steps: 30,
});

using policy = await GemmaPolicy.open(settings.model, { threads: 1 });
const { vocabulary } = policy.config;
const pairs = await loadPairs(file, { tokenizer: () => openTokenizer(settings.model), vocabulary, bos: policy.bos });
await policy.addAdapter({ rank: 8, alpha: 32 }, { seed: 1, accumulators: gradientAccumulators(pairs, rows.length) });
const reference = new Reference(policy);
const weighting = new RankWeights(pairs.groups.length);
await trainPolicy(policy, pairs, undefined, settings, { reference, onStep: () => {} }, undefined, { loss, weighting });

const { groups, worst } = await evaluatePairs(policy, await scoredDataset(pairs, reference), loss);
for (const [g, name] of pairs.groups.entries())
  console.log(`${name}: loss ${groups[name].loss?.toFixed(4)}, weight ${weighting.weights[g].toFixed(4)}`);
const larger = Math.max(...weighting.weights);
if (!((worst.loss ?? 1) < 1) || Math.abs(larger - 2 / 3) > 1e-12) process.exitCode = 1;
