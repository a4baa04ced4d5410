import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { InputError, present } from '../errors.js';
import { setting } from '../reproduce/stages.js';
import type { TrainConfig } from '../train/config.js';
import { loadConfig } from '../train/config-file.js';
import { settingsOf } from '../train/identity.js';
import { hasEnded } from '../train/run-folder.js';
import type { MethodPlan, SweepConfig } from './config.js';

/** A sweep as single training runs. */

/** One combination of a method's grid, by key; empty for a method without one. */
export type Setting = ReadonlyMap<string, unknown>;

/** One run. */
export interface Cell {
  method: string;
  setting: Setting;
  seed: number;
  /** Its run folder. */
  folder: string;
  /** `key=value`, as `--set` takes it. */
  overrides: readonly string[];
  config: TrainConfig;
}

/**
 * Where the configuration has no `threads`: a number that depends neither on `--jobs` nor on the machine, as the last bits of a run depend on
 * it. Runs side by side make better use of cores than threads of one run do.
 */
export const defaultThreads = 1;

/** More are hardly meant, and would take minutes to be read. */
const MOST_CELLS = 10_000;

/**
 * All runs, seed by seed, so that a sweep that is stopped early has whole seeds.
 * @throws InputError naming the method and key where a configuration is wrong, or nothing could be selected or tested
 */
export function cellsOf(sweep: SweepConfig): Cell[] {
  const settings = settingsOfMethods(sweep);
  const cells = sweep.seeds.flatMap((seed) =>
    settings.flatMap(({ method, settings: own }) => own.map((one) => cellOf(sweep, method, one, seed))),
  );
  for (const { method, settings: own } of settings) {
    const configs = cells.filter((cell) => cell.method === method.name).slice(0, own.length);
    if (sweep.select === 'worst/loss' && new Set(configs.map(({ config }) => lossUnit(config))).size > 1)
      throw changedUnit(sweep, method.name);
  }
  checkJudgedAlike(sweep, cells, ({ config: { data } }) => ({
    'data.validation': data.validation,
    'data.test': data.test,
    'data.groupBy': data.groupBy,
    'data.people': data.people,
    'data.unusable': data.unusable,
    // By which pairs are left out; else too long ones are errors.
    'data.maxLength': data.unusable === 'drop' ? data.maxLength : undefined,
  }));
  return cells;
}

/**
 * Figures on other pairs or groups do not compare: no setting can be chosen by them, and a difference of two methods would be one of their data.
 * @param of what a run is judged on, by the key that says so
 * @throws InputError naming the first method and key in which it is not the same for all runs
 */
export function checkJudgedAlike<C extends { method: string }>(
  { file }: SweepConfig,
  cells: readonly C[],
  of: (cell: C) => Record<string, unknown>,
): void {
  const first = present(cells[0]);
  const wanted = of(first);
  for (const cell of cells)
    for (const [key, value] of Object.entries(of(cell))) {
      const [is, other] = [value, wanted[key]].map((one) => JSON.stringify(one) ?? 'absent');
      if (is === other) continue;
      const where = cell.method === first.method ? 'another setting of it' : `method ${first.method}`;
      throw new InputError(`is ${is}, but ${other} in ${where}: all runs must be judged on the same`, {
        at: { file: `${file}, method ${cell.method}`, field: key },
        fix: 'give it one value, or make a sweep of each',
      });
    }
}

/** The error of a method whose settings have losses that do not compare. */
export function changedUnit({ file }: SweepConfig, method: string): InputError {
  return new InputError('changes the unit of the loss, so that losses of its settings cannot be compared', {
    at: { file, field: `methods ${method}` },
    fix: 'write select: worst/accuracy',
  });
}

/** The settings of each method. @throws InputError where they are too many */
export function settingsOfMethods(sweep: SweepConfig): { method: MethodPlan; settings: Setting[] }[] {
  const settings = sweep.methods.map((method) => ({ method, settings: settingsOfGrid(method) }));
  const count = settings.reduce((sum, { settings: own }) => sum + own.length, 0) * sweep.seeds.length;
  if (count > MOST_CELLS)
    throw new InputError(`are ${count} runs, more than ${MOST_CELLS}`, {
      at: { file: sweep.file, field: 'methods' },
      fix: 'take fewer values or seeds, or several sweeps',
    });
  return settings;
}

