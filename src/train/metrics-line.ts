import { z } from 'zod';

/** What is measured at a step, by flat names; see metrics.ts. */
export type Metrics = Record<string, number | string | boolean>;

/** One line of metrics.jsonl. */
export const metricsLineSchema = z
  .record(z.string(), z.union([z.number(), z.string(), z.boolean()]))
  .and(z.looseObject({ step: z.number().int().min(0) }));

export type MetricsLine = Metrics & { step: number };
