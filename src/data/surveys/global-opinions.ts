import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { InputError } from '../../errors.js';
import { checkUnchanged, stateOf } from '../../files/opened-file.js';
import { orderedRecord } from '../../files/ordered-record.js';
import { hashFile, readWhole } from '../../files/read.js';
import { Random } from '../../numbers/random.js';
import { listNames } from '../../terminal/names.js';
import { type PromptTemplate, paperTemplate } from '../pairs/prompt-template.js';
import { readCsv } from '../tables/csv.js';
import { nearMatches } from '../tables/near-matches.js';
import { parseNotation } from '../tables/notation.js';
import { type BadRowHandler, describe, type Row, type RowLocation, rowNumber } from '../tables/row.js';
import { isParquet, readRows } from '../tables/rows.js';

/**
 * GlobalOpinionQA: survey questions with the distribution of answers in many countries, in the hub's columns
 * question, selections, options, and the preference pairs made of it. "The spec" below is the paper's
 * appendix D.4 and its code.
 */

/** One question of the file. */
export interface SurveyQuestion {
  /** Index in the file, from 0, bad rows counted. */
  row: number;
  /** Line of the file its row starts on, of Parquet its row, from 1. */
  line: number;
  question: string;
  options: string[];
  /** Share of each option, by country. Lengths and values are not yet checked. */
  selections: Map<string, number[]>;
}

export interface BadRow {
  /** Of Parquet the row. */
  line: number;
  /** Absent where the whole row is at fault. */
  field?: string;
  problem: string;
}

export interface Survey {
  file: string;
  sha256: string;
  rows: number;
  questions: SurveyQuestion[];
  /** Rows that could not be read. */
  bad: BadRow[];
}

const COLUMNS = ['question', 'selections', 'options'] as const;

/**
 * Reads a survey: CSV, JSONL or Parquet, by the ending of its name; of a pipe of the shell CSV, since it can be read once only.
 * @throws InputError when the file is missing, is of another kind, or lacks a column; single bad rows are collected instead
 */
export async function readSurvey(file: string): Promise<Survey> {
  const before = stateOf(file);
  if (!before) return parseSurvey(readWhole(file), file);
  const sha256 = (await hashFile(file)).digest('hex');
  const survey = await collect((badRow) => readRows(file, COLUMNS, { badRow }), file, sha256);
  checkUnchanged([before]);
  return survey;
}

/** As {@link readSurvey}, on the bytes of CSV. */
export async function parseSurvey(bytes: Uint8Array, file: string): Promise<Survey> {
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  return collect((badRow) => readCsv(file, [bytes], badRow), file, sha256);
}

async function collect(
  rowsOf: (badRow: BadRowHandler) => AsyncIterable<Row>,
  file: string,
  sha256: string,
): Promise<Survey> {
  const survey: Survey = { file, sha256, rows: 0, questions: [], bad: [] };
  const badRow: BadRowHandler = ({ problem, location: { line = 0, field } }) => {
    survey.rows++;
    survey.bad.push({ line, field, problem });
  };
  let checked = false;
  for await (const { at, columns, values } of rowsOf(badRow)) {
    if (!checked) checkColumns(columns, at);
    checked = true;
    const row = survey.rows++;
    const line = rowNumber(at);
    try {
      survey.questions.push({
        row,
        line,
        question: readQuestion(values.question),
        options: readOptions(values.options),
        selections: readSelections(values.selections),
      });
    } catch (error) {
      if (!(error instanceof BadField)) throw error;
      survey.bad.push({ line, field: error.field, problem: error.message });
    }
  }
  if (survey.rows === 0) throw new InputError('holds no question', { at: { file }, fix: COLUMNS_FIX });
  return survey;
}

const COLUMNS_FIX =
  'use the survey of Anthropic/llm_global_opinions: question, selections, options, as CSV, JSONL or Parquet';

/** @throws InputError when a needed one is missing */
function checkColumns(columns: readonly string[], at: RowLocation): void {
  const missing = COLUMNS.filter((column) => !columns.includes(column));
  if (missing.length > 0)
    throw new InputError(`has no column ${missing.map((column) => `"${column}"`).join(' and no column ')}`, {
      at,
      fix: COLUMNS_FIX,
    });
}

class BadField extends Error {
  constructor(
    readonly field: string,
    problem: string,
  ) {
    super(problem);
  }
}

function readQuestion(value: unknown): string {
  if (typeof value === 'string') return value;
  throw new BadField('question', `is ${describe(value)}, no text`);
}

