import { join } from 'node:path';
import { type Command, Option } from '@commander-js/extra-typings';
import { type GroupBy, groupColumns } from '../data/pairs/groups.js';
import type { People } from '../data/pairs/people.js';
import { type PromptTemplate, parseTemplate, plainTemplate } from '../data/pairs/prompt-template.js';
import type { Team } from '../distributed/team.js';
import { InputError } from '../errors.js';
import { maxThreads } from '../native/types.js';
import { warn } from '../terminal/output.js';
import type { PairReader } from '../train/inputs.js';
import { countOption, deviceOption, type Output, templateOption } from './command.js';

/** The model of `eval`, `logprobs` and `sample`: its options, what it is held against, and how prompts are read for it. */

const dtypes = ['float32', 'bfloat16', 'float64'] as const;
type DType = (typeof dtypes)[number];

/** What `eval`, `logprobs` and `sample` are told of the model and of how prompts are read. */
export interface ModelOptions {
  model: string;
  adapter?: string;
  referenceAdapter?: string;
  tokenizer?: string;
  device?: string;
  dtype?: DType;
  baseDtype?: DType;
  threads?: number;
  groupBy?: GroupBy;
  people?: string;
  peopleKey?: string;
  /** What pairs are clustered by, which may be a field of the people too. */
  cluster?: string;
  template?: PromptTemplate;
  quiet?: boolean;
}

/** What `eval` and `logprobs` are told besides. */
export interface ScorerOptions extends ModelOptions {
  pairs: string;
  /** Absent: pairs need no group, but where the template has one. */
  groupBy?: GroupBy;
  maxLength: number;
  dropUnusable?: boolean;
}

/** For people, what the policy was held against and how prompts were read. */
export function logChosen({ reference, template }: Scorer, output: Output): void {
  if (reference) output.log(`reference: ${reference.text}`);
  if (template) output.log(`template: ${template.text}`);
}

/** The same for programs. */
export function chosen({ reference, template }: Scorer) {
  return { reference: reference?.adapter, template: template?.text };
}

/** A command with the options that `eval` and `logprobs` share. */
export function scoringCommand(program: Command, name: 'eval' | 'logprobs', description: string) {
  return modelCommand(program, name, description)
    .option(
      '--reference-adapter <folder>',
      'reference = the model with this adapter, or `base` (default: what the adapter was trained against, where its folder says so)',
    )
    .requiredOption('--pairs <file>', 'pairs as JSONL, CSV or Parquet')
    .addOption(
      countOption('--batch <n>', 'most pairs scored at once (default: as many as have 1024 tokens, on a GPU 8192)', {
        min: 1,
      }),
    )
    .addOption(countOption('--max-length <n>', 'a longer pair is an error', { min: 2 }).default(8192));
}

/** A command with the options that name a model and say how prompts are read for it. */
export function modelCommand(program: Command, name: 'eval' | 'logprobs' | 'sample', description: string) {
  return program
    .command(name)
    .description(description)
    .requiredOption('--model <model>', 'checkpoint folder, hub id such as google/gemma-2b, or random:NAME?key=value')
    .option('--adapter <folder>', 'PEFT adapter of the policy, folder or hub id (default: none)')
    .option('--tokenizer <path>', "tokenizer.json or its folder (default: the model's own)")
    .option(
      '--people <file>',
      `people whose preferences the pairs are: ${name === 'eval' ? '--group-by and --cluster' : '--group-by'} may name fields of theirs`,
    )
    .option('--people-key <column>', 'column of this file and of the pairs that says who it is')
    .addOption(
      templateOption(
        "how the group comes into the prompt (default: as the adapter was trained; '{prompt}' leaves prompts as they are)",
      ),
    )
    .addOption(deviceOption('auto, a GPU where there is one'))
    .addOption(
      new Option(
        '--dtype <type>',
        'type of weights and activations (default: float32 on the CPU, bfloat16 on a GPU)',
      ).choices(dtypes),
    )
    .addOption(
      new Option(
        '--base-dtype <type>',
        'type the base weights are kept in: bfloat16 takes half of float32 (default: --dtype)',
      ).choices(dtypes),
    )
    .addOption(countOption('--threads <n>', 'LibTorch threads (default: all cores)', { min: 1, max: maxThreads }))
    .option('--quiet', 'no progress');
}

/** What `eval` and `logprobs` read. */
export function scoringInputs({ model, adapter, referenceAdapter, pairs, people, tokenizer }: ScorerOptions) {
  return [model, adapter, referenceAdapter, pairs, people, tokenizer];
}

/** What the policy is held against. */
interface ChosenReference {
  /** For people. */
  text: string;
  /** As the user or the adapter's folder names it; null for the base model. */
  adapter: string | null;
  /** Folder to load, where that is not the base model. */
  path?: string;
}

/**
 * Refuses the adapter of a policy where a reward model is needed, and the other way round.
 * @param folder of the adapter, where there is one
 */
