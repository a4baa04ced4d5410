import { refuseDeep } from '../../files/read.js';
import { parsePythonLiteral } from './python-literal.js';

/**
 * The list or mapping that a cell of text holds, in JSON's notation or Python's; mappings come as objects or maps.
 * @throws PythonLiteralError saying where it is neither, or an InputError where it is nested too deeply
 */
export function parseNotation(text: string): unknown {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return parsePythonLiteral(text);
  }
  refuseDeep(value);
  return value;
}

/** The same value with objects for maps. */
export function withoutMaps(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutMaps);
  if (value instanceof Map) return Object.fromEntries([...value].map(([key, entry]) => [key, withoutMaps(entry)]));
  return value;
}
