import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { splitLines } from '../data/tables/lines.js';
import { checked, parseJson, readBytes } from '../files/read.js';
import { type MetricMeans, pairMetrics } from '../train/metrics.js';
import type { PairScores } from './group-measures.js';

/** What a run made of one pair of its test file. */
export interface TestScore extends PairScores {
  /** Where the pair stands in the test file. */
  line: number;
  /** Names of its groups. */
  groups: readonly string[];
  /** Within them. */
  weight: number;
}

const pairSchema = z.looseObject({
  line: z.number().int().positive(),
  group: z.union([z.string(), z.array(z.string()).nonempty()]),
  // Runs of earlier versions have none.
  weight: z.number().min(0).default(1),
  loss: z.number(),
  'rewards/accuracies': z.number().optional(),
  'rewards/margins': z.number().optional(),
  'logps/accuracies': z.number().optional(),
});

/**
 * The tested pairs of a run, of the best step where it kept that. They have no reward accuracies where all rewards tie, as before the first step.
 * @returns the file they are from, too, and whether they tie
 * @throws InputError naming the file that is missing or damaged
 */
export async function readTestScores(run: string): Promise<{ file: string; pairs: TestScore[]; tied: boolean }> {
  const best = join(run, 'evaluation-best-pairs.jsonl');
  const file = existsSync(best) ? best : join(run, 'evaluation-pairs.jsonl');
  const lines = await readLines(file, pairSchema);
  const tied = lines.every((pair) => pair['rewards/accuracies'] === 0 && pair['rewards/margins'] === 0);
  const pairs = lines.map(({ line, group, weight, loss, ...scores }) => ({
    line,
    groups: [group].flat(),
    weight,
    loss,
    reward_accuracy: tied ? undefined : scores['rewards/accuracies'],
    policy_accuracy: scores['logps/accuracies'],
  }));
  return { file, pairs, tied };
}

/** All metrics of the tested pairs in such a file. @throws InputError naming the file that is missing or damaged */
export async function readPairMetrics(
  file: string,
): Promise<(Pick<TestScore, 'line' | 'groups' | 'weight'> & { values: MetricMeans })[]> {
  return (await readLines(file, pairSchema)).map(({ line, group, weight, ...rest }) => {
    const values = Object.entries(rest).filter(
      ([name, value]) => pairMetrics.some((metric) => metric === name) && typeof value === 'number',
    );
    return { line, groups: [group].flat(), weight, values: Object.fromEntries(values) };
  });
}

/** The lines of a file of JSON. @throws InputError naming file, line and field */
export async function readLines<T>(file: string, schema: z.ZodType<T>): Promise<T[]> {
  const lines: T[] = [];
  for await (const { number: line, text } of splitLines(readBytes(file), file))
    lines.push(checked(schema, parseJson(text, { file, line }), { file, line }));
  return lines;
}