async function checkKind(
  folder: string | undefined,
  { wanted, field }: { wanted: 'logps' | 'rewards'; field: string },
): Promise<void> {
  const { isRewardAdapter } = await import('../policy/peft.js');
  const isReward = folder !== undefined && isRewardAdapter(folder);
  if (wanted === 'logps' && isReward)
    throw new InputError(`${folder} is a reward model, which has no log-probabilities`, {
      at: { field },
      fix: 'name a policy; a reward model is evaluated by `eval --objective reward`, or `eval --survey --beta B`, and its scores are written by `logprobs`',
    });
  if (wanted === 'rewards' && !isReward)
    throw new InputError(folder === undefined ? 'is needed' : `${folder} is a policy, not a reward model`, {
      at: { field },
      fix: 'name the adapter of a run with loss: reward',
    });
}

/** What `--reference-adapter` names, else what is recorded in the adapter's folder, else the base model, with a warning. */
async function chooseReference(
  { referenceAdapter: asked, quiet }: Pick<ScorerOptions, 'referenceAdapter' | 'quiet'>,
  folder: string | undefined,
): Promise<ChosenReference> {
  const { localAdapter } = await import('../hub/local.js');
  const { adapterDigest, checkRecorded, readRecord, recordedAdapter } = await import('../policy/reference-record.js');
  const trained = folder === undefined ? undefined : readRecord(folder)?.reference;
  const recorded = typeof trained === 'object' ? trained : undefined;
  const base = 'the model without an adapter';
  if (asked === 'base') {
    if (recorded) warn(`the adapter was trained against ${recorded.adapter}, and is compared with ${base}`);
    return { text: base, adapter: null };
  }
  if (asked !== undefined) {
    const { path } = await localAdapter(asked, { quiet });
    await checkKind(path, { wanted: 'logps', field: '--reference-adapter' });
    if (trained === 'base' || (recorded && (await adapterDigest(path)) !== recorded.sha256))
      warn(`${asked} is not what the adapter was trained against, which is ${recorded?.adapter ?? base}`);
    return { text: asked, adapter: asked, path };
  }
  if (recorded && folder !== undefined) {
    const name = recordedAdapter(folder, recorded.adapter);
    const { path } = await localAdapter(name, { quiet });
    await checkRecorded(folder, path, recorded.sha256);
    return { text: `${name}, against which the adapter was trained`, adapter: name, path };
  }
  if (folder !== undefined && trained === undefined)
    warn(
      `nothing in ${folder} says what the adapter was trained against, so the reference is ${base}: if that is not so, ` +
        'losses and rewards are far off. Name it with --reference-adapter, or confirm with --reference-adapter base',
    );
  return { text: trained === 'base' ? `${base}, against which the adapter was trained` : base, adapter: null };
}

/** What `--template` says, else what is recorded in the adapter's folder, else none. */
async function chooseTemplate(
  asked: PromptTemplate | undefined,
  folder: string | undefined,
): Promise<PromptTemplate | undefined> {
  const { readRecord, recordName } = await import('../policy/reference-record.js');
  const record = folder === undefined ? undefined : readRecord(folder);
  const trained =
    record?.template === undefined
      ? undefined
      : parseTemplate(record.template, { file: join(folder ?? '', recordName), field: 'template' });
  const { text: plain } = plainTemplate;
  if (asked && record && asked.text !== (trained?.text ?? plain))
    warn(`the adapter was trained with the template "${trained?.text ?? plain}", and is scored with "${asked.text}"`);
  return asked ?? trained;
}

/**
 * Opens model, adapters and pairs as the shared options say.
 * @param uses as of {@link openModel}; and whether the questions of a survey are read
 * @param team whose processes all open the same, which is checked
 */
export async function openScorer(
  options: ScorerOptions & { batch?: number; objective?: object },
  uses: ModelUses & { usesSurvey?: boolean },
  team: Team | undefined,
) {
  const { maxLength, dropUnusable, batch, objective } = options;
  const read = async (reader: PairReader, how: PromptReading) => {
    const unusable = dropUnusable ? 'drop' : 'error';
    const survey = uses.usesSurvey ? 'required' : undefined;
    const data = await reader.read(options.pairs, { ...how, maxLength, unusable, survey });
    return { data, warnings: data.report.warnings };
  };
  const opened = await openModel(options, uses, read, team);
  if (!team) return opened;
  try {
    const { agree } = await import('../distributed/agreement.js');
    const { datasetDigest } = await import('../data/pairs/digest.js');
    const { makingOn } = await import('../train/run-record.js');
    const { policy, data } = opened;
    const { versions, threads } = makingOn(policy.device);
    const content = await policy.content();
    await agree(team, { ...content, pairs: datasetDigest(data), objective, batch, threads, ...versions });
    return opened;
  } catch (error) {
    opened[Symbol.dispose]();
    throw error;
  }
}

