import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse as parseYaml, YAMLParseError } from 'yaml';
import { z } from 'zod';
import { readLines } from '../data/lines.js';
import { InputError } from '../errors.js';
import { type MetricMeans, metricDirections, type PairMetric } from '../train/metrics.js';

/** Reads run folders, as `group-robust train` leaves them, for the report. */

const means = z.looseObject(
  Object.fromEntries(Object.keys(metricDirections).map((name) => [name, z.number().optional()])) as Record<
    PairMetric,
    z.ZodOptional<z.ZodNumber>
  >,
);

const evaluationSchema = z.looseObject({
  groups: z
    .record(z.string(), means.extend({ count: z.number().int().positive(), loss: z.number() }))
    .refine((groups) => Object.keys(groups).length > 0, 'holds no group'),
});

const runSchema = z.looseObject({
  method: z.string().min(1),
  seed: z.number().int(),
  /** Two runs of one seed are paired only where they saw the same data. */
  dataHash: z.string().optional(),
});

const configSchema = z.looseObject({
  objective: z.looseObject({
    loss: z.string(),
    beta: z.number().optional(),
    labelSmoothing: z.number().optional(),
    reduction: z.string().optional(),
  }),
});

const metricsLineSchema = z
  .record(z.string(), z.union([z.number(), z.string(), z.boolean()]))
  .and(z.looseObject({ step: z.number().int().min(0) }));

/** One finished training run. */
export interface Run {
  folder: string;
  /** E.g. "gr-ipo". */
  method: string;
  seed: number;
  dataHash: string | undefined;
  /** run.json as it stands: versions, commit and so on. */
  record: Readonly<Record<string, unknown>>;
  /** The loss and what scales it; losses of two runs can be compared where this is equal. */
  objective: { loss: string; beta?: number; labelSmoothing?: number; reduction?: string };
  /** config.yaml as it stands. */
  config: string;
  /** One entry per line of metrics.jsonl. */
  metrics: readonly Readonly<Record<string, number | string | boolean>>[];
  /** Final test metrics by group, in the order of evaluation.json. */
  groups: Readonly<Record<string, MetricMeans & { count: number; loss: number }>>;
}

/**
 * Reads config.yaml, run.json, metrics.jsonl and evaluation.json of a run folder.
 * @throws InputError naming the file, line and field that is missing or malformed
 */
export async function readRun(folder: string): Promise<Run> {
  const { method, seed, dataHash, ...record } = readJson(join(folder, 'run.json'), runSchema);
  const configFile = join(folder, 'config.yaml');
  const config = readText(configFile);
  const { loss, beta, labelSmoothing, reduction } = validate(yamlOf(config, configFile), configSchema, {
    file: configFile,
  }).objective;
  const { groups } = readJson(join(folder, 'evaluation.json'), evaluationSchema);
  const metrics: Run['metrics'][number][] = [];
  const file = join(folder, 'metrics.jsonl');
  for await (const { number: line, text } of readLines(file))
    metrics.push(validate(jsonOf(text, { file, line }), metricsLineSchema, { file, line }));
  const objective = { loss, beta, labelSmoothing, reduction };
  return { folder, method, seed, dataHash, record, objective, config, metrics, groups };
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw new InputError('cannot be read', {
      at: { file },
      fix: 'name folders of finished runs that had data.test, as `group-robust train` leaves them',
      cause,
    });
  }
}

function readJson<T>(file: string, schema: z.ZodType<T>): T {
  return validate(jsonOf(readText(file), { file }), schema, { file });
}

function jsonOf(text: string, at: { file: string; line?: number }): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new InputError(`is not JSON: ${(cause as Error).message}`, { at, cause });
  }
}

function yamlOf(text: string, file: string): unknown {
  try {
    return parseYaml(text);
  } catch (cause) {
    if (!(cause instanceof YAMLParseError)) throw cause;
    throw new InputError(cause.message.split('\n')[0], { at: { file, line: cause.linePos?.[0].line }, cause });
  }
}

function validate<T>(value: unknown, schema: z.ZodType<T>, at: { file: string; line?: number }): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new InputError(issue.message, {
    at: { ...at, field: issue.path.join('.') || '(top level)' },
    cause: parsed.error,
  });
}
