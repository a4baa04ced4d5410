import { createHash } from 'node:crypto';
import { InputError, type InputLocation } from '../../errors.js';
import { checkUnchanged, stateOf } from '../../files/opened-file.js';
import { hashFile, readWhole } from '../../files/read.js';
import { optionLetter } from '../pairs/opinion-questions.js';
import { type PromptTemplate, paperTemplate } from '../pairs/prompt-template.js';
import { readCsv } from '../tables/csv.js';
import { parseNotation } from '../tables/notation.js';
import { type BadRowHandler, columnsAt, describe, listOf, type Row, rowNumber } from '../tables/row.js';
import { readRows } from '../tables/rows.js';

/**
 * GlobalOpinionQA: survey questions with the distribution of answers in many countries, in the hub's columns
 * question, selections, options. "The spec" below is the paper's appendix D.4 and its code.
 */

/** One question of the file. */
export interface SurveyQuestion {
  /** Index in the file, from 0, bad rows counted. */
  row: number;
  /** Line on which its row starts, from 1; in Parquet, the number of the row. */
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
 * Reads a survey: CSV, JSONL or Parquet, by the ending of its name; CSV from a pipe, which can be read only once.
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
  for await (const { at, columns, header, values } of rowsOf(badRow)) {
    if (!checked) checkColumns(columns, columnsAt({ header, at }));
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
function checkColumns(columns: readonly string[], at: InputLocation): void {
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
  throw new BadField('question', `is ${describe(value)}, not text`);
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
  // In nested columns a row has all countries of the file; those that were not asked have no value.
  const asked = entries.filter(([, shares]) => selections instanceof Map || shares !== null);
  return new Map(
    asked.map(([country, shares]) => {
      const list = listOf(shares)?.map((share) => (typeof share === 'bigint' ? Number(share) : share));
      if (typeof country === 'string' && list?.every((share) => typeof share === 'number')) return [country, list];
      throw new BadField('selections', 'is not a dict from country to list of numbers');
    }),
  );
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

/** "line 7, field \"options\": is not a list" */
export function badRowText({ line, field, problem }: BadRow): string {
  return `line ${line}${field === undefined ? '' : `, field "${field}"`}: ${problem}`;
}
