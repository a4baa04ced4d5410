import { z } from 'zod';

/** An object whose keys are names, as a map: Zod's own takes "constructor" and "__proto__" for more than data. */
export function byName<T extends z.ZodType>(value: T) {
  return z.preprocess(
    (raw) => (typeof raw === 'object' && raw !== null && !Array.isArray(raw) ? new Map(Object.entries(raw)) : raw),
    z.map(z.string(), value),
  );
}