/** Where the run of a cell lies. */
export function cellFolder(sweep: SweepConfig, method: string, one: Setting, seed: number): string {
  return join(sweep.output, 'cells', method, settingName(one), `seed-${seed}`);
}

/** Losses can be compared where this is equal. A tilt is no part of it: evaluations are of the plain losses. */
export function lossUnit({ objective }: TrainConfig): string {
  const { loss } = objective;
  const scales = { ...objective } as { beta?: number; labelSmoothing?: number; gamma?: number; reduction?: string };
  const { beta = null, labelSmoothing = 0, gamma = 0, reduction } = scales;
  return JSON.stringify([loss, beta, labelSmoothing, gamma, reduction]);
}

function cellOf(sweep: SweepConfig, method: MethodPlan, one: Setting, seed: number): Cell {
  const folder = cellFolder(sweep, method.name, one, seed);
  const base = present(sweep.base);
  const overrides = [
    ...Object.entries(method.set ?? {}),
    ...one,
    ['seed', seed] as const,
    ['output', folder] as const,
  ].map(([key, value]) => setting(key, value));
  const from = `${sweep.file}, method ${method.name}`;
  const config = loadConfig(base, overrides, from);
  if (config.threads === undefined) {
    config.threads = defaultThreads;
    overrides.push(setting('threads', defaultThreads));
  }
  const refuse = (field: string, problem: string, fix: string) => {
    throw new InputError(problem, { at: { file: from, field }, fix });
  };
  if (config.data.validation === undefined)
    refuse('data.validation', 'is missing, by which settings are chosen', `name a file of pairs in ${base}`);
  if (config.data.test === undefined)
    refuse('data.test', 'is missing, by which methods are compared', `name a file of pairs in ${base}`);
  if (config.objective.loss === 'sft' && sweep.select === 'worst/accuracy')
    refuse('objective.loss', 'sft has no rewards, and so no accuracy to select by', 'write select: worst/loss');
  return { method: method.name, setting: one, seed, folder, overrides, config };
}

function settingsOfGrid({ grid = {} }: MethodPlan): Setting[] {
  return Object.entries(grid).reduce<Setting[]>(
    (settings, [key, values]) => settings.flatMap((one) => values.map((value) => new Map([...one, [key, value]]))),
    [new Map()],
  );
}

/** "objective.step=0.003": the name of its folder, which does not depend on the other settings of the grid. */
export function settingName(one: Setting): string {
  const name = [...one].map(([key, value]) => `${key}=${shortValue(value)}`).join(',');
  return name.length > 150 ? digest(name) : name;
}

/** Values that differ have names that differ: a text that reads as a number or a truth value is not called as that is. */
function shortValue(value: unknown): string {
  const ambiguous = typeof value === 'string' && [String(Number(value)), 'true', 'false'].includes(value);
  const plain = typeof value === 'object' || ambiguous ? '' : String(value);
  return /^[\w.+-]{1,40}$/.test(plain) ? plain : digest(JSON.stringify(value));
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 12);
}

/**
 * Whether the run of a cell has ended.
 * @throws InputError where its folder holds a run of other settings
 */
export function isDone({ folder, config }: Cell): boolean {
  const file = join(folder, 'config.yaml');
  if (!existsSync(file)) return false;
  const saved = loadConfig(file);
  // The device decides it where it is not given.
  if (config.dtype === undefined) saved.dtype = undefined;
  const [was, is] = [saved, config].map((one) => new Map(settingsOf(one)));
  for (const key of new Set([...(was?.keys() ?? []), ...(is?.keys() ?? [])])) {
    const [before, now] = [was, is].map((values) => JSON.stringify(values?.get(key)) ?? 'absent');
    if (before !== now)
      throw new InputError(`is ${now}, but was ${before} when this run of the sweep was made`, {
        at: { file: folder, field: key },
        fix: 'put it back, name another output for the sweep, or remove that folder, whose run is then made anew',
      });
  }
  return hasEnded(folder, config);
}
