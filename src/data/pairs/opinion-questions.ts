import { InputError } from '../../errors.js';
import { parseNotation } from '../tables/notation.js';
import { describe, listOf, type Row, type RowLocation, requireColumn, rowNumber } from '../tables/row.js';
import { type TextTokenizer, tokenisePair } from '../text/tokenizer.js';
import type { PreferenceRecord } from './pairs.js';

/** Questions of a survey, which pairs carry with them: how a group answered, all options at once. */

/** What a group was asked, and the share of its members that chose each option. */
export interface OpinionQuestion {
  /** `file:line` of the first pair that carries it, to name it in messages. */
  id: string;
  /** Index into the data set's groups. */
  group: number;
  /** Equal for what is asked several times of one group, in other words: of countries of one region, say. Else the id. */
  question: string;
  /** Starts with BOS. */
  prompt: Int32Array;
  /** [options] the responses A, B, C, …, each with its EOS. */
  options: Int32Array[];
  /** [options] they sum to 1. */
  shares: number[];
}

/** A, B, C, … */
export function optionLetter(option: number): string {
  return String.fromCharCode(65 + option);
}

export const mostOptions = 26;

/** How far the sum of rounded shares may be from 1. */
const rounding = 0.02;

/** What a row says of its question besides the pair. */
export interface AskedQuestion {
  question?: string;
  /** [options] */
  shares: number[];
}

type TextRecord = PreferenceRecord & { kind: 'text' };

/**
 * The shares that a row of a survey's pairs carries: those of all options of its question, the letters from A on.
 * @throws InputError naming file, line or row, and field, where they are missing or no distribution over letters
 */
export function readShares(row: Row, record: PreferenceRecord): number[] {
  const at = { ...row.at, field: 'shares' };
  const list = sharesOf(row);
  if (list === undefined) {
    const fix =
      'give a list with the share of each option, such as [0.7, 0.3], as `group-robust data global-opinions` writes it';
    requireColumn(row, 'shares', fix);
    throw new InputError(`expected the share of each option, found ${describe(row.values.shares)}`, { at, fix });
  }
  if (list.length < 2 || list.length > mostOptions)
    throw new InputError(`has ${list.length} options`, { at, fix: `give 2 to ${mostOptions}, one for each letter` });
  const bad = list.find((share) => !(typeof share === 'number' && Number.isFinite(share) && share >= 0));
  if (bad !== undefined) throw new InputError(`holds ${describe(bad)}, which is no share`, { at });
  const shares = list as number[];
  const sum = shares.reduce((total, share) => total + share, 0);
  if (!(Math.abs(sum - 1) <= rounding))
    throw new InputError(`has shares that sum to ${sum}, not 1`, { at, fix: 'give the share of every option' });
  if (record.kind !== 'text')
    throw new InputError(`is beside ${record.kind === 'ids' ? 'token ids' : 'a conversation'}`, {
      at,
      fix: 'give prompt, chosen and rejected as plain text: the options are letters, which are tokenised here',
    });
  const last = optionLetter(shares.length - 1);
  for (const field of ['chosen', 'rejected'] as const)
    if (!isOption(record[field], shares.length))
      throw new InputError(`is "${record[field]}", which is none of the options A to ${last}`, {
        at: { ...row.at, field },
        fix: 'write a response as the letter of its option; "shares" has one share for each letter',
      });
  return shares.map((share) => share / sum);
}

/** Whether a row is one of a survey's, rather than one whose column of this name means something else. */
export function carriesShares(row: Row, record: PreferenceRecord): boolean {
  const list = sharesOf(row);
  if (list === undefined || record.kind !== 'text') return false;
  return list.every((share) => typeof share === 'number') && isOption(record.chosen, list.length);
}

/** Of CSV it is a list in JSON's or Python's notation. */
function sharesOf({ values, untyped }: Row): unknown[] | undefined {
  const value = values.shares;
  if (!untyped || typeof value !== 'string')
    return listOf(value)?.map((share) => (typeof share === 'bigint' ? Number(share) : share));
  try {
    return listOf(parseNotation(value));
  } catch {
    return undefined;
  }
}

/** What a row says of its question, see {@link OpinionQuestion}: of one survey, the row in which it is asked first. */
export function readQuestion({ values }: Row): string | undefined {
  return values.question == null ? undefined : String(values.question);
}

function isOption(text: string, options: number): boolean {
  return text.length === 1 && text >= 'A' && text <= optionLetter(options - 1);
}

/** The mass of one would count for the other. */
function refuseEqual(options: readonly Int32Array[], at: RowLocation): void {
  const seen = new Map<string, number>();
  for (const [option, ids] of options.entries()) {
    const other = seen.get(ids.join());
    if (other !== undefined)
      throw new InputError(
        `has options ${optionLetter(other)} and ${optionLetter(option)}, which become the same tokens`,
        {
          at: { ...at, field: 'shares' },
          fix: 'take a tokenizer that tells the letters apart',
        },
      );
    seen.set(ids.join(), option);
  }
}

/** What is tokenised of a question. */
export function questionTexts({ prompt }: TextRecord, shares: readonly number[]): string[] {
  return [prompt, ...shares.map((_, option) => prompt + optionLetter(option))];
}

/** Collects the questions of a file: the pairs of one question, which have prompt, group and shares in common, carry it once. */
export class OpinionQuestions {
  readonly questions: OpinionQuestion[] = [];
  private readonly known = new Set<string>();

  /**
   * @param asked of {@link readQuestion} and {@link readShares}
   * @param check called with the tokens of two options at a time, which throws where the model cannot read them
   * @throws as `check`; then nothing is added
   */
  add(
    record: TextRecord,
    group: number,
    { question, shares }: AskedQuestion,
    tokenizer: TextTokenizer,
    check: (tokens: { prompt: Int32Array; chosen: Int32Array; rejected: Int32Array }) => void,
  ): void {
    const key = JSON.stringify([group, record.prompt, shares]);
    if (this.known.has(key)) return;
    const texts = { prompt: record.prompt, chosen: optionLetter(0) };
    const tokenised = shares
      .slice(1)
      .map((_, i) => tokenisePair(tokenizer, { ...texts, rejected: optionLetter(i + 1) }, record.at));
    const { prompt, chosen } = tokenised[0];
    const options = [chosen, ...tokenised.map(({ rejected }) => rejected)];
    refuseEqual(options, record.at);
    tokenised.forEach(check);
    this.known.add(key);
    const id = `${record.at.file}:${rowNumber(record.at)}`;
    this.questions.push({ id, group, question: question ?? id, prompt, options, shares });
  }
}