/** A list or mapping as it is, or parsed where it stands as text. */
function parsed(field: string, value: unknown): unknown {
  if (typeof value !== 'string') return value;
  try {
    return parseNotation(value);
  } catch (error) {
    throw new BadField(field, (error as Error).message);
  }
}

function readOptions(value: unknown): string[] {
  const options = typeof value === 'string' && value.trim() === '' ? [] : parsed('options', value);
  const list = listOf(options);
  if (list === undefined) throw new BadField('options', 'is not a list');
  return list.map((option) => {
    if (typeof option === 'string') return option;
    if (typeof option === 'number' || typeof option === 'bigint') return String(option);
    throw new BadField('options', 'holds something that is neither text nor a number');
  });
}

function readSelections(value: unknown): Map<string, number[]> {
  const selections = parsed('selections', value);
  const isMapping = typeof selections === 'object' && selections !== null && listOf(selections) === undefined;
  if (!isMapping) throw new BadField('selections', 'is not a dict');
  const entries: [unknown, unknown][] = selections instanceof Map ? [...selections] : Object.entries(selections);
  // Where they are columns of columns, a row has all countries of the file, those that were not asked without a value.
  const asked = entries.filter(([, shares]) => selections instanceof Map || shares !== null);
  return new Map(
    asked.map(([country, shares]) => {
      const list = listOf(shares)?.map((share) => (typeof share === 'bigint' ? Number(share) : share));
      if (typeof country === 'string' && list?.every((share) => typeof share === 'number')) return [country, list];
      throw new BadField('selections', 'is not a dict from country to list of numbers');
    }),
  );
}

/** Parquet's lists of numbers come as typed arrays. */
function listOf(value: unknown): unknown[] | undefined {
  if (ArrayBuffer.isView(value)) return Array.from(value as unknown as ArrayLike<number | bigint>);
  return Array.isArray(value) ? value : undefined;
}

/** The prompt of the paper: a line that names the country and the question, an instruction, one line for each option. */
export function opinionPrompt(
  country: string,
  question: string,
  options: readonly string[],
  template: PromptTemplate = paperTemplate,
): string {
  const lines = options.map((option, i) => `\n${optionLetter(i)}. ${option}`);
  return template.fill(country, `${question}\nSelect the best response:${lines.join('')}`);
}

/** A, B, C, … */
function optionLetter(option: number): string {
  return String.fromCharCode(65 + option);
}

/** A preference of a country, as a line of a pairs file. */
export interface OpinionPair {
  group: string;
  prompt: string;
  /** Letters. */
  chosen: string;
  rejected: string;
  /** Row of the survey it comes from. */
  row: number;
}

export type OpinionSplit = 'train' | 'validation' | 'test';
const OPINION_SPLITS: readonly OpinionSplit[] = ['train', 'validation', 'test'];

export interface OpinionOptions {
  /** Countries, exactly as in the file; their order is kept. */
  groups: readonly string[];
  /** Decides the split and the losers. */
  seed: number;
  /** Up to four pairs a question, from the ranking of all options, instead of one. */
  multiPair?: boolean;
  /** Leave bad rows out and count them, instead of refusing the file. */
  skipBadRows?: boolean;
  /** How the country comes into the prompt; decides nothing else. Default: {@link paperTemplate}. */
  template?: PromptTemplate;
}

/** Why a country's answers to a question give no pair. */
export type FilterReason = 'emptyQuestion' | 'emptyOptions' | 'emptySelections' | 'zeroSum' | 'singleOption';

export interface OpinionGroup {
  /** Readable rows that have the country. */
  rows: number;
  filtered: Record<FilterReason, number>;
  /** Rows replaced by a later one with the same question and options. */
  duplicates: number;
  /** Questions whose most frequent answer is shared by two options; the first counts as the winner. */
  tied: number;
  /** Different questions in each split; all pairs of a question are in one split. */
  questions: Record<OpinionSplit, number>;
  pairs: Record<OpinionSplit, number>;
}

export interface OpinionSummary {
  source: { file: string; sha256: string; rows: number };
  seed: number;
  multiPair: boolean;
  template: string;
  /** Rows left out because they cannot be read or contradict themselves. */
  badRows: BadRow[];
  groups: Record<string, OpinionGroup>;
  totals: { rows: number; filtered: number; duplicates: number; pairs: Record<OpinionSplit, number> };
  warnings: string[];
}

