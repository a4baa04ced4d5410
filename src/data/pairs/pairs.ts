import { InputError, type InputLocation } from '../../errors.js';
import { keysOf } from '../../files/ordered-record.js';
import { editDistance } from '../tables/near-matches.js';
import { parseNotation, withoutMaps } from '../tables/notation.js';
import {
  checkCharacters,
  columnsAt,
  describe,
  listOf,
  type Row,
  type RowLocation,
  requireColumn,
} from '../tables/row.js';
import { readRows } from '../tables/rows.js';
import { type GroupBy, groupColumns, groupText, readGroups } from './groups.js';
import { commonBeginning, commonTurns } from './layouts.js';
import { type ChatMessage, isConversation, readConversation, textOf } from './messages.js';
import type { People } from './people.js';
import { fillFirstTurn, type PromptTemplate, plainTemplate } from './prompt-template.js';

/** A preference as it stands in the file: which response to a prompt a member of the groups preferred. */
export type PreferenceRecord = RecordOrigin &
  (
    | {
        kind: 'text';
        prompt: string;
        chosen: string;
        rejected: string;
        /** Whether both responses begin with the prompt of a column of its own, so that it stands there twice. */
        repeatsPrompt?: boolean;
      }
    /**
     * Turns of a conversation; the responses are what follows the prompt's turns.
     * `shared`: these are what `chosen` and `rejected` begin with in the file.
     */
    | { kind: 'chat'; shared: boolean; prompt: ChatMessage[]; chosen: ChatMessage[]; rejected: ChatMessage[] }
    /** Token ids, used exactly as given: no BOS or EOS is added. */
    | { kind: 'ids'; prompt: Int32Array; chosen: Int32Array; rejected: Int32Array }
  );

export interface RecordOrigin {
  /** Names of the groups that it is of, one or several. */
  groups: readonly string[];
  /** Importance of the pair within its group, ≥ 0, as given (1 where absent). */
  weight: number;
  /** Share of the group that prefers the chosen response, in [0, 1] (1 where absent: a hard label). */
  preference: number;
  at: RowLocation;
}

/** A prompt without responses, as it stands in the file. */
export type PromptRecord = Omit<RecordOrigin, 'weight' | 'preference'> &
  (
    | { kind: 'text'; prompt: string }
    /** `shared`: as of a preference. */
    | { kind: 'chat'; shared: boolean; prompt: ChatMessage[] }
    /** Used exactly as given. */
    | { kind: 'ids'; prompt: Int32Array }
  );

export interface ReadPairsOptions {
  /** Default `["group"]`. */
  groupBy?: GroupBy;
  /** Whether rows that have none of these columns are of the group ''; else they are refused. */
  groupOptional?: boolean;
  /** Ids must be below this, where it is known. */
  vocabulary?: number;
  /** What becomes of a prompt, or of the first turn of a conversation. */
  template?: PromptTemplate;
  /** Whose fields `groupBy` may name like columns of the pairs. */
  people?: People;
  /** Other columns to read; of Parquet only those that are named come. */
  columns?: readonly string[];
}

const unusableKinds = ['empty', 'degenerate', 'tooLong'] as const;
export type UnusableKind = (typeof unusableKinds)[number];

/** A pair that is well formed but that nothing can be learnt from, so that the caller may leave it out. */
export class UnusablePair extends InputError {
  constructor(
    readonly kind: UnusableKind,
    problem: string,
    { at, fix }: { at: InputLocation; fix: string },
  ) {
    super(problem, { at, fix: `${fix}, or leave such pairs out (train: data.unusable: drop; eval: --drop-unusable)` });
  }
}

/** Columns of numbers that are 1 where they are absent, and what they may be. */
const optionalNumbers = {
  weight: { least: 0, most: Number.MAX_VALUE, text: 'finite number ≥ 0' },
  preference: { least: 0, most: 1, text: 'number from 0 to 1' },
} as const;
type OptionalColumn = keyof typeof optionalNumbers;
const optionalColumns = keysOf(optionalNumbers);
const textColumns = ['prompt', 'chosen', 'rejected'] as const;
const idColumns = ['prompt_ids', 'chosen_ids', 'rejected_ids'] as const;

/**
 * Parses and checks the rows of one file. The first row of text or conversations decides for all of them whether the
 * prompt stands in its own column or is what chosen and rejected begin with; TRL has both layouts.
 */
export class PairParser {
  private readonly groupBy: GroupBy;
  private layout: { own: boolean; chat: boolean } | undefined;

