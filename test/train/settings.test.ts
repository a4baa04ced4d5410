import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { configKeys, resolveConfig } from '../../src/train/config.js';
import { runTraining } from '../../src/train/run.js';
import { writeLines } from '../data/helpers.js';
import { temporaryFolder } from '../temporary-folder.js';
import { writeIdPairs } from './id-pairs.js';

/** Every key of the configuration does something: a run with another value leaves other files. */

const folder = temporaryFolder();

function writePairs(name: string, count: number): string {
  return writeIdPairs(join(folder, name), count, (i) => ({
    group: ['x', 'y', 'z'][i % 5 > 2 ? 0 : i % 5],
    sex: ['f', 'm'][i % 2],
  }));
}
const [train, validation, other] = [writePairs('a.jsonl', 13), writePairs('b.jsonl', 10), writePairs('c.jsonl', 13)];
/** Token ids take no template. */
const texts = writeLines(
  folder,
  'texts.jsonl',
  ['x', 'y', 'z', 'x', 'y'].map((group, i) => ({ group, prompt: `Is it ${i}?`, chosen: 'Yes', rejected: 'No' })),
);
/** People under the names of both columns of the pairs, of two ages by turns. */
const peopleFile = (name: string, first: number) =>
  writeLines(
    folder,
    name,
    ['f', 'm', 'x', 'y', 'z'].map((who, i) => ({ who, sex: who, group: who, age: { now: 20 + ((i + first) % 2) } })),
  );
const byAge = { groupBy: 'age.now', people: { file: peopleFile('people.jsonl', 0), key: 'sex' } };

const base = {
  model: 'random:tiny?layers=1',
  threads: 1,
  data: { train, validation, test: validation },
  objective: { loss: 'dpo', beta: 0.5, weights: 'mirror-ascent', step: 0.1 },
  lora: { rank: 2 },
  optimizer: { learningRate: 0.01 },
  batch: { size: 3 },
  steps: 5,
};
/** For the settings of a plateau: every evaluation is no improvement, so every one cuts. */
const plateau = { patience: 0, threshold: 0.9, factor: 0.5 };
const withPlateau = { optimizer: { learningRate: 0.01, schedule: 'plateau', plateau }, evaluateEvery: 1 };
/** The adapter of a first run. */
const adapter = join(folder, 'first', 'adapter');

type Raw = Record<string, unknown>;
/** `raw` with `changes` to it, key by key at every depth. */
function changed(raw: object, changes: object): Raw {
  const all: Raw = { ...raw };
  for (const [key, value] of Object.entries(changes)) {
    const inner = value !== null && typeof value === 'object' && !Array.isArray(value);
    all[key] = inner ? changed((all[key] ?? {}) as object, value) : value;
  }
  return all;
}
const nested = (key: string, value: unknown): object =>
  key.split('.').reduceRight((inner: unknown, part) => ({ [part]: inner }), value) as object;

let runs = 0;
/** SHA-256 of all that a run leaves but its own settings and the time. */
async function outcome(raw: object, output = join(folder, `run-${runs++}`)): Promise<string> {
  const config = resolveConfig({ ...raw, output }, () => ({}));
  await runTraining(config, { quiet: true, log: () => {} });
  const hash = createHash('sha256');
  for (const name of readdirSync(output, { recursive: true, encoding: 'utf8' }).sort()) {
    hash.update(`${name.replace(/tfevents.*/, '')}\0`);
    if (
      !/config|run\.json|report|tfevents|SHA256SUMS|checkpoint\.json/.test(name) &&
      statSync(join(output, name)).isFile()
    )
      hash.update(readFileSync(join(output, name)));
  }
  return hash.digest('hex');
}

