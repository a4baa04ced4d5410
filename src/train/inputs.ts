import { statSync } from 'node:fs';
import { z } from 'zod';
import { type LoadPairsOptions, loadPairs, type PairDataset } from '../data/pairs/dataset.js';
import { groupColumns } from '../data/pairs/groups.js';
import { People, type PeopleSource } from '../data/pairs/people.js';
import { parseTemplate } from '../data/pairs/prompt-template.js';
import { type LoadPromptsOptions, loadPrompts, type PromptDataset } from '../data/pairs/prompts.js';
import { countRepeated } from '../data/pairs/repeated-pairs.js';
import { openTokenizer, type TextTokenizer } from '../data/text/tokenizer.js';
import { InputError } from '../errors.js';
import { type Local, type LocalOptions, localAdapter, localModel, localTokenizer } from '../hub/local.js';
import type { GemmaPolicy } from '../policy/gemma.js';
import { formatCount } from '../terminal/format.js';
import { listNames } from '../terminal/names.js';
import { progress } from '../terminal/progress.js';
import type { TrainConfig } from './config.js';

/** Names of a model and what belongs to it, as the user gives them. */
export interface ModelNames {
  model: string;
  adapter?: string;
  tokenizer?: string;
}

/** For names that are ids of the hub: the id without revision, and the commit. */
export type HubNames = Partial<Record<keyof ModelNames, Local['hub']>>;
const hubSchema = z.object({ id: z.string(), commit: z.string() }).optional();
/** As run.json has them. */
export const hubNamesSchema = z.object({ model: hubSchema, adapter: hubSchema, tokenizer: hubSchema });

/**
 * The names of a run that is continued: where one has not changed since the run began, an id of the hub means the commit of that time,
 * even if its branch has moved.
 */
export function namesAsBegun<T extends ModelNames>(names: T, begun: { names: Partial<ModelNames>; hub: HubNames }): T {
  const asBegun = { ...names };
  for (const key of ['model', 'adapter', 'tokenizer'] as const) {
    const hub = begun.hub[key];
    if (hub && names[key] === begun.names[key]) asBegun[key] = `${hub.id}@${hub.commit}`;
  }
  return asBegun;
}

/** The same with paths on this machine in place of ids of the hub, and the commits of these, by key. */
export async function localNames<T extends ModelNames>(
  names: T,
  options: LocalOptions,
): Promise<{ names: T; hub: HubNames }> {
  const model = await localModel(names.model, options);
  const adapter = names.adapter === undefined ? undefined : await localAdapter(names.adapter, options);
  const tokenizer = names.tokenizer === undefined ? undefined : await localTokenizer(names.tokenizer, options);
  return {
    names: { ...names, model: model.path, adapter: adapter?.path, tokenizer: tokenizer?.path },
    hub: { model: model.hub, adapter: adapter?.hub, tokenizer: tokenizer?.hub },
  };
}

const MEGABYTE = 1e6;
/** Smaller files are read too fast for a progress bar. */
const SHOWN_BYTES = 16 * MEGABYTE;

/** What reading pairs for a model needs to know of it. */
export interface PairReader {
  read(
    file: string,
    options?: Pick<
      LoadPairsOptions,
      'groups' | 'groupBy' | 'groupOptional' | 'people' | 'template' | 'maxLength' | 'unusable' | 'survey'
    >,
  ): Promise<PairDataset>;
  /** Of a file of prompts, or of pairs whose responses do not matter. */
  readPrompts(
    file: string,
    options?: Pick<LoadPromptsOptions, 'groupBy' | 'groupOptional' | 'people' | 'template' | 'ofPairs'>,
  ): Promise<PromptDataset>;
  /** The tokenizer; undefined where all that was read is token ids. */
  tokenizer(): TextTokenizer | undefined;
  /** Call when everything is read. @throws InputError where a tokenizer was named but no pair is text */
  refuseIdleTokenizer(field: string): void;
}

/**
 * Reads pairs for one model. The tokenizer is opened at the first record that is text, so checkpoints without one serve
 * files of token ids.
 * @param tokenizerPath a tokenizer to use instead of the model's
 * @param quiet no progress
 */
