import { editDistance } from '../data/near-matches.js';
import { methodPrefixes } from '../objective/group-weights.js';
import { lossNames } from '../objective/losses.js';

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
  loss_type: 'objective.loss',
  divide_by_totalcount: 'objective.scaling',
  importance_sampling: 'objective.weights',
  imp_weights: 'objective.pairWeights',
  importance_sampling_weights: 'objective.pairWeights',
  adam_beta1: 'optimizer.betas',
  adam_beta2: 'optimizer.betas',
  adam_epsilon: 'optimizer.epsilon',
  clip_norm: 'optimizer.maxGradNorm',
  lr_scheduler: 'optimizer.schedule',
  warmup_ratio: 'optimizer.warmupSteps',
  lr_scheduler_type: 'optimizer.schedule',
  scheduler: 'optimizer.schedule',
  patience_factor: 'optimizer.plateau.patience',
  early_stopping_patience: 'optimizer.plateau.patience',
  early_stopping_threshold: 'optimizer.plateau.threshold',
  batch_size: 'batch.size',
  train_batch_size: 'batch.size',
  per_device_train_batch_size: 'batch.size',
  gradient_accumulation_steps: 'batch.micro',
  micro_batch_size: 'batch.micro',
  n_epochs: 'epochs',
  num_epochs: 'epochs',
  num_train_epochs: 'epochs',
  max_steps: 'steps',
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
  bf16: 'dtype',
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

/** What values are called elsewhere, or how the method they stand for is written here. */
const otherValues: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'objective.loss': { sigmoid: 'dpo', nll: 'sft' },
  dtype: { bf16: 'bfloat16', fp32: 'float32', float: 'float32' },
  baseDtype: { bf16: 'bfloat16', fp32: 'float32', float: 'float32' },
};

/** What to write instead of a value that is refused; undefined where nothing is known of it. */
export function valueAdvice(key: string, value: unknown): string | undefined {
  const name = String(value).toLowerCase();
  const other = otherValues[key]?.[name];
  if (other !== undefined) return `${name} is called ${other} here`;
  if (key === 'lora.targets' && name === 'all-linear') return 'leave it out: all seven are the default';
  if (key !== 'objective.loss') return undefined;
  for (const [weights, prefix] of Object.entries(methodPrefixes))
    for (const loss of lossNames)
      if (prefix !== '' && name === prefix + loss) return `${name} is loss: ${loss} with weights: ${weights}`;
  return undefined;
}

/**
 * What to tell someone whose key there is none of; undefined where nothing is like it.
 * @param wanted the unknown key, without its parents
 * @param siblings the keys there are in its place
 * @param all every key there is, with its parents: `optimizer.learningRate`
 */
export function keyAdvice(wanted: string, siblings: readonly string[], all: readonly string[]): string | undefined {
  const elsewhere = (path: string) => `${wanted} is called ${path} here`;
  if (Object.hasOwn(otherNames, wanted)) return elsewhere(otherNames[wanted]);
  const misspelt = (distance: number) =>
    siblings.find((key) => key.length > 2 && editDistance(plain(wanted), plain(key)) <= distance);
  // A name that is right elsewhere is a better guess than one that is nearly right here.
  const same = all.find((path) => plain(path.split('.').at(-1) as string) === plain(wanted));
  if (misspelt(0) === undefined && same !== undefined) return elsewhere(same);
  const near = misspelt(0) ?? misspelt(2);
  return near === undefined ? undefined : `did you mean ${near}?`;
}

function plain(key: string): string {
  return key.replaceAll(/[_-]/g, '').toLowerCase();
}
