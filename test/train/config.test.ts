import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { InputError } from '../../src/errors.js';
import { methodName } from '../../src/objective/method-name.js';
import { configKeys } from '../../src/train/config.js';
import { loadConfig, printConfig } from '../../src/train/config-file.js';
import { otherNames } from '../../src/train/other-names.js';
import { temporaryFolder } from '../temporary-folder.js';

const base = `model: random:tiny
output: runs/x
data:
  train: train.jsonl
objective:
  loss: ipo
  beta: 0.1
steps: 3
`;

function load(text: string, overrides: string[] = []) {
  const file = join(temporaryFolder(), 'config.yaml');
  writeFileSync(file, text);
  return loadConfig(file, overrides);
}

function failure(text: string, overrides: string[] = []): InputError {
  try {
    load(text, overrides);
  } catch (error) {
    expect(error).toBeInstanceOf(InputError);
    return error as InputError;
  }
  throw new Error('the configuration was accepted');
}

const best = 'objective={loss: ipo, beta: 1, weights: best-response';

describe('training configuration', () => {
  it('fills in defaults, and its printed form resolves to itself', () => {
    const config = load(base);
    expect(config.batch).toEqual({ size: 16, sampler: 'proportional' });
    expect(config.optimizer.weightDecay).toBe(0.01);
    expect(load(printConfig(config))).toEqual(config);
  });

  it.each([
    [{ loss: 'dpo', weights: 'erm' }, 'dpo'],
    [{ loss: 'ipo', weights: 'importance' }, 'is-ipo'],
    [{ loss: 'dpo', weights: 'mirror-ascent', step: 0.1 }, 'gr-dpo'],
    [{ loss: 'ipo', weights: 'best-response' }, 'max-ipo'],
    [{ loss: 'ipo', weights: 'exp3', step: 0.1 }, 'exp3-ipo'],
    [{ loss: 'sft' }, 'sft'],
  ])('%j is called %s', (objective, name) => {
    const overrides = Object.entries(objective).map(([key, value]) => `objective.${key}=${value}`);
    if (objective.loss === 'sft') overrides.push('objective.beta=null');
    const config = load(base, overrides);
    expect(methodName(config.objective)).toBe(name);
    // Of all keys of an objective only those of its loss and weights.
    expect(config.objective).toEqual({
      beta: 0.1,
      reduction: 'sum',
      weights: 'erm',
      ...objective,
      ...(name === 'sft' && { beta: undefined }),
    });
  });

  it('an ambiguity set is part of the name, and prints as it is', () => {
    const set = ['objective.weights=mirror-ascent', 'objective.step=1', 'objective.ambiguity={set: cvar, level: 0.5}'];
    const config = load(base, set);
    expect(methodName(config.objective)).toBe('gr-cvar-ipo');
    expect(config.objective).toMatchObject({ ambiguity: { set: 'cvar', level: 0.5 } });
    expect(load(printConfig(config))).toEqual(config);
    expect(methodName(load(base, [...set, 'objective.ambiguity={set: simplex}']).objective)).toBe('gr-ipo');
  });

  it('losses without a reference are of means, and take no reference; a tilted one takes no micro-batches', () => {
    for (const loss of ['simpo', 'orpo']) {
      const own = ['adapter=runs/sft/adapter', `objective={loss: ${loss}, beta: 1}`];
      const config = load(base, own);
      expect(config.objective).toEqual({ loss, beta: 1, reduction: 'mean', weights: 'erm' });
      expect(load(printConfig(config))).toEqual(config);
      expect(failure(base, [...own, 'reference=base']).location.field).toBe('reference');
    }
    const tilted = failure(base, ['objective.tilt=1', 'batch.micro=2']);
    expect(tilted.location.field).toBe('batch.micro');
    expect(tilted.message).toContain('objective.tilt');
  });

  it('a loss tilted over the whole batch takes batches of pairs alike, as one set they have no other objective', () => {
    for (const sampler of ['balanced', 'stratified']) {
      const error = failure(base, ['objective.tilt=1', `batch.sampler=${sampler}`]);
      expect(error.location.field).toBe('batch.sampler');
      expect(error.message).toContain('must be proportional with objective.tilt and weights: erm');
      load(base, ['objective.tilt=1', 'objective.weights=uniform', `batch.sampler=${sampler}`]);
      load(base, [`batch.sampler=${sampler}`]);
    }
    load(base, ['objective.tilt=1']);
  });

  it('--set reaches nested keys, with YAML values', () => {
    const config = load(base, ['batch.micro=2', 'optimizer.betas=[0.8, 0.9]', 'data.groups=[A, "B (x)"]']);
    expect(config.batch.micro).toBe(2);
    expect(config.optimizer.betas).toEqual([0.8, 0.9]);
    expect(config.data.groups).toEqual(['A', 'B (x)']);
  });

  it.each(['{group}: {prompt}', '{group} says: why: {prompt}', '*{prompt}*', '[{group}'])(
    'a text that YAML takes for something else, %s, is told about quotes',
    (text) => {
      expect(() => load(base, [`data.template=${text}`])).toThrow(/--set 'data\.template="…"'/);
      expect(load(base, [`data.template="${text} {prompt} {group}"`]).data.template).toBe(`${text} {prompt} {group}`);
    },
  );

  it('an unknown key is named with its line and the keys that exist', () => {
    const error = failure(`${base}optimizer:\n  learningrate: 0.1\n`);
    expect(error.location).toMatchObject({ field: 'optimizer.learningrate', line: 10 });
    expect(error.fix).toContain('learningRate');
    expect(failure(`${base}packing: true\n`).location.field).toBe('packing');
  });

  it.each([
    ['objective:', 'objectve:', 'objectve', 'did you mean objective?'],
    ['  beta: 0.1', '  btea: 0.1', 'objective.btea', 'did you mean beta?'],
    ['steps: 3', 'optimizer: { learning_rate: 1 }', 'optimizer.learning_rate', 'did you mean learningRate?'],
  ])('%s written as %s is reported as misspelt, not as missing', (right, wrong, field, fix) => {
    const error = failure(base.replace(right, wrong));
    expect(error.location.field).toBe(field);
    expect(error.fix).toContain(fix);
  });

  it.each([
    ['lr: 1e-4', 'lr', 'lr is called optimizer.learningRate here'],
    ['batch: { per_device_train_batch_size: 4 }', 'batch.per_device_train_batch_size', 'batch.size'],
    ['beta: 0.1', 'beta', 'beta is called objective.beta here'],
    ['warmup_steps: 10', 'warmup_steps', 'optimizer.warmupSteps'],
    ['loss: { name: ipo }', 'loss', 'objective.loss'],
    ['constructor: 1', 'constructor', 'keys in this place: model'],
  ])('%s is answered with the key’s name here', (text, field, fix) => {
    const error = failure(`${base}${text}\n`);
    expect(error.location).toMatchObject({ field, line: 9 });
    expect(error.fix).toContain(fix);
  });

  it('every name from elsewhere leads to a key that exists, and is none itself', () => {
    const keys = configKeys();
    for (const [name, key] of Object.entries(otherNames)) {
      expect(keys).toContain(key);
      expect(keys).not.toContain(name);
    }
  });

  it.each([
    ['objective.labelSmoothing=0.1', 'objective.labelSmoothing', 'loss: dpo'],
    ['objective.loss=rdpo', 'objective.labelSmoothing', 'is needed with loss: rdpo'],
    ['objective={loss: rdpo, beta: 1, labelSmoothing: 0}', 'objective.labelSmoothing', 'above 0'],
    ['objective.gamma=1', 'objective.gamma', 'set loss: simpo'],
    ['objective={loss: simpo, beta: 1, reduction: sum}', 'objective.reduction', 'must be mean with loss: simpo'],
    ['objective={loss: simpo, beta: 1, labelSmoothing: 0.1}', 'objective.labelSmoothing', 'does nothing'],
    ['objective={loss: sft, tilt: 1}', 'objective.tilt', 'does nothing with loss: sft'],
    [
      'objective={loss: rdpo, beta: 1, labelSmoothing: 0.1, weights: best-response, scaling: batch-mean}',
      'objective.scaling',
      'batch-mean is not for loss: rdpo',
    ],
    [
      'objective={loss: rdpo, beta: 1, labelSmoothing: 0.1, weights: best-response}',
      'objective.weights',
      'set batch.sampler: stratified',
    ],
    ['baseDtype=float64', 'baseDtype', 'must be bfloat16, or dtype (float32)'],
    ['objective.chi=0.5', 'objective.chi', 'mirror-ascent'],
    ['objective.scaling=paper', 'objective.scaling', 'mirror-ascent'],
    ['objective.pairWeights=[1, 2]', 'objective.pairWeights', 'importance'],
    ['objective.weights=mirror-ascent', 'objective.step', 'needed'],
    ['objective.weights=exp3', 'objective.step', 'needed with weights: exp3'],
    ['objective={loss: ipo, beta: 1, weights: best-response, step: 1}', 'objective.step', 'set weights: mirror-ascent'],
    ['objective={loss: ipo, beta: 1, weights: exp3, step: 1, order: simultaneous}', 'objective.order', 'weights: exp3'],
    ['objective={loss: ipo, beta: 1, weights: best-response, mixture: pairs}', 'objective.mixture', 'chi below 1'],
    ['objective.ambiguity={set: simplex}', 'objective.ambiguity', 'weights: mirror-ascent'],
    [`${best}, ambiguity: {set: cvar}}`, 'objective.ambiguity.level', 'is needed with set: cvar'],
    [`${best}, ambiguity: {set: kl, radius: 1, level: 1}}`, 'objective.ambiguity.level', 'does nothing with set: kl'],
    [`${best}, ambiguity: {set: simplex, shares: uniform}}`, 'objective.ambiguity.shares', 'set: simplex'],
    [`${best}, ambiguity: {set: kl, radius: 0}}`, 'objective.ambiguity.radius', 'above 0'],
    [`${best}, ambiguity: {set: kl, radius: 1}, floor: 0.1}`, 'objective.floor', 'ambiguity set kl'],
    ['objective.beta=null', 'objective.beta', 'needed'],
    ['objective.loss=sft', 'objective.beta', 'nothing'],
    ['objective.beta=-1', 'objective.beta', ''],
    ['epochs=1', 'epochs', 'either'],
    ['batch.micro=17', 'batch.micro', '16'],
    ['evaluateEvery=5', 'evaluateEvery', 'validation'],
    ['optimizer.schedule=plateau', 'optimizer.schedule', 'data.validation'],
    ['optimizer={warmupSteps: 2, warmupRatio: 0.1}', 'optimizer.warmupRatio', 'remove one'],
    ['optimizer.plateau.patience=3', 'optimizer.plateau', 'set schedule: plateau'],
    ['checkpoint.best=true', 'checkpoint.best', 'data.validation'],
    ['reference=base', 'reference', 'adapter'],
    ['data.groups=[x, y, x]', 'data.groups', 'twice'],
    ['data.groupBy=[country, country]', 'data.groupBy', 'twice'],
    ['lora.targets=[q_proj, q_proj]', 'lora.targets', 'twice'],
    ['model=null', 'model', ''],
    ['seed=0.5', 'seed', ''],
    ['threads=100000', 'threads', '1024'],
    ['optimizer.learningRate=1e30', 'optimizer.learningRate', '1000000'],
    ['lora.alpha=1e300', 'lora.alpha', '1000000'],
    ['data.groupBy=overlap:country,sex', 'data.groupBy', 'write { overlap: [country, sex] }'],
    ['data.groupBy={overlap: []}', 'data.groupBy.overlap', 'must have at least one entry'],
  ])('%s is refused at %s', (override, field, text) => {
    const error = failure(base, [override]);
    expect(error.location.field).toBe(field);
    expect(error.message).toContain(text);
  });

  it('the hard max is for rdpo where each batch has all groups', () => {
    const rdpo = 'objective={loss: rdpo, beta: 1, labelSmoothing: 0.1, weights: best-response}';
    expect(load(base, [rdpo, 'batch.sampler=stratified']).objective).toMatchObject({ weights: 'best-response' });
  });

  it('a plateau has the paper’s settings, and refuses those that would do nothing', () => {
    const plateau = ['optimizer.schedule=plateau', 'data.validation=validation.jsonl'];
    const config = load(base, plateau);
    expect(config.optimizer.plateau).toEqual({
      watch: 'worst-group',
      factor: 0.1,
      patience: 4,
      threshold: 1e-3,
      stopBelow: 1.001e-8,
    });
    expect(load(printConfig(config))).toEqual(config);
    const refused = (setting: string) => failure(base, [...plateau, `optimizer.plateau.${setting}`]);
    expect(refused('stepFactor=0.5').message).toContain('set weights: mirror-ascent');
    expect(refused('stopBelow=1').message).toContain('is 1, above learningRate 0.0001');
    const low = failure(base, [...plateau, 'optimizer.learningRate=1e-8']);
    expect(low.message).toContain('is 1.001e-8, above learningRate 1e-8');
    expect(refused('cooldown=1').fix).toContain('keys in this place: watch, factor');
  });

  it('all keys at fault are told at once, each with its line and what to do', () => {
    const keys = ['model_name_or_path: m', 'num_train_epochs: 3', 'packing: true', 'fsdp: on', 'objektive: {}'];
    const { message, location } = failure(keys.join('\n'));
    expect(location).toMatchObject({ field: 'model_name_or_path', line: 1 });
    const [file] = message.split(':1,');
    expect(message.split('\n').map((line) => line.replace(file, 'FILE'))).toEqual([
      'FILE:1, field "model_name_or_path": unknown key',
      '  fix: model_name_or_path is called model here',
      'FILE:2, field "num_train_epochs": unknown key',
      '  fix: num_train_epochs is called epochs here',
      'FILE:3, field "packing": unknown key',
      expect.stringMatching(/^ {2}fix: keys in this place: model, tokenizer, /),
      'FILE:4, field "fsdp": unknown key',
      '  fix: remove it',
      'FILE:5, field "objektive": unknown key',
      '  fix: did you mean objective?',
    ]);
  });

  it.each([
    ['model=null', 'field "model": is missing'],
    ['model=3', '--set, field "model": must be text, not 3'],
    ['seed=0.5', '--set, field "seed": must be a whole number, not 0.5'],
    ['objective.beta=-1', '--set, field "objective.beta": must be above 0, not -1'],
    ['objective={ loss: dpo, beta: x }', '--set, field "objective.beta": must be a number, not "x"'],
    ['objective.labelSmoothing=0.5', '--set, field "objective.labelSmoothing": must be below 0.5, not 0.5'],
    ['objective.loss=ippo', 'must be one of dpo, ipo, hinge, rdpo, simpo, orpo, reward, sft, not "ippo"'],
    ['objective.tilt=0', 'field "objective.tilt": must not be 0'],
    ['objective.loss=sigmoid', 'fix: sigmoid is called dpo here'],
    ['objective.loss=gr-ipo', 'fix: gr-ipo is loss: ipo with weights: mirror-ascent'],
    ['objective.loss=gr-simpo', 'fix: gr-simpo is loss: simpo with weights: mirror-ascent'],
    ['objective.loss=max-kl-dpo', 'fix: max-kl-dpo is loss: dpo with weights: best-response and ambiguity.set: kl'],
    ['loss_type=simpo', 'fix: write objective.loss: simpo'],
    ['loss_type=orpo', 'fix: write objective.loss: orpo'],
    ['simpo_gamma=0.5', 'fix: simpo_gamma is called objective.gamma here'],
    ['dtype=bf16', 'fix: bf16 is called bfloat16 here'],
    ['device=cuda1', '--set, field "device": must be cpu, cuda, cuda:N or auto'],
    ['device=gpu', 'fix: gpu is called cuda here'],
    ['bf16=false', 'fix: write dtype: float32'],
    ['use_cpu=true', 'fix: write device: cpu'],
    ['lora.targets=[q_proj, vproj]', 'must be one of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj'],
    ['lora.targets=all-linear', 'fix: leave it out: all seven are the default'],
    ['recompute=no thanks', 'must be true or false, not "no thanks"'],
  ])('%s is answered in words', (override, text) => {
    expect(failure(base, [override]).message).toContain(text);
  });

  it('the LoRA of a new adapter is filled in, and none beside an adapter', () => {
    expect(load(base).lora).toMatchObject({ rank: 8, alpha: 32, targets: expect.arrayContaining(['down_proj']) });
    expect(load(base, ['lora.rank=4']).lora).toMatchObject({ rank: 4, alpha: 32 });
    expect(load(base, ['adapter=some/adapter']).lora).toBeUndefined();
  });

  it('refuses malformed YAML, overrides without a value, and missing files', () => {
    expect(failure('model: [').location.line).toBeGreaterThan(0);
    expect(failure('model: *absent').message).toContain('alias');
    for (const text of ['model', '- model']) expect(failure(text, ['steps=1']).message).toContain('mapping');
    expect(failure(base, ['steps']).message).toContain('key=value');
    expect(failure(base, ['steps.x=1']).message).toContain('not a key');
    expect(() => loadConfig('/nonexistent.yaml')).toThrow(InputError);
  });

  it.each([
    ['a list that holds itself', 'data: &a [*a]'],
    ['a mapping that holds itself', 'data: &a { b: *a }'],
    ['lists within lists', `data: ${'['.repeat(1000)}${']'.repeat(1000)}`],
    ['so many that the parser overflows', `data: ${'['.repeat(1e5)}${']'.repeat(1e5)}`],
    [
      'aliases that multiply',
      ['a: &a0 [x]', ...Array.from({ length: 30 }, (_, i) => `a${i}: &a${i + 1} [*a${i}, *a${i}]`)].join('\n'),
    ],
  ])('refuses %s', (_, text) => {
    expect(failure(text).message).toMatch(/config\.yaml(:1)?: (is nested|Excessive alias count)/);
  });

  it('prints what readers of YAML 1.1 take for the same', () => {
    const names = ['no', 'on', '12:30', '1_000', '0o7', '5e-7'];
    const config = load(base, ['objective.beta=5e-7', `data.groups=${JSON.stringify(names)}`]);
    const text = printConfig(config);
    expect(text).toContain('beta: 5.0e-7\n');
    expect(text).toContain('epsilon: 1.0e-8\n');
    // As PyYAML does: without a point it is text.
    const version = '1.1';
    expect(parse(text, { version }).data.groups).toEqual(names);
    expect(load(text)).toEqual(config);
  });

  it('every key of the printed configuration is data, not code', () => {
    expect(parse(printConfig(load(base)))).toMatchObject({ model: 'random:tiny' });
  });
});
