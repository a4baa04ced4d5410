import { InputError } from '../errors.js';
import type { DType } from '../native/types.js';
import { methodName } from '../objective/method-name.js';
import { type Device, defaultDType } from '../policy/device.js';
import { GemmaPolicy } from '../policy/gemma.js';
import { isRewardAdapter } from '../policy/peft.js';
import { adapterReference, type ReferenceRecord, readRecord } from '../policy/reference-record.js';
import { defaultLora, resolveConfig, type TrainConfig } from './config.js';
import type { HubNames } from './inputs.js';
import { pairObjective } from './objective.js';
import { lossOf } from './objective-config.js';

/** The policy of a run and its reference, as the configuration says. */

/**
 * The configuration with its `dtype`, which by default is that of the device.
 * @param begun of a run that goes on: with another type of numbers it would be another run, wherever it goes on
 */
export function withDType(config: TrainConfig, device: Device, begun?: DType): TrainConfig {
  // Resolved again, which puts the key in its place and holds baseDtype against it.
  return config.dtype === undefined ? resolveConfig({ ...config, dtype: begun ?? defaultDType(device) }) : config;
}

export async function openForTraining(config: TrainConfig, device: Device): Promise<GemmaPolicy> {
  const { model, dtype, baseDtype, recompute, threads } = config;
  return GemmaPolicy.open(model, { device, dtype, baseDtype, recompute, threads });
}

/**
 * A new adapter, or the one to start from; in that case it is frozen as the reference unless the base is asked for. A reward model starts
 * from a policy too, and gets its head here.
 */
export async function prepareAdapter(policy: GemmaPolicy, config: TrainConfig, accumulators: number): Promise<void> {
  const { betas, epsilon, weightDecay } = config.optimizer;
  const scoreHead = config.objective.loss === 'reward';
  const training = { seed: config.seed, accumulators, optimizer: { betas, epsilon, weightDecay }, scoreHead };
  if (config.adapter === undefined) {
    await policy.addAdapter(config.lora ?? defaultLora, training);
    return;
  }
  if (isRewardAdapter(config.adapter))
    throw new InputError(`${config.adapter} is a reward model, and no run starts from one`, {
      at: { field: 'adapter' },
      fix: `name ${scoreHead ? 'the policy that it was trained from' : 'a policy, such as the adapter of an SFT run'}, or leave it out`,
    });
  await policy.loadAdapter(config.adapter, training);
  if (config.reference !== 'base' && !scoreHead) await policy.freezeReference();
}

/**
 * What is recorded beside the adapter `folder` of a run. The reference of a reward model is what it started from: that of the policy
 * π ∝ π_ref exp(r/β) that is best for it.
 */
export async function trainedAgainst(config: TrainConfig, hub: HubNames, folder: string): Promise<ReferenceRecord> {
  const id = hub.adapter && `${hub.adapter.id}@${hub.adapter.commit}`;
  const hasReference = pairObjective(config.objective).usesReference || config.objective.loss === 'reward';
  const reference = !hasReference
    ? 'none'
    : config.adapter !== undefined && config.reference !== 'base'
      ? await adapterReference(folder, config.adapter, id)
      : 'base';
  const { objective, data } = config;
  return { method: methodName(objective), objective: lossOf(objective), reference, template: data.template };
}

/** What to say where the adapter to start from has seen its prompts in another form, as far as its folder tells. */
export function templateWarning({ adapter, data: { template } }: TrainConfig): string | undefined {
  const record = adapter === undefined ? undefined : readRecord(adapter);
  if (record === undefined || record.template === template) return undefined;
  const named = (text?: string) => (text === undefined ? 'without a template' : `with the template "${text}"`);
  return `${adapter} was trained ${named(record.template)}, and this run goes on from it ${named(template)} (data.template)`;
}
