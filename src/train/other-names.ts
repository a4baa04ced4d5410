import { editDistance } from '../data/tables/near-matches.js';
import { parseMethod } from '../objective/method-name.js';
import { pairLossNames } from '../objective/pairs.js';

/**
 * What keys are called elsewhere: in TRL and transformers, PEFT, and the authors' code. A key that is merely misspelt, written
 * in another case, or put under another parent needs no line here.
 */
export const otherNames: Readonly<Record<string, string>> = {
  lr: 'optimizer.learningRate',
  alpha_lr: 'objective.step',
  eta: 'objective.step',
  eta_alpha: 'objective.step',
  step_size: 'objective.step',
  exp_step_size: 'objective.step',
  rdpo_exp_step_size: 'objective.step',
  adj: 'objective.adjustment',
  rdpo_adj: 'objective.adjustment',
  divide_by_totalcount: 'objective.scaling',
  simpo_gamma: 'objective.gamma',
  importance_sampling: 'objective.weights',
  imp_weights: 'objective.pairWeights',
  importance_sampling_weights: 'objective.pairWeights',
  adam_epsilon: 'optimizer.epsilon',
  clip_norm: 'optimizer.maxGradNorm',
  lr_scheduler: 'optimizer.schedule',
  warmup_ratio: 'optimizer.warmupRatio',
  lr_scheduler_type: 'optimizer.schedule',
  scheduler: 'optimizer.schedule',
  patience_factor: 'optimizer.plateau.patience',
  batch_size: 'batch.size',
  train_batch_size: 'batch.size',
  micro_batch_size: 'batch.micro',
  n_epochs: 'epochs',
  num_epochs: 'epochs',
  num_train_epochs: 'epochs',
  eval_every: 'evaluateEvery',
  eval_steps: 'evaluateEvery',
  save_steps: 'checkpoint.every',
  save_total_limit: 'checkpoint.keep',
  load_best_model_at_end: 'checkpoint.best',
  output_dir: 'output',
  local_run_dir: 'output',
  model_name_or_path: 'model',
  name_or_path: 'model',
  ref_model: 'reference',
  torch_dtype: 'dtype',
  gradient_checkpointing: 'recompute',
  policy_dtype: 'dtype',
  tokenizer_name_or_path: 'tokenizer',
  r: 'lora.rank',
  lora_r: 'lora.rank',
  lora_alpha: 'lora.alpha',
  target_modules: 'lora.targets',
  lora_target_modules: 'lora.targets',
  max_seq_length: 'data.maxLength',
  train_file: 'data.train',
  validation_file: 'data.validation',
  test_file: 'data.test',
  group_by: 'data.groupBy',
};

type Values = Readonly<Record<string, unknown>>;

/**
 * Keys of TRL and transformers whose numbers differ from those here, each with what to write, given the values beside it, so that a step stays
 * the same. test/train/trl.test.ts compares this with TRL's own trainer.
 */
const otherNumbers: Readonly<Record<string, (values: Values) => string | undefined>> = {
  per_device_train_batch_size: batchAdvice,
  gradient_accumulation_steps: batchAdvice,
  loss_type: ({ loss_type }) =>
    lossAdvice(Array.isArray(loss_type) && loss_type.length === 1 ? loss_type[0] : loss_type),
  label_smoothing: ({ loss_type = 'sigmoid', label_smoothing: value }) =>
    value === 0 || ['sigmoid', 'hinge', 'ipo'].includes(String(loss_type))
      ? `leave it out: TRL does not use it with loss_type: ${loss_type}`
      : undefined,
  // A part of the steps where it is below 1.
  warmup_steps: ({ warmup_steps: value }) =>
    typeof value === 'number' && value > 0 && value < 1 ? `write optimizer.warmupRatio: ${value}` : undefined,
  max_grad_norm: ({ max_grad_norm: value }) =>
    value === 0 ? 'write optimizer.maxGradNorm: 1e9, which cuts nothing' : undefined,
  max_steps: ({ max_steps: value, num_train_epochs: epochs }) =>
    typeof value === 'number' && value > 0
      ? `write steps: ${value}${epochs === undefined ? '' : ', and leave num_train_epochs out, which it overrides'}`
      : 'leave it out: epochs then count',
  num_train_epochs: ({ max_steps: steps }) =>
    typeof steps === 'number' && steps > 0 ? 'leave it out: max_steps overrides it' : undefined,
  adam_beta1: betasAdvice,
  adam_beta2: betasAdvice,
  bf16: ({ bf16 }) => `write dtype: ${bf16 === true ? 'bfloat16' : 'float32'}`,
  use_cpu: ({ use_cpu }) =>
    use_cpu === true ? 'write device: cpu' : 'leave it out: a GPU is taken where there is one',
  // Here the run ends at the evaluation after the last one that `patience` allows.
  early_stopping_patience: ({ early_stopping_patience: value }) =>
    typeof value === 'number' && value > 0
      ? `write optimizer.schedule: plateau and optimizer.plateau.patience: ${value - 1}, with optimizer.plateau.stopBelow as high as the learning rate`
      : undefined,
  early_stopping_threshold: () =>
    'write optimizer.plateau.threshold, which is a part of the best loss and not a difference from it',
};

