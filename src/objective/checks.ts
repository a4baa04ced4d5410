import { InputError } from '../errors.js';

/** Checks of settings that are numbers; all throw an InputError that names the field. */

export function checkRange(field: string, value: number, low: number, high: number): void {
  if (!(value >= low && value <= high))
    throw new InputError(`${field} must lie in [${low}, ${high === Number.MAX_VALUE ? '∞' : high}], not ${value}`, {
      at: { field },
    });
}

export function checkPositive(field: string, value: number): void {
  if (!(value > 0 && Number.isFinite(value)))
    throw new InputError(`${field} must be a positive number, not ${value}`, { at: { field } });
}

/** One number per group, each passing `check`. */
export function checkList(
  field: string,
  values: readonly number[],
  groupCount: number,
  check: (field: string, value: number) => void = (name, value) => checkRange(name, value, 0, Number.MAX_VALUE),
): void {
  if (values.length !== groupCount)
    throw new InputError(`${field} has ${values.length} entries for ${groupCount} groups`, {
      at: { field },
      fix: 'give one number per group, in the order of the groups',
    });
  for (const value of values) check(field, value);
}
