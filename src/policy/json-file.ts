import { readFileSync } from 'node:fs';
import type * as z from 'zod';
import { InputError } from '../errors.js';

/** @throws InputError where the file is not JSON */
export function readJson(file: string): unknown {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    throw new InputError(`is not readable JSON: ${(error as Error).message}`, { at: { file }, cause: error });
  }
}

/** Throws the first issue of a failed parse as an InputError that names the field. */
export function checked<T>(schema: z.ZodType<T>, value: unknown, file: string): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new InputError(issue.message, { at: { file, field: issue.path.join('.') || undefined } });
}
