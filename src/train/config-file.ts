import { readFileSync } from 'node:fs';
import { InputError } from '../errors.js';
import { refuseSpecial } from '../files/read.js';
import { lineOf, parseYaml, printYaml } from '../files/yaml.js';
import { resolveConfig, type TrainConfig } from './config.js';

/** Configurations as files. */

/**
 * Reads a YAML configuration, applies `--set key=value` overrides (values are YAML), and resolves it.
 * @param from where the overrides are from, for errors
 */
export function loadConfig(file: string, overrides: readonly string[] = [], from = '--set'): TrainConfig {
  refuseSpecial(file, { once: true });
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    throw new InputError('cannot be read', { at: { file }, fix: 'name an existing YAML file', cause });
  }
  const parsed = parseYaml(text, { file });
  const raw = parsed.value ?? {};
  if (!isMapping(raw))
    throw new InputError('is not a YAML mapping', {
      at: { file, line: 1 },
      fix: 'write keys and values, e.g. model: random:tiny',
    });
  const overridden = overrides.map((override) => applyOverride(raw, override, from));
  return resolveConfig(raw, (path) => {
    if (overridden.some((key) => key === path.slice(0, key.split('.').length).join('.'))) return { file: from };
    return { file, line: lineOf(parsed, path) };
  });
}

/** The resolved configuration as YAML, defaults included. */
export function printConfig(config: TrainConfig): string {
  return printYaml(config);
}

/** Returns the key. */
function applyOverride(raw: Record<PropertyKey, unknown>, override: string, from: string): string {
  const at = { field: from };
  const split = override.indexOf('=');
  if (split <= 0) throw new InputError(`"${override}" is not key=value`, { at, fix: 'e.g. --set objective.beta=0.1' });
  const name = override.slice(0, split);
  const parents = name.split('.');
  const last = parents.splice(-1);
  const text = override.slice(split + 1);
  const quotes = `the value is YAML; quotes around text go inside those of the shell: --set '${name}="…"'`;
  const { value } = parseYaml(text, { field: `${from} ${name}` }, quotes);
  let node = raw;
  for (const key of parents) {
    node[key] ??= {};
    const child = node[key];
    if (!isMapping(child) || key === '__proto__')
      throw new InputError(`"${name}" is not a key: "${key}" holds a value`, { at });
    node = child;
  }
  for (const key of last)
    if (value === null) delete node[key];
    else node[key] = value;
  return name;
}

function isMapping(value: unknown): value is Record<PropertyKey, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
