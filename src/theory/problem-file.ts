import { z } from 'zod';
import { InputError } from '../errors.js';
import { checked, fieldName, parseJson, readText } from '../files/read.js';
import { type LossSettings, lossNames, type MarginLoss, marginLoss } from '../objective/losses.js';
import type { LogLinearProblem } from '../policy/log-linear-problem.js';

const schema = z.strictObject({
  loss: z.enum(lossNames),
  beta: z.number().positive(),
  labelSmoothing: z.number().optional(),
  radius: z.number().positive().nullable(),
  groups: z
    .array(
      z.strictObject({
        differences: z.array(z.array(z.number()).min(1)).min(1),
        offsets: z.array(z.number()).optional(),
      }),
    )
    .min(1),
});

/** A minimax problem as a file states it. */
export interface ProblemFile {
  problem: LogLinearProblem;
  loss: MarginLoss;
  /** Absent where the file has null: θ is free. */
  radius?: number;
}

/**
 * Reads `{"loss","beta","labelSmoothing"?,"radius":null|number,"groups":[{"differences":[[...]],"offsets":[...]?}]}`: row i of a group's
 * differences is d_i, and `offsets` its o_i, see {@link LogLinearProblem}.
 *
 * @throws InputError that names the file and the field.
 */
export function readProblemFile(file: string): ProblemFile {
  const { loss, beta, labelSmoothing, radius, groups } = checked(schema, parseJson(readText(file), { file }), { file });
  const dimension = groups[0].differences[0].length;
  for (const [g, { differences, offsets }] of groups.entries()) {
    for (const [i, row] of differences.entries())
      if (row.length !== dimension)
        throw new InputError(`has ${row.length} entries, the first row has ${dimension}`, {
          at: { file, field: fieldName(['groups', g, 'differences', i]) },
          fix: 'give all rows of all groups the same length, d',
        });
    if (offsets && offsets.length !== differences.length)
      throw new InputError(`has ${offsets.length} entries for ${differences.length} rows of differences`, {
        at: { file, field: fieldName(['groups', g, 'offsets']) },
        fix: 'give one offset for each row, or leave offsets out',
      });
  }
  return {
    loss: lossOf({ loss, beta, labelSmoothing }, file),
    radius: radius ?? undefined,
    problem: {
      dimension,
      groups: groups.map(({ differences, offsets }) => ({
        count: differences.length,
        differences: Float64Array.from(differences.flat()),
        offsets: offsets && Float64Array.from(offsets),
      })),
    },
  };
}

/** @throws InputError that names the file too */
function lossOf(settings: LossSettings, file: string): MarginLoss {
  try {
    return marginLoss(settings);
  } catch (cause) {
    if (!(cause instanceof InputError)) throw cause;
    throw new InputError(cause.problem, { at: { ...cause.location, file }, fix: cause.fix, cause });
  }
}
