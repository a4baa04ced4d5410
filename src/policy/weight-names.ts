import type { NativeWeightNames } from '../native/types.js';

/**
 * The names of a model's weights. A text model has one form of them. A Gemma 3 that sees images too holds its language model in a module
 * of its own: `model.language_model` in transformers from 4.52 on, and so in PEFT, `language_model.model` before, and in files still.
 */

const textNames: NativeWeightNames = { model: 'model.', head: 'lm_head.weight' };
const moduleNames: NativeWeightNames = { model: 'model.language_model.', head: 'lm_head.weight' };
const fileNames: NativeWeightNames = { model: 'language_model.model.', head: 'language_model.lm_head.weight' };

/** The form that PEFT gives the modules of a model, whatever its files have. */
export function peftNames(multimodal: boolean): NativeWeightNames {
  return multimodal ? moduleNames : textNames;
}

/** The form of these names. */
export function namesAmong(names: readonly string[], multimodal: boolean): NativeWeightNames {
  const isOld = names.some((name) => name.startsWith(fileNames.model));
  return multimodal && isOld ? fileNames : peftNames(multimodal);
}

const visionPart = /^(?:model\.)?(vision_tower|multi_modal_projector)\.(?:vision_model\.)?/;

/** Whether a weight is of what turns images into the language model's inputs. */
export function isVision(name: string): boolean {
  return visionPart.test(name);
}

/** The name that a weight has in every form: of the language model as in a text model, of the rest as `vision_tower.…`. */
export function plainName(name: string, multimodal: boolean): string {
  if (!multimodal) return name;
  if (isVision(name)) return name.replace(visionPart, '$1.');
  for (const { model, head } of [moduleNames, fileNames]) {
    if (name.startsWith(model)) return textNames.model + name.slice(model.length);
    if (name === head) return textNames.head;
  }
  return name;
}

/** What is said once where weights of the vision model are left alone. */
export function visionNote(what: string, skipped: readonly { begin: number; end: number }[]): string {
  const megabytes = skipped.reduce((sum, { begin, end }) => sum + end - begin, 0) / 1e6;
  return (
    `${what}: ${skipped.length} tensors (${megabytes.toFixed(1)} MB) of the vision model are skipped by name ` +
    '(vision_tower, multi_modal_projector): only the language model is used'
  );
}
