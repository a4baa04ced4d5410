import { join } from 'node:path';
import { InputError, present } from '../errors.js';
import { parseMethod } from '../objective/method-name.js';
import { pairLossNames } from '../objective/pairs.js';
import type { PairLoss } from '../train/objective-config.js';
import { parsedOption, parseList, parseNumber } from './command.js';

/** Which loss the metrics of `eval` are of. */

const flag = '--objective';
const fallback: PairLoss = { loss: 'dpo', beta: 0.1, reduction: 'sum' };

/** The keys of a loss as the flag gives them. */
type Spec = ReadonlyMap<string, string>;

export function objectiveOption() {
  return parsedOption(
    `${flag} <spec>`,
    `loss and its settings: NAME[,beta=B][,labelSmoothing=E][,gamma=G][,reduction=sum|mean], NAME one of ${pairLossNames.join(', ')} (default: those that the adapter was trained with, where its folder says so, else dpo,beta=0.1)`,
    parseSpec,
  );
}

/** The loss, and for people where it is from. */
export interface ChosenObjective {
  objective: PairLoss;
  text: string;
}

/** What `--objective` says, else what is recorded in the adapter's folder, else DPO. @throws InputError where either makes no loss */
export async function chooseObjective(asked: Spec | undefined, folder: string | undefined): Promise<ChosenObjective> {
  const { readRecord, recordName } = await import('../policy/reference-record.js');
  const record = folder === undefined ? undefined : readRecord(folder);
  const file = join(folder ?? '', recordName);
  const trained = record?.objective && (await readLoss(record.objective, file));
  if (asked) {
    const objective = await lossOfSpec(asked);
    const other = trained && specOf(trained) !== specOf(objective);
    return { objective, text: specOf(objective) + (other ? `; the adapter was trained with ${specOf(trained)}` : '') };
  }
  if (trained) return { objective: trained, text: `${specOf(trained)}, with which the adapter was trained (${file})` };
  const unknown =
    folder === undefined
      ? ''
      : record
        ? `; the adapter was trained by ${record.method}, and ${file} does not say with which settings`
        : `; nothing in ${folder} says with which loss the adapter was trained`;
  return { objective: fallback, text: `${specOf(fallback)}, the default${unknown}` };
}

/** As {@link objectiveOption} takes it. */
function specOf({ loss, ...settings }: PairLoss): string {
  return [loss, ...Object.entries(settings).map(([key, value]) => `${key}=${value}`)].join(',');
}

/** "ipo,beta=0.1,reduction=mean"; what the keys mean is checked once the schema is there. @throws InputError */
function parseSpec(field: string, text: string): Spec {
  const [loss = '', ...settings] = parseList(field, text);
  const keys = new Map([['loss', loss]]);
  for (const setting of settings) {
    const [, key = setting, value = ''] = /^([^=]*)=(.*)$/.exec(setting) ?? [];
    if (keys.has(key))
      throw new InputError('is given twice', { at: { field: `${field} ${key}` }, fix: 'leave one of them out' });
    keys.set(key, value);
  }
  return keys;
}

/** @throws InputError where the keys make no loss */
async function lossOfSpec(spec: Spec): Promise<PairLoss> {
  const { lossKeys, lossSchema, objectiveKeys } = await import('../train/objective-config.js');
  const { issueText } = await import('../files/read.js');
  const { keyAdvice, valueAdvice } = await import('../train/other-names.js');
  const known = Object.keys(lossKeys.shape);
  const values: Record<string, string | number> = {};
  for (const [key, text] of spec) {
    const at = { field: `${flag} ${key}` };
    if (!known.includes(key)) {
      if (key in objectiveKeys.shape)
        throw new InputError(
          'does nothing here: metrics of a file are means over its pairs, without group weights or a tilt',
          {
            at,
            fix: 'leave it out',
          },
        );
      throw new InputError('unknown key', {
        at,
        fix: keyAdvice(key, known, known) ?? `keys in this place: ${known.slice(1).join(', ')}`,
      });
    }
    values[key] = key === 'loss' || key === 'reduction' ? text : parseNumber(at.field, text);
  }
  const parsed = lossSchema.safeParse(values, { error: issueText });
  if (parsed.success) return parsed.data;
  const { path, message } = present(parsed.error.issues[0]);
  const key = path.join('.');
  const method = key === 'loss' ? parseMethod(String(values.loss).toLowerCase()) : undefined;
  throw new InputError(message, {
    at: { field: `${flag} ${key}` },
    fix: method
      ? `write ${method.loss}: group weights have no bearing on metrics of a file`
      : (valueAdvice(`objective.${key}`, values[key]) ?? 'e.g. --objective ipo,beta=0.1'),
  });
}

async function readLoss(recorded: object, file: string): Promise<PairLoss> {
  const { z } = await import('zod');
  const { lossSchema } = await import('../train/objective-config.js');
  const { checked } = await import('../files/read.js');
  return checked(z.object({ objective: lossSchema }), { objective: recorded }, { file }).objective;
}
