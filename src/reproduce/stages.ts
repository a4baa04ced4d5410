import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { InputError } from '../errors.js';

/** What experiments on survey answers are made of: SFT, then several methods from its model, on the same pairs. */

/**
 * The methods that can be compared. A folder of configurations has a file of each, or of the one that it is like: with another loss or
 * other weights there is all that differs. GR-DPO is like none, since its step on α has to suit the size of its losses.
 */
const methods = {
  dpo: { like: 'ipo', settings: ['objective.loss=dpo'] },
  'is-dpo': { like: 'ipo', settings: ['objective.loss=dpo', 'objective.weights=importance'] },
  'gr-dpo': { like: 'gr-dpo', settings: [] },
  ipo: { like: 'ipo', settings: [] },
  'is-ipo': { like: 'ipo', settings: ['objective.weights=importance'] },
  'gr-ipo': { like: 'gr-ipo', settings: [] },
} as const;
export type Method = keyof typeof methods;
export const methodNames = Object.keys(methods) as Method[];

/** The methods of the paper's figures. */
export const comparedMethods = ['ipo', 'gr-ipo'] as const satisfies readonly Method[];

export type Stage = 'sft' | Method;

/** The folder of configurations of an experiment of this package. */
export function experimentFolder(experiment: 'global-opinions' | 'survey'): string {
  return fileURLToPath(new URL(`../../experiments/${experiment}`, import.meta.url));
}

/** The configuration of one stage: its file in `folder`, and what is set otherwise than there. */
export function stageConfig(folder: string, stage: Stage): { file: string; settings: readonly string[] } {
  const own = join(folder, `${stage}.yaml`);
  if (stage === 'sft' || existsSync(own)) return { file: own, settings: [] };
  const { like, settings } = methods[stage];
  const file = join(folder, `${like}.yaml`);
  if (!existsSync(file))
    throw new InputError('no such file', {
      at: { file },
      fix: `write the configuration of ${stage}, or leave that method out`,
    });
  return { file, settings };
}

/** The method whose settings a stage shares. */
export function likeStage(stage: Stage): Stage {
  return stage === 'sft' ? stage : methods[stage].like;
}

/** `key=value`, as `--set` takes it, whatever the value holds: JSON is YAML. */
export function setting(key: string, value: unknown): string {
  return `${key}=${JSON.stringify(value)}`;
}

/** The settings that place one run: its seed and folder, the folder of the pairs, and that of the SFT run to start from. */
export function placeSettings(
  stage: Stage,
  place: { seed: number; output: string; data: string; sft: string },
): string[] {
  return [
    setting('seed', place.seed),
    setting('output', place.output),
    ...['train', 'validation', 'test'].map((split) => setting(`data.${split}`, join(place.data, `${split}.jsonl`))),
    ...(stage === 'sft' ? [] : [setting('adapter', join(place.sft, 'adapter'))]),
  ];
}
