import { z } from 'zod';

/** The keys that mappings of a file may have, from the schema that checks it. */

/** Every key with its parents, such as `optimizer.learningRate`; none of the entries of lists. */
export function keysOf(schema: z.core.$ZodType): string[] {
  return Object.entries(shapeOf(schema)).flatMap(([key, child]) => [
    key,
    ...keysOf(child).map((below) => `${key}.${below}`),
  ]);
}

/** The keys of the mapping at `path`, of an entry of a list too. */
export function keysAt(schema: z.core.$ZodType, path: readonly PropertyKey[]): string[] {
  const at = path.reduce<z.core.$ZodType | undefined>(
    (parent, key) => (parent instanceof z.ZodArray ? parent.element : shapeOf(parent)[String(key)]),
    schema,
  );
  return Object.keys(shapeOf(at));
}

/** What a mapping may hold, as it stands in a file; nothing for anything else. */
function shapeOf(schema: z.core.$ZodType | undefined): Readonly<Record<string, z.core.$ZodType>> {
  if (schema instanceof z.ZodObject) return schema.shape;
  if (schema instanceof z.ZodPipe) return shapeOf(schema.in);
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault)
    return shapeOf(schema.unwrap());
  return {};
}