  private readonly template: PromptTemplate | undefined;

  constructor(private readonly options: ReadPairsOptions = {}) {
    this.groupBy = options.groupBy ?? ['group'];
    this.template = options.template?.text === plainTemplate.text ? undefined : options.template;
  }

  rows(file: string, onBytes?: (bytes: number) => void): AsyncGenerator<Row> {
    const { columns = [], people } = this.options;
    const wanted = [...groupColumns(this.groupBy), ...optionalColumns, ...textColumns, ...idColumns, ...columns];
    if (people) wanted.push(people.source.key);
    const rows = readRows(file, [...new Set(wanted)], { onBytes });
    return people ? people.known(rows) : rows;
  }

  /** @throws InputError naming file, line or row, and field; an {@link UnusablePair} where a text is empty */
  parse(row: Row): PreferenceRecord {
    const groups = readGroups(row, this.options, this.groupBy);
    const weight = readOptional(row, 'weight', this.groupBy);
    const preference = readOptional(row, 'preference', this.groupBy);
    const ids = idColumns.filter((column) => row.values[column] != null);
    if (ids.length === 0) return { groups, weight, preference, at: row.at, ...this.texts(row, groups) };
    for (const field of textColumns)
      if (row.values[field] != null)
        throw new InputError(`is given beside "${ids[0]}"`, {
          at: { ...row.at, field },
          fix: 'give text or token ids, not both',
        });
    this.refuseTemplate(row, ids[0]);
    const [prompt, chosen, rejected] = idColumns.map((field) => readIds(row, field, this.options.vocabulary));
    return { groups, weight, preference, at: row.at, kind: 'ids', prompt, chosen, rejected };
  }

  /**
   * A row of which only the prompt is read.
   * @param ofPairs whether the row is a pair, whose prompt may be what `chosen` and `rejected` begin with
   * @throws InputError naming file, line or row, and field
   */
  parsePrompt(row: Row, { ofPairs = false }: { ofPairs?: boolean } = {}): PromptRecord {
    const implicit = ofPairs && hasImplicitPrompt(row);
    try {
      return implicit ? this.implicitPrompt(row) : this.ownPrompt(row);
    } catch (error) {
      if (!(error instanceof UnusablePair)) throw error;
      // Nothing leaves prompts out, as pairs are left out that nothing can be learnt from.
      const { problem, location: at } = error;
      throw implicit
        ? new InputError(`${problem} after what "chosen" and "rejected" both begin with, which is the prompt`, {
            at,
            fix: 'add a column "prompt", or remove the row',
          })
        : new InputError(problem, { at, fix: 'fill it in, or remove the row' });
    }
  }

  private implicitPrompt(row: Row): PromptRecord {
    const { at } = row;
    const groups = readGroups(row, this.options, this.groupBy);
    const texts = this.texts(row, groups, { promptOnly: true });
    return texts.kind === 'chat'
      ? { groups, at, kind: 'chat', shared: texts.shared, prompt: texts.prompt }
      : { groups, at, kind: 'text', prompt: texts.prompt };
  }

  private ownPrompt(row: Row): PromptRecord {
    const { at } = row;
    const groups = readGroups(row, this.options, this.groupBy);
    if (row.values.prompt_ids != null) {
      if (row.values.prompt != null)
        throw new InputError('is given beside "prompt_ids"', {
          at: { ...at, field: 'prompt' },
          fix: 'give text or token ids, not both',
        });
      this.refuseTemplate(row, 'prompt_ids');
      return { groups, at, kind: 'ids', prompt: readIds(row, 'prompt_ids', this.options.vocabulary) };
    }
    requireColumn(row, 'prompt', 'add a column "prompt", or "prompt_ids"');
    const prompt = cell(row, 'prompt');
    if (isConversation(prompt)) {
      const turns = readConversation(prompt, at, 'prompt');
      refuseBlankPrompt(turns, 'prompt', at);
      const filled = this.template ? fillFirstTurn(this.template, groupText(groups), turns) : turns;
      return { groups, at, kind: 'chat', shared: false, prompt: filled };
    }
    const text = readText(prompt, 'prompt', at);
    return { groups, at, kind: 'text', prompt: this.template?.fill(groupText(groups), text) ?? text };
  }

  private refuseTemplate(row: Row, field: string): void {
    if (this.template)
      throw new InputError('is token ids, of which a template cannot make a prompt', {
        at: { ...row.at, field },
        fix: "give text, or, where the prompts are as they should be, no template (eval, logprobs, sample: --template '{prompt}')",
      });
  }