/** Another value of each key, with what has to be set besides for it to count. */
const changes: [key: string, value: unknown, besides?: object][] = [
  ['model', 'random:tiny?layers=1&seed=1'],
  ['adapter', adapter, { lora: undefined }],
  ['reference', 'base', { lora: undefined, adapter }],
  ['dtype', 'float64'],
  ['baseDtype', 'bfloat16'],
  ['seed', 1],
  ['data.train', other],
  ['data.validation', other],
  ['data.test', other],
  ['data.groups', ['z', 'y', 'x']],
  ['data.groupBy', ['group', 'sex']],
  ['data.people.file', peopleFile('swapped.jsonl', 1), { data: byAge }],
  ['data.people.key', 'group', { data: byAge }],
  ['data.template', 'In {group}: {prompt}', { data: { train: texts, validation: texts, test: texts } }],
  ['data.maxLength', 9, { data: { unusable: 'drop' } }],
  ['objective.loss', 'ipo'],
  ['objective.beta', 1],
  ['objective.labelSmoothing', 0.1],
  ['objective.gamma', 1, { objective: { loss: 'simpo' } }],
  ['objective.tilt', -0.1],
  ['objective.reduction', 'mean'],
  ['objective.weights', 'erm', { objective: { step: undefined } }],
  ['objective.ambiguity.set', 'chi-square', { objective: { ambiguity: { set: 'kl', radius: 0.001 } } }],
  ['objective.ambiguity.level', 0.9, { objective: { ambiguity: { set: 'cvar', level: 0.99 } } }],
  ['objective.ambiguity.radius', 0.01, { objective: { ambiguity: { set: 'kl', radius: 0.001 } } }],
  ['objective.ambiguity.shares', 'uniform', { objective: { ambiguity: { set: 'kl', radius: 0.001 } } }],
  ['objective.step', 0.2],
  ['objective.schedule', 'inverse-root'],
  ['objective.chi', 0.5],
  ['objective.mixture', 'pairs', { objective: { chi: 0.5 } }],
  ['objective.adjustment', 1],
  ['objective.floor', 0.333],
  ['objective.order', 'simultaneous'],
  ['objective.iterate', 'average'],
  ['objective.scaling', 'paper'],
  ['objective.pairWeights', [1, 2, 3], { objective: { weights: 'importance', step: undefined } }],
  ['lora.rank', 3],
  ['lora.alpha', 4],
  ['lora.targets', ['q_proj']],
  ['optimizer.learningRate', 0.02],
  ['optimizer.betas', [0.8, 0.9]],
  ['optimizer.epsilon', 1e-3],
  ['optimizer.weightDecay', 0.5],
  ['optimizer.maxGradNorm', 0.01],
  ['optimizer.averageFrom', 2],
  ['optimizer.warmupSteps', 2],
  ['optimizer.warmupRatio', 0.5],
  ['optimizer.schedule', 'cosine'],
  ['optimizer.plateau.watch', 'group-mean', changed(withPlateau, { optimizer: { plateau: { threshold: 0 } } })],
  ['optimizer.plateau.factor', 0.1, withPlateau],
  ['optimizer.plateau.stepFactor', 0.1, withPlateau],
  ['optimizer.plateau.patience', 1, withPlateau],
  ['optimizer.plateau.threshold', 0, withPlateau],
  ['optimizer.plateau.stopBelow', 0.004, withPlateau],
  ['batch.size', 4],
  ['batch.sampler', 'balanced'],
  ['epochs', 0.5, { steps: undefined }],
  ['steps', 4],
  ['evaluateEvery', 2],
  ['checkpoint.every', 2],
  ['checkpoint.keep', 1, { checkpoint: { every: 2 } }],
  ['checkpoint.best', true],
];

/** Keys that change no number of a run of whole, finite pairs; each has tests of its own. */
const without = [
  'tokenizer',
  'device',
  'recompute',
  'threads',
  'output',
  'data.unusable',
  'batch.micro',
  'distributed.timeout',
  'nonFinite.action',
  'nonFinite.limit',
];

beforeAll(async () => {
  await outcome(changed(base, { seed: 7 }), join(folder, 'first'));
});

it('the list is whole', () => {
  const keys = configKeys().filter((key, _, all) => !all.some((one) => one.startsWith(`${key}.`)));
  expect([...changes.map(([key]) => key), ...without].sort()).toEqual(keys.sort());
});

/** Where one without the key cannot be: with what it stands in for. */
const replaced = ['adapter', 'epochs', 'objective.weights'];

it.each(changes)('%s: %j makes another run', async (key, value, besides = {}) => {
  const before = replaced.includes(key) ? base : changed(base, besides);
  const after = changed(changed(base, besides), nested(key, value));
  expect(await outcome(after)).not.toBe(await outcome(before));
});

it('the same settings make the same run', async () => {
  expect(await outcome(base)).toBe(await outcome(base));
});

it('the seed decides the start of the adapter, and not only the order of the data', async () => {
  // Too small a rate for float32: the steps change nothing.
  const starts = [0, 1].map(async (seed) => {
    const output = join(folder, `start-${seed}`);
    await outcome(changed(base, { seed, optimizer: { learningRate: 1e-300 } }), output);
    return readFileSync(join(output, 'adapter', 'adapter_model.safetensors')).toString('hex');
  });
  expect(await starts[0]).not.toBe(await starts[1]);
});