export interface OpinionPairs {
  splits: Record<OpinionSplit, OpinionPair[]>;
  summary: OpinionSummary;
}

/**
 * Preference pairs of some countries, split 80/10/10 within each: winner is the most frequent answer, loser one of the
 * others, uniformly. The loser of a question depends on nothing but seed, country and question.
 * @throws InputError for an unknown country (with near matches), and for bad rows unless they are to be skipped
 */
export function opinionPairs(survey: Survey, options: OpinionOptions): OpinionPairs {
  const badRows = [...survey.bad, ...contradictions(survey, options.groups)].sort((a, b) => a.line - b.line);
  if (badRows.length > 0 && !options.skipBadRows) refuse(survey.file, badRows);
  checkGroups(survey, options.groups);
  const badLines = new Set(badRows.map((bad) => bad.line));
  const { template = paperTemplate } = options;

  const splits: OpinionPairs['splits'] = { train: [], validation: [], test: [] };
  const groups = new Map<string, OpinionGroup>();
  const lacking: Record<OpinionSplit, string[]> = { train: [], validation: [], test: [] };
  for (const group of options.groups) {
    const counts: OpinionGroup = {
      rows: 0,
      filtered: { emptyQuestion: 0, emptyOptions: 0, emptySelections: 0, zeroSum: 0, singleOption: 0 },
      duplicates: 0,
      tied: 0,
      questions: { train: 0, validation: 0, test: 0 },
      pairs: { train: 0, validation: 0, test: 0 },
    };
    groups.set(group, counts);
    // Keyed by prompt, as in the paper's code: the last of several equal questions wins.
    const questions = new Map<string, { row: number; shares: number[]; written: string }>();
    for (const question of survey.questions) {
      const shares = question.selections.get(group);
      if (shares === undefined || badLines.has(question.line)) continue;
      counts.rows++;
      const reason = filterReason(question, shares);
      if (reason) {
        counts.filtered[reason]++;
        continue;
      }
      const prompt = opinionPrompt(group, question.question, question.options);
      if (questions.has(prompt)) counts.duplicates++;
      const written = opinionPrompt(group, question.question, question.options, template);
      questions.set(prompt, { row: question.row, shares, written });
    }

    const prompts = [...questions.keys()];
    const assigned = splitIndices(prompts.length, Random.stream(options.seed, 'global-opinions', 'split', group));
    for (const split of OPINION_SPLITS)
      for (const index of assigned[split]) {
        const prompt = prompts[index];
        const { row, shares, written } = questions.get(prompt)!;
        const random = Random.stream(options.seed, 'global-opinions', 'pairs', prompt);
        const pairs = options.multiPair ? rankedPairs(shares, random) : [winnerAndLoser(shares, random)];
        for (const [winner, loser] of pairs)
          splits[split].push({
            group,
            prompt: written,
            chosen: optionLetter(winner),
            rejected: optionLetter(loser),
            row,
          });
        counts.questions[split]++;
        counts.pairs[split] += pairs.length;
        if (shares.filter((share) => share === Math.max(...shares)).length > 1) counts.tied++;
      }
    for (const split of OPINION_SPLITS) if (counts.pairs[split] === 0) lacking[split].push(group);
  }

  const all = [...groups.values()];
  const total = (count: (group: OpinionGroup) => number) => all.reduce((sum, group) => sum + count(group), 0);
  return {
    splits,
    summary: {
      source: { file: survey.file, sha256: survey.sha256, rows: survey.rows },
      seed: options.seed,
      multiPair: options.multiPair ?? false,
      template: template.text,
      badRows,
      groups: orderedRecord(groups),
      totals: {
        rows: total((group) => group.rows),
        filtered: total((group) => Object.values(group.filtered).reduce((sum, count) => sum + count, 0)),
        duplicates: total((group) => group.duplicates),
        pairs: { train: splits.train.length, validation: splits.validation.length, test: splits.test.length },
      },
      warnings: OPINION_SPLITS.flatMap((split) =>
        lacking[split].length > 0 ? [`no ${split} pair of group ${listNames(lacking[split])}`] : [],
      ),
    },
  };
}

/** Writes train.jsonl, validation.jsonl, test.jsonl and summary.json into a folder. */
export function writeOpinionPairs(folder: string, { splits, summary }: OpinionPairs): void {
  for (const split of OPINION_SPLITS)
    writeFileSync(join(folder, `${split}.jsonl`), splits[split].map((pair) => `${JSON.stringify(pair)}\n`).join(''));
  writeFileSync(join(folder, 'summary.json'), `${JSON.stringify(summary, null, 2)}\n`);
}