  private texts(row: Row, groups: readonly string[], { promptOnly = false }: { promptOnly?: boolean } = {}) {
    for (const column of ['chosen', 'rejected']) requireColumn(row, column);
    const [prompt, chosen, rejected] = textColumns.map((column) => cell(row, column));
    const chat = isConversation(chosen) || (typeof chosen !== 'string' && this.layout?.chat === true);
    // A prompt of text beside conversations, as in UltraFeedback, only repeats their first turn.
    const own = row.columns.includes('prompt') && (!chat || typeof prompt !== 'string');
    this.layout ??= { own, chat };
    if (own !== this.layout.own || chat !== this.layout.chat) {
      const was = `${this.layout.chat ? 'conversations' : 'texts'} ${this.layout.own ? 'with' : 'without'} a prompt`;
      const is = `${chat ? 'a conversation' : describe(chosen)} ${own ? 'with' : 'without'} a prompt`;
      throw new InputError(`the first pair has ${was}, this one ${is}`, {
        at: { ...row.at, field: chat === this.layout.chat ? 'prompt' : 'chosen' },
        fix: 'write all pairs of a file in the same way',
      });
    }
    if (chat) {
      const turns = (field: string, value: unknown) => readConversation(value, row.at, field);
      const [full, other] = [turns('chosen', chosen), turns('rejected', rejected)];
      const parts = own
        ? { prompt: turns('prompt', prompt), chosen: full, rejected: other }
        : commonTurns(full, other, row.at);
      refuseBlankPrompt(parts.prompt, own ? 'prompt' : 'chosen', row.at);
      if (!promptOnly) for (const field of ['chosen', 'rejected'] as const) refuseBlank(parts[field], field, row.at);
      const filled = this.template ? fillFirstTurn(this.template, groupText(groups), parts.prompt) : parts.prompt;
      return { kind: 'chat' as const, shared: !own, ...parts, prompt: filled };
    }
    const fill = (text: string) => this.template?.fill(groupText(groups), text) ?? text;
    if (own) {
      const [question, won, lost] = [prompt, chosen, rejected].map((value, i) =>
        readText(value, textColumns[i], row.at),
      );
      const texts = { kind: 'text' as const, prompt: fill(question), chosen: won, rejected: lost };
      // An answer may well begin with the word that was asked for.
      const repeatsPrompt = /\s/.test(question.trim()) && [won, lost].every((text) => text.startsWith(question));
      return repeatsPrompt ? { ...texts, repeatsPrompt } : texts;
    }
    const [full, other] = [readText(chosen, 'chosen', row.at), readText(rejected, 'rejected', row.at)];
    const parts = commonBeginning(full, other);
    if (parts.prompt.trim() === '')
      throw new InputError('and "rejected" begin differently, and there is no column "prompt"', {
        at: { ...row.at, field: 'chosen' },
        fix: `add a column "prompt" (columns here: ${row.columns.join(', ')})`,
      });
    for (const field of ['chosen', 'rejected'] as const) readText(parts[field], field, row.at);
    return { kind: 'text' as const, ...parts, prompt: fill(parts.prompt) };
  }
}

/** Whether a pair's prompt stands in its responses: it has none, or, beside conversations, a text that only repeats their first turn. */
function hasImplicitPrompt(row: Row): boolean {
  if (row.values.prompt_ids != null || !['chosen', 'rejected'].every((field) => row.columns.includes(field)))
    return false;
  if (!row.columns.includes('prompt')) return true;
  return typeof cell(row, 'prompt') === 'string' && isConversation(cell(row, 'chosen'));
}