/** A batch of TRL is what one device scores at once; an optimiser step sums several. */
function batchAdvice(values: Values): string {
  const device = Number(values.per_device_train_batch_size ?? 8);
  const accumulated = Number(values.gradient_accumulation_steps ?? 1);
  const size = device * accumulated;
  const micro = accumulated > 1 ? ` and batch.micro: ${device}` : '';
  return Number.isInteger(size) && size > 0
    ? `write batch.size: ${size}${micro} (pairs of an optimiser step: per_device_train_batch_size × gradient_accumulation_steps, times the number of devices)`
    : 'write batch.size: the pairs of an optimiser step, per_device_train_batch_size × gradient_accumulation_steps';
}

function betasAdvice({ adam_beta1: first = 0.9, adam_beta2: second = 0.999 }: Values): string {
  return `write optimizer.betas: [${first}, ${second}]`;
}

/** TRL averages over tokens in IPO and in its normalised sigmoid loss. */
function lossAdvice(type: unknown): string {
  const losses: Readonly<Record<string, string>> = {
    sigmoid: 'objective.loss: dpo',
    sigmoid_norm: 'objective.loss: dpo and objective.reduction: mean',
    ipo: 'objective.loss: ipo and objective.reduction: mean',
    hinge: 'objective.loss: hinge',
    robust: 'objective.loss: rdpo, with objective.labelSmoothing: its label_smoothing',
    sft: 'objective.loss: sft',
    simpo: 'objective.loss: simpo',
    orpo: 'objective.loss: orpo',
  };
  const known = losses[String(type)];
  return known ? `write ${known}` : `there is no ${type} here; objective.loss takes ${pairLossNames.join(', ')}`;
}

/** What values are called elsewhere, or how the method they stand for is written here. */
const otherValues: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'objective.loss': { sigmoid: 'dpo', nll: 'sft' },
  'optimizer.schedule': { constant_with_warmup: 'constant' },
  device: { gpu: 'cuda' },
  dtype: { bf16: 'bfloat16', fp32: 'float32', float: 'float32' },
  baseDtype: { bf16: 'bfloat16', fp32: 'float32', float: 'float32' },
};

/** What to write instead of a value that is refused; undefined where there is no advice. */
export function valueAdvice(key: string, value: unknown): string | undefined {
  const name = String(value).toLowerCase();
  const other = otherValues[key]?.[name];
  if (other !== undefined) return `${name} is called ${other} here`;
  if (key === 'lora.targets' && name === 'all-linear') return 'leave it out: all seven are the default';
  if (key !== 'objective.loss') return undefined;
  const method = parseMethod(name);
  if (method === undefined || method.loss === name) return undefined;
  const { loss, weights, set } = method;
  return `${name} is loss: ${loss} with weights: ${weights}${set === 'simplex' ? '' : ` and ambiguity.set: ${set}`}`;
}

/**
 * What to tell someone who wrote an unknown key; undefined where no key is similar.
 * @param wanted the unknown key, without its parents
 * @param siblings the keys that may stand in its place
 * @param all every key with its parents: `optimizer.learningRate`
 * @param values the keys beside it and itself, with their values
 */
export function keyAdvice(
  wanted: string,
  siblings: readonly string[],
  all: readonly string[],
  values: Values = {},
): string | undefined {
  const converted = ownValue(otherNumbers, wanted)?.(values);
  if (converted !== undefined) return converted;
  const elsewhere = (path: string) => `${wanted} is called ${path} here`;
  const renamed = ownValue(otherNames, wanted);
  if (renamed !== undefined) return elsewhere(renamed);
  const misspelt = (distance: number) =>
    siblings.find((key) => key.length > 2 && editDistance(plain(wanted), plain(key)) <= distance);
  // A name that is right elsewhere is a better guess than one that is nearly right here.
  const same = all.find((path) => plain(path.replace(/.*\./, '')) === plain(wanted));
  if (misspelt(0) === undefined && same !== undefined) return elsewhere(same);
  const near = misspelt(0) ?? misspelt(2);
  return near === undefined ? undefined : `did you mean ${near}?`;
}

/** For keys that come from the user: "constructor" is not one of ours. */
function ownValue<T>(record: Readonly<Record<string, T>>, key: string): T | undefined {
  return Object.hasOwn(record, key) ? record[key] : undefined;
}

function plain(key: string): string {
  return key.replaceAll(/[_-]/g, '').toLowerCase();
}