export function pairReader(
  model: string,
  { config: { vocabulary }, bos }: Pick<GemmaPolicy, 'config' | 'bos'>,
  tokenizerPath?: string,
  quiet = false,
): PairReader {
  let opened: TextTokenizer | undefined;
  const tokenizer = () => {
    opened ??= openTokenizer(model, tokenizerPath);
    return opened;
  };
  const watched = async <T>(file: string, load: (onBytes: (done: number) => void) => Promise<T>): Promise<T> => {
    const bytes = statSync(file, { throwIfNoEntry: false })?.size ?? 0;
    const bar = progress(`reading ${file} (MB)`, Math.ceil(bytes / MEGABYTE), quiet || bytes < SHOWN_BYTES);
    return load((done) => bar.update(Math.ceil(done / MEGABYTE))).finally(() => bar.stop());
  };
  const common = { tokenizer, vocabulary, bos };
  return {
    read: (file, options) => watched(file, (onBytes) => loadPairs(file, { ...options, ...common, onBytes })),
    readPrompts: (file, options) => watched(file, (onBytes) => loadPrompts(file, { ...options, ...common, onBytes })),
    tokenizer: () => opened,
    refuseIdleTokenizer(field) {
      if (tokenizerPath !== undefined && opened === undefined)
        throw new InputError('does nothing, since all pairs are token ids', { at: { field }, fix: 'leave it out' });
    },
  };
}

/** The splits of a run, read for the model; validation and test share the training groups and their order. */
export interface RunData {
  train: PairDataset;
  validation?: PairDataset;
  test?: PairDataset;
  warnings: string[];
}

/** The people where a field of theirs groups the pairs; else they serve reports alone. */
async function groupingPeople(
  source: PeopleSource,
  columns: readonly string[],
  warnings: string[],
): Promise<People | undefined> {
  const people = await People.readAny(source, columns);
  if (columns.some((column) => people.has(column))) return people;
  warnings.push(
    `${source.file}: groups are by ${columns.join(', ')}, no field of it (${people.described}), so it serves only \`report --cluster\` and the \`cluster\` of a sweep`,
  );
  return undefined;
}

export async function readRunData(reader: PairReader, data: TrainConfig['data']): Promise<RunData> {
  const { maxLength, unusable } = data;
  const groupBy = typeof data.groupBy === 'string' ? [data.groupBy] : data.groupBy;
  const warnings: string[] = [];
  const common = {
    groupBy,
    people: data.people && (await groupingPeople(data.people, groupColumns(groupBy), warnings)),
    template: data.template === undefined ? undefined : parseTemplate(data.template),
    maxLength,
    unusable,
  };
  const train = await reader.read(data.train, { ...common, groups: data.groups });
  const empty = train.groups.filter((_, g) => train.counts[g] === 0);
  if (empty.length > 0)
    throw new InputError(`no usable pair of group ${listNames(empty)}`, {
      at: { file: data.train },
      fix: data.groups
        ? 'take the group out of data.groups, or add pairs of it'
        : 'all its pairs were left out: correct some, raise data.maxLength, or remove them from the file',
    });
  const shared = { ...common, groups: train.groups };
  const validation = data.validation === undefined ? undefined : await reader.read(data.validation, shared);
  const test = data.test === undefined ? undefined : await reader.read(data.test, { ...shared, survey: 'optional' });
  warnings.push(...[train, validation, test].flatMap((split) => split?.report.warnings ?? []));
  warnings.push(
    ...repeats(validation, train, 'stand in data.train too, so its evaluation is not one of new pairs'),
    ...repeats(test, train, 'stand in data.train too, so its evaluation is not one of new pairs'),
    ...repeats(test, validation, 'stand in data.validation too, so test figures are not independent of choices made'),
  );
  return { train, validation, test, warnings };
}

/** A warning where pairs of an evaluation are known from before. */
function repeats(split: PairDataset | undefined, before: PairDataset | undefined, what: string): string[] {
  const count = split && before ? countRepeated(split.pairs, before.pairs) : 0;
  if (!split || count === 0) return [];
  return [`${split.file}: ${formatCount(count)} of ${formatCount(split.pairs.length)} pairs ${what}`];
}
