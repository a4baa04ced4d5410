import { join } from 'node:path';
import { z } from 'zod';
import { groupText } from '../data/pairs/groups.js';
import { rowNumber } from '../data/tables/row.js';
import { readRows } from '../data/tables/rows.js';
import { InputError } from '../errors.js';
import { csvOfRecords } from '../files/csv.js';
import { checked } from '../files/read.js';
import type { PairScores } from '../report/group-measures.js';
import { readLines, readTestScores } from '../report/pair-scores.js';
import { type Method, methodNames } from './stages.js';

/**
 * What a method made of one test pair: all that the tests of several folds and seeds are judged by. Without texts, so that it can be
 * published where neither the survey nor the adapters may be.
 */
export interface TestedPair extends PairScores {
  /** Absent where all rewards are equal: the method chose the model that it began with. */
  reward_accuracy?: number;
  policy_accuracy: number;
  method: Method;
  seed: number;
  /** Number of its question in the survey. */
  question: number;
  group: string;
}

/** A run that was tested on one split or fold. */
export interface TestedRun {
  run: string;
  method: Method;
  seed: number;
  /** Folder of its pairs. */
  data: string;
}

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
    const { file, pairs: scores } = await readTestScores(run);
    for (const { line, groups, loss, reward_accuracy, policy_accuracy } of scores) {
      const question = rows[line - 1]?.question;
      if (question === undefined)
        throw new InputError(`names line ${line}, which ${source} does not have`, { at: { file } });
      if (policy_accuracy === undefined)
        throw new InputError(`has no accuracy on line ${line}`, {
          at: { file },
          fix: 'pool runs of a preference loss',
        });
      pairs.push({ method, seed, question, group: groupText(groups), loss, reward_accuracy, policy_accuracy });
    }
  }
  return pairs;
}

/** A row a pair; {@link readTestedPairs} reads it back, every number as it was. */
export function testedPairsCsv(pairs: readonly TestedPair[]): string {
  return csvOfRecords(
    pairs.map(({ method, seed, question, group, loss, reward_accuracy, policy_accuracy }) => ({
      method,
      seed,
      question,
      group,
      loss,
      reward_accuracy,
      policy_accuracy,
    })),
  );
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
  reward_accuracy: z.union([z.literal('').transform(() => undefined), number]),
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
