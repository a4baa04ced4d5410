import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** What both experiments on survey answers are made of: SFT, then IPO and GR-IPO from its model, on the same pairs. */

/** The methods compared. */
export const comparedMethods = ['ipo', 'gr-ipo'] as const;
export const stages = ['sft', ...comparedMethods] as const;
export type Stage = (typeof stages)[number];

/** The configuration of one stage, in experiments/ of this package. */
export function configFile(experiment: 'global-opinions' | 'survey', stage: Stage): string {
  return fileURLToPath(new URL(`../../experiments/${experiment}/${stage}.yaml`, import.meta.url));
}

/** `key=value`, as `--set` takes it, whatever the value holds: JSON is YAML. */
export function setting(key: string, value: string | number): string {
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
