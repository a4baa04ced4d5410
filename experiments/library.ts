/**
 * The package as a library: pairs of two groups, a policy, GR-DPO in a loop that you watch, exact metrics by group, and the method's
 * core by itself for a model of your own, of which it needs log-probabilities only.
 *
 *   npx tsx experiments/library.ts
 *
 * Expected: the worst group's loss falls from log 2 = 0.693, where policy and reference are one model, and α leaves 1/2. Exits 1 where
 * it does not. In a project of yours the imports come from 'group-robust-po'.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  evaluatePairs,
  GemmaPolicy,
  GroupTotals,
  gradientAccumulators,
  groupWeights,
  loadPairs,
  marginLoss,
  openTokenizer,
  pairObjective,
  preferenceTerms,
  Reference,
  resolveConfig,
  robustStep,
  scoredDataset,
  trainPolicy,
} from '../src/index.js';

const folder = mkdtempSync(join(tmpdir(), 'library-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
const file = join(folder, 'pairs.jsonl');
const wishes = { formal: ['Good day.', 'Hi!'], casual: ['Hi!', 'Good day.'] };
const rows = Object.entries(wishes).flatMap(([group, [chosen, rejected]]) =>
  ['Write to my bank.', 'Write to my landlord.', ...(group === 'formal' ? ['Write to the mayor.'] : [])].map(
    (prompt) => ({
      group,
      prompt: `${group}: ${prompt}`,
      chosen,
      rejected,
    }),
  ),
);
writeFileSync(file, rows.map((row) => JSON.stringify(row)).join('\n'));

// The settings of a configuration file, checked in the same way.
const config = resolveConfig({
  model: 'random:tiny',
  output: join(folder, 'run'),
  data: { train: file },
  objective: { loss: 'dpo', beta: 0.1, weights: 'mirror-ascent', step: 0.1 },
  optimizer: { learningRate: 0.003 },
  batch: { size: rows.length },
  steps: 40,
});

// Weights lie outside of JavaScript's memory: `using` frees them.
using policy = await GemmaPolicy.open(config.model, { threads: 1 });
const { layers, vocabulary } = policy.config;
const tokenizer = () => openTokenizer(config.model);
const pairs = await loadPairs(file, { tokenizer, vocabulary, bos: policy.bos });
await policy.addAdapter({ rank: 8, alpha: 32 }, { seed: 1, accumulators: gradientAccumulators(pairs, rows.length) });
console.log(`${pairs.pairs.length} pairs of ${pairs.groups.join(' and ')}, ${layers} layers`);

const reference = new Reference(policy);
const alpha = await trainPolicy(policy, pairs, undefined, config, {
  reference,
  onStep(line) {
    if (Number(line.step) % 10 === 0 && line.loss !== undefined)
      console.log(
        `step ${line.step}: worst group ${line['worst/group']}, loss ${Number(line['worst/loss']).toFixed(4)}`,
      );
  },
});

const objective = pairObjective(config.objective);
const { groups, worst } = await evaluatePairs(policy, await scoredDataset(pairs, reference), objective);
for (const [name, { loss, 'rewards/accuracies': accuracy }] of Object.entries(groups))
  console.log(`${name}: loss ${loss?.toFixed(4)}, reward accuracy ${accuracy}`);

// The same step for log-probabilities that come from anywhere: losses, then α, then the weights of the groups' gradients.
const logps = {
  chosen: Float64Array.of(-5, -6, -9),
  rejected: Float64Array.of(-6, -6, -7),
  referenceChosen: Float64Array.of(-6, -6, -8),
  referenceRejected: Float64Array.of(-6, -6, -8),
};
const terms = preferenceTerms(marginLoss({ loss: 'ipo', beta: 0.1 }), 'sum', logps);
const totals = new GroupTotals(2);
[0, 0, 1].forEach((group, i) => {
  totals.add(group, terms.losses[i], 1);
});
const weights = groupWeights({ weights: 'mirror-ascent', step: 0.01 }, [2, 1]);
const step = robustStep(totals, weights, [2 / 3, 1 / 3]);
console.log(
  `α ${Array.from(weights.alpha, (weight) => weight.toFixed(3)).join(', ')}, weighted loss ${step.loss.toFixed(2)}`,
);

const [last] = alpha.slice(-1);
if (!((worst.loss ?? 1) < Math.log(2)) || last[0] === 0.5) process.exitCode = 1;