/** Text that is meant for turns, whole or not. */
const likeTurns = /^\s*\[\s*\{[^}]*['"]role['"]\s*:/;

/**
 * A value of one of the columns above. In CSV a conversation or ids are a list in JSON's or Python's notation.
 * @throws InputError where it is meant for one and cannot be parsed: taken for text it would be trained on
 */
function cell(row: Row, field: string): unknown {
  const value = row.values[field];
  if (!row.untyped || typeof value !== 'string') return value;
  const isIds = idColumns.includes(field as (typeof idColumns)[number]);
  if (!isIds && !/^\s*\[\s*\{/.test(value)) return value;
  let list: unknown;
  try {
    list = withoutMaps(parseNotation(value));
  } catch (cause) {
    if (!isIds && !likeTurns.test(value)) return value;
    throw new InputError(
      `is not a list of ${isIds ? 'token ids' : 'turns'} in JSON's or Python's notation: ${(cause as Error).message}`,
      {
        at: { ...row.at, field },
        fix: "a list has commas between its entries; of Python's datasets, which writes CSV without them, use to_json or to_parquet",
        cause,
      },
    );
  }
  return isIds || isConversation(list) ? list : value;
}

const decimal = /^\s*\+?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*$/i;

function readOptional(row: Row, column: OptionalColumn, groupBy: GroupBy): number {
  const at = { ...row.at, field: column };
  if (!row.columns.includes(column)) {
    // Nothing else tells that it is missing: a slip of the pen here would change results in silence.
    const misspelt = row.columns.find((field) => {
      const name = field.toLowerCase();
      return (
        !groupColumns(groupBy).includes(field) && name.startsWith(column.charAt(0)) && editDistance(name, column) <= 2
      );
    });
    if (misspelt === undefined) return 1;
    throw new InputError(`is not known, and looks like a misspelt "${column}"`, {
      at: { ...columnsAt(row), field: misspelt },
      fix: `write "${column}", or give the field a name less like it`,
    });
  }
  const { least, most, text } = optionalNumbers[column];
  const value = row.values[column];
  const isText = row.untyped && typeof value === 'string' && value.trim() !== '';
  const number = typeof value === 'bigint' || (isText && decimal.test(value)) ? Number(value) : value;
  if (typeof number === 'number' && number >= least && number <= most) return number;
  throw new InputError(`expected a ${text}, found ${describe(value)}`, {
    at,
    fix: row.untyped ? 'write it as 0.5 or 5e-1, and one in each row' : undefined,
  });
}

function readText(value: unknown, field: string, at: RowLocation): string {
  if (typeof value !== 'string')
    throw new InputError(`expected text, found ${describe(value)}`, {
      at: { ...at, field },
      fix: Array.isArray(value) ? 'write turns as {"role": …, "content": …}' : undefined,
    });
  checkCharacters(value, { ...at, field });
  if (value.trim() === '') throw new UnusablePair('empty', 'is empty', { at: { ...at, field }, fix: 'fill it in' });
  return value;
}

/** Fields of a turn by which it says something without `content`. */
const sayingFields = ['tool_calls', 'function_call', 'reasoning_content', 'reasoning', 'thinking'];

/** @throws UnusablePair where no turn says anything; the template would still mark them as turns */
function refuseBlank(turns: readonly ChatMessage[], field: string, at: RowLocation): void {
  const isEmpty = (value: unknown) => value === undefined || value === '' || listOf(value)?.length === 0;
  const isBlank = (turn: ChatMessage) =>
    textOf(turn.content).trim() === '' && sayingFields.every((name) => isEmpty(turn[name]));
  if (turns.every(isBlank))
    throw new UnusablePair('empty', turns.length === 1 ? 'is a turn without text' : 'has no turn with text', {
      at: { ...at, field },
      fix: 'fill it in',
    });
}

/** Of what is to be answered the last turn; a tool may well have nothing to say. */
function refuseBlankPrompt(turns: readonly ChatMessage[], field: string, at: RowLocation): void {
  const last = turns.length - 1;
  if (['user', 'system'].includes(turns[last].role)) refuseBlank([turns[last]], `${field}[${last}]`, at);
}

function readIds(row: Row, field: string, vocabulary?: number): Int32Array {
  const value = cell(row, field);
  const at = { ...row.at, field };
  // Parquet's 64-bit integers come as BigInt.
  const list = listOf(value);
  if (list === undefined) throw new InputError(`expected a list of token ids, found ${describe(value)}`, { at });
  if (list.length === 0) throw new UnusablePair('empty', 'is empty', { at, fix: 'give at least one token id' });
  const limit = vocabulary ?? 2 ** 31;
  // A loop, not from(): this is most of the work of reading ids.
  const ids = new Int32Array(list.length);
  for (let i = 0; i < ids.length; i++) {
    const id: unknown = typeof list[i] === 'bigint' ? Number(list[i]) : list[i];
    if (!Number.isInteger(id) || (id as number) < 0 || (id as number) >= limit) {
      const below = vocabulary === undefined ? '' : ` below the vocabulary's ${vocabulary}`;
      throw new InputError(`entry ${i} is ${describe(list[i])}, not a token id${below}`, { at });
    }
    ids[i] = id as number;
  }
  return ids;
}