/** How prompts are read. */
interface PromptReading {
  groupBy: GroupBy;
  people?: People;
  template?: PromptTemplate;
}

/** What a command makes of a model. */
interface ModelUses {
  /** Whether the adapter has to be a policy's or a reward model. Absent: it may be either, and only a policy has a reference then. */
  scores?: 'logps' | 'rewards';
  /** Whether anything is held against a reference; else none is opened. */
  usesReference: boolean;
  /** Whether groups matter beside the template. */
  usesGroups: boolean;
}

/** Opens model and adapters, and reads what is for it. */
export async function openModel<Data>(
  options: ModelOptions,
  { scores, usesReference, usesGroups }: ModelUses,
  read: (reader: PairReader, how: PromptReading) => Promise<{ data: Data; warnings: readonly string[] }>,
  team?: Team,
) {
  const { GemmaPolicy } = await import('../policy/gemma.js');
  const { defaultDType, resolveDevice } = await import('../policy/device.js');
  const { localNames, pairReader } = await import('../train/inputs.js');
  if (options.referenceAdapter !== undefined && options.adapter === undefined)
    throw new InputError('is given without --adapter, so the policy would be the base model', {
      at: { field: '--reference-adapter' },
      fix: 'name the trained adapter with --adapter',
    });
  const device = resolveDevice(options.device, '--device', team?.localRank);
  const { dtype = defaultDType(device), baseDtype = dtype, threads } = options;
  if (baseDtype !== 'bfloat16' && baseDtype !== dtype)
    throw new InputError(`must be bfloat16, or --dtype (${dtype}), which is the default`, {
      at: { field: '--base-dtype' },
    });
  const { names } = await localNames(options, { quiet: options.quiet });
  if (scores) await checkKind(names.adapter, { wanted: scores, field: '--adapter' });
  const { isRewardAdapter } = await import('../policy/peft.js');
  const compares = usesReference && (scores !== undefined || !names.adapter || !isRewardAdapter(names.adapter));
  if (options.referenceAdapter !== undefined && !compares)
    throw new InputError(`does nothing: ${options.adapter} is a reward model, which has no reference`, {
      at: { field: '--reference-adapter' },
      fix: 'leave it out',
    });
  const reference = compares ? await chooseReference(options, names.adapter) : undefined;
  const template = await chooseTemplate(options.template, names.adapter);
  if (options.groupBy !== undefined && !usesGroups && !template?.usesGroup)
    throw new InputError('does nothing without a template that has {group}', {
      at: { field: '--group-by' },
      fix: 'leave it out',
    });
  const groupBy = options.groupBy ?? (template?.usesGroup ? ['group'] : []);
  const people = await readPeople(options, groupBy);
  const policy = await GemmaPolicy.open(names.model, { device, dtype, baseDtype, threads });
  try {
    if (reference?.path !== undefined) {
      await policy.loadAdapter(reference.path);
      await policy.freezeReference();
    }
    if (names.adapter !== undefined) await policy.loadAdapter(names.adapter);
    const reader = pairReader(names.model, policy, names.tokenizer, options.quiet);
    const { data, warnings } = await read(reader, { groupBy, people, template });
    reader.refuseIdleTokenizer('--tokenizer');
    [...policy.notes, ...warnings].forEach(warn);
    const { model } = names;
    const tokenizer = reader.tokenizer();
    return { model, policy, tokenizer, data, reference, template, [Symbol.dispose]: () => policy.dispose() };
  } catch (error) {
    policy.dispose();
    throw error;
  }
}

/** What `--people` and `--people-key` name. @throws InputError where one of them is given alone */
export function peopleSource({ people: file, peopleKey: key }: Pick<ModelOptions, 'people' | 'peopleKey'>) {
  if (file === undefined && key === undefined) return undefined;
  if (file === undefined)
    throw new InputError('does nothing without --people', { at: { field: '--people-key' }, fix: 'leave it out' });
  if (key === undefined)
    throw new InputError('is needed with --people', {
      at: { field: '--people-key' },
      fix: 'name the column of both files that says who it is, such as user_id',
    });
  return { file, key };
}

/** @throws InputError as {@link peopleSource}, and where nothing is grouped */
async function readPeople(
  options: Pick<ModelOptions, 'people' | 'peopleKey' | 'cluster'>,
  groupBy: GroupBy,
): Promise<People | undefined> {
  const source = peopleSource(options);
  if (source === undefined) return undefined;
  const columns = groupColumns(groupBy);
  if (columns.length === 0)
    throw new InputError('does nothing where there are no groups', {
      at: { field: '--people' },
      fix: 'leave it out, or name a field of the people with --group-by',
    });
  const { People } = await import('../data/pairs/people.js');
  return People.read(source, columns, options.cluster);
}

type Scorer = Pick<Awaited<ReturnType<typeof openScorer>>, 'reference' | 'template'>;