function checkGroups(survey: Survey, groups: readonly string[]): void {
  const known = new Set(survey.questions.flatMap((question) => [...question.selections.keys()]));
  groups.forEach((group, i) => {
    if (groups.indexOf(group) < i) throw new InputError(`"${group}" is named twice`, { at: { field: '--groups' } });
    if (known.has(group)) return;
    const near = nearMatches(group, [...known]);
    throw new InputError(`"${group}" is no country of ${survey.file}`, {
      at: { field: '--groups' },
      fix:
        near.length > 0
          ? `did you mean ${near.map((name) => `"${name}"`).join(' or ')}?`
          : `it has ${[...known].sort().slice(0, 8).join(', ')}, … (${known.size} in all)`,
    });
  });
}

/** Rows whose answers of a wanted country cannot be right. */
function contradictions(survey: Survey, groups: readonly string[]): BadRow[] {
  return survey.questions.flatMap(({ line, options, selections }) => {
    if (options.length > 26)
      return [{ line, field: 'options', problem: `${options.length} options, more than there are letters` }];
    for (const group of groups) {
      const shares = selections.get(group) ?? [];
      const bad = shares.find((share) => !(Number.isFinite(share) && share >= 0));
      if (bad !== undefined)
        return [{ line, field: 'selections', problem: `the share ${bad} of "${group}" is no number ≥ 0` }];
      if (shares.length > 0 && options.length > 0 && shares.length !== options.length)
        return [
          { line, field: 'selections', problem: `${shares.length} shares of "${group}", ${options.length} options` },
        ];
    }
    return [];
  });
}

/** "line 7, field \"options\": is not a list" */
export function badRowText({ line, field, problem }: BadRow): string {
  return `line ${line}${field === undefined ? '' : `, field "${field}"`}: ${problem}`;
}

function refuse(file: string, bad: BadRow[]): never {
  const [first] = bad;
  const others = bad.slice(1, 11).map((row) => `\n  ${badRowText(row)}`);
  const more = bad.length > 11 ? `\n  … and ${bad.length - 11} more` : '';
  throw new InputError(
    `${first.problem}${bad.length > 1 ? `\n${bad.length} bad rows in all; the others:${others.join('')}${more}` : ''}`,
    {
      at: { file, [isParquet(file) ? 'row' : 'line']: first.line, field: first.field },
      fix: 'mend the rows, or leave them out with --skip-bad-rows',
    },
  );
}

/** The row filters of the paper's code; one option gives no pair. */
function filterReason(question: SurveyQuestion, shares: number[]): FilterReason | undefined {
  if (question.question.trim() === '') return 'emptyQuestion';
  if (question.options.length === 0) return 'emptyOptions';
  if (shares.length === 0) return 'emptySelections';
  if (!(shares.reduce((sum, share) => sum + share, 0) > 0)) return 'zeroSum';
  return question.options.length === 1 ? 'singleOption' : undefined;
}

function winnerAndLoser(shares: number[], random: Random): [winner: number, loser: number] {
  const winner = shares.indexOf(Math.max(...shares));
  const loser = random.integer(shares.length - 1);
  return [winner, loser < winner ? loser : loser + 1];
}

/** min(4, all) of the pairs that a ranking by share gives; options of equal share rank in their order. */
function rankedPairs(shares: number[], random: Random): [winner: number, loser: number][] {
  const ranking = [...shares.keys()].sort((a, b) => shares[b] - shares[a]);
  const pairs = ranking.flatMap((winner, i) => ranking.slice(i + 1).map((loser): [number, number] => [winner, loser]));
  return random.shuffle(pairs).slice(0, 4);
}

/** 80 % train; of the rest half test and half validation, with pandas' rounding (half to even). Indices ascend. */
export function splitIndices(count: number, random: Random): Record<OpinionSplit, number[]> {
  const order = random.shuffle(Array.from({ length: count }, (_, i) => i));
  const train = roundHalfToEven((4 * count) / 5);
  const test = roundHalfToEven((count - train) / 2);
  const ascending = (indices: number[]) => indices.sort((a, b) => a - b);
  return {
    train: ascending(order.slice(0, train)),
    test: ascending(order.slice(train, train + test)),
    validation: ascending(order.slice(train + test)),
  };
}

function roundHalfToEven(value: number): number {
  const floor = Math.floor(value);
  return value - floor === 0.5 ? floor + (floor % 2) : Math.round(value);
}
