import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { splitLines } from '../data/tables/lines.js';
import { rowNumber } from '../data/tables/row.js';
import { readRows } from '../data/tables/rows.js';
import { InputError } from '../errors.js';
import { csvOfRecords } from '../files/csv.js';
import { checked, parseJson, readBytes } from '../files/read.js';
import { type Method, methodNames } from './stages.js';

/**
 * What a method made of one test pair: all that the tests of several folds and seeds are judged by. Without texts, so that it can be
 * published where neither the survey nor the adapters may be.
 */
export interface TestedPair {
  method: Method;
  seed: number;
  /** Number of its question in the survey. */
  question: number;
  group: string;
  loss: number;
  /** 1 where the policy's log-ratio to the reference is greater for the chosen response, ½ where it is equal, else 0. */
  reward_accuracy: number;
  /** The same of the policy's log-probabilities. */
  policy_accuracy: number;
}

/** A run that was tested on one split or fold. */
export interface TestedRun {
  run: string;
  method: Method;
  seed: number;
  /** Folder of its pairs. */
  data: string;
}

const pairSchema = z.looseObject({
  line: z.number().int().positive(),
  group: z.string(),
  loss: z.number(),
  'rewards/accuracies': z.number(),
  'logps/accuracies': z.number(),
});
const questionNumber = z.number().int().min(0);
const questionSchema = z.looseObject({ question: questionNumber });

/**
 * The tested pairs of runs; of the best step where a run kept it.
 * @throws InputError naming the file that is missing or damaged
 */
export async function testedPairs(runs: readonly TestedRun[]): Promise<TestedPair[]> {
  const pairs: TestedPair[] = [];
  for (const { run, method, seed, data } of runs) {
    const source = join(data, 'test.jsonl');
    const rows = await readLines(source, questionSchema);
    const best = join(run, 'evaluation-best-pairs.jsonl');
    const file = existsSync(best) ? best : join(run, 'evaluation-pairs.jsonl');
    for (const { line, group, loss, ...accuracies } of await readLines(file, pairSchema)) {
      const question = rows[line - 1]?.question;
      if (question === undefined)
        throw new InputError(`names line ${line}, which ${source} does not have`, { at: { file } });
      const reward_accuracy = accuracies['rewards/accuracies'];
      pairs.push({
        method,
        seed,
        question,
        group,
        loss,
        reward_accuracy,
        policy_accuracy: accuracies['logps/accuracies'],
      });
    }
  }
  return pairs;
}

/** A row a pair; {@link readTestedPairs} reads it back, every number as it was. */
export function testedPairsCsv(pairs: readonly TestedPair[]): string {
  return csvOfRecords(pairs.map((pair) => ({ ...pair })));
}

const number = z
  .string()
  .regex(/^-?[\d.]+(e[+-]?\d+)?$/, 'expected a number')
  .transform(Number);
const rowSchema = z.object({
  method: z.enum(methodNames),
  seed: number,
  question: number.pipe(questionNumber),
  group: z.string().min(1),
  loss: number,
  reward_accuracy: number,
  policy_accuracy: number,
});

/** @throws InputError naming file, line and column */
export async function readTestedPairs(file: string): Promise<TestedPair[]> {
  const pairs: TestedPair[] = [];
  for await (const { at, values } of readRows(file, Object.keys(rowSchema.shape)))
    pairs.push(checked(rowSchema, values, { file, line: rowNumber(at) }));
  if (pairs.length === 0) throw new InputError('holds no tested pair', { at: { file } });
  return pairs;
}

async function readLines<T>(file: string, schema: z.ZodType<T>): Promise<T[]> {
  const lines: T[] = [];
  for await (const { number: line, text } of splitLines(readBytes(file), file))
    lines.push(checked(schema, parseJson(text, { file, line }), { file, line }));
  return lines;
}
