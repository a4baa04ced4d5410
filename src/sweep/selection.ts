import { join } from 'node:path';
import { InputError, present } from '../errors.js';
import { type Estimate, estimate } from '../numbers/statistics.js';
import { groupBy } from '../report/group-by.js';
import { type Run, readRun, validationScores } from '../report/runs.js';
import { type Cell, isDone, type Setting, settingName } from './cells.js';
import { type Selection, type SweepConfig, selections } from './config.js';

/** The setting of each method, chosen by validation figures alone: no test figure is read here. */

/** A run that is done, with its figures on the validation split. */
export interface Validated {
  seed: number;
  folder: string;
  /** By the selection's metric: of the worst group, and the mean over groups. Null for accuracies where all rewards tie, which tell nothing. */
  worst: number | null;
  mean: number | null;
}

/** One that was trained. */
export interface Trained extends Validated {
  cell: Cell;
  run: Run;
}

/** A setting of a method. */
export interface Candidate<V extends Validated = Validated> {
  method: string;
  setting: Setting;
  /** Those that are done, in the order of seeds. */
  runs: readonly V[];
  /** Over these; null where none is, or one has no figure. */
  worst: Estimate | null;
  mean: Estimate | null;
  /** Whether all seeds are done, with finite figures: only then it can be chosen. */
  whole: boolean;
  chosen: boolean;
}

/**
 * Of each method the setting whose mean over seeds of the worst group's validation figure is best, the first of equal ones.
 * @param cells all runs of the sweep
 * @param done by folder
 */
export function choose<V extends Validated>(
  cells: readonly { method: string; setting: Setting; folder: string }[],
  done: ReadonlyMap<string, V>,
  select: Selection,
): Candidate<V>[] {
  const settings = groupBy(cells, ({ method, setting }) => JSON.stringify([method, settingName(setting)]));
  const candidates = [...settings.values()].map((members): Candidate<V> => {
    const { method, setting } = present(members[0]);
    const runs = members.flatMap(({ folder }) => done.get(folder) ?? []);
    const over = (of: (run: V) => number | null) => {
      const known = runs.map(of).filter((value) => value !== null);
      // Never over the seeds that have one: a setting that does not always train would be judged by where it does.
      return runs.length > 0 && known.length === runs.length ? estimate(known) : null;
    };
    const worst = over((run) => run.worst);
    const whole = runs.length === members.length && Number.isFinite(worst?.mean);
    return { method, setting, runs, worst, mean: over((run) => run.mean), whole, chosen: false };
  });
  for (const own of groupBy(candidates, ({ method }) => method).values()) {
    const best = bestOf(own, select);
    if (best) best.chosen = true;
  }
  return candidates;
}

/**
 * Reads what is done of training runs, and chooses.
 * @throws InputError naming a run that is damaged, or whose data differs from that of the other seeds
 */
export async function validate(sweep: SweepConfig, cells: readonly Cell[]): Promise<Candidate<Trained>[]> {
  const done = new Map<string, Trained>();
  // One after another: each holds its whole log while it is read.
  for (const cell of cells) if (isDone(cell)) done.set(cell.folder, await readCell(cell, sweep.select));
  const candidates = choose(cells, done, sweep.select);
  for (const { runs } of candidates) checkSameData(runs);
  return candidates;
}

function bestOf<V extends Validated>(candidates: readonly Candidate<V>[], select: Selection): Candidate<V> | undefined {
  const sign = selections[select] === 'lower' ? 1 : -1;
  return candidates
    .filter(({ whole }) => whole)
    .reduce<Candidate<V> | undefined>(
      (best, one) => (best && sign * meanOf(best) <= sign * meanOf(one) ? best : one),
      undefined,
    );
}

function meanOf({ worst }: Candidate): number {
  return worst?.mean ?? Number.NaN;
}

/** The step whose policy is judged: the best one where the run kept that, else the last. */
async function readCell(cell: Cell, select: Selection): Promise<Trained> {
  const run = await readRun(cell.folder);
  const step = run.best ? run.best.step : run.scores.validation?.step;
  const line = run.metrics.find((one) => one.step === step && one[`eval_${select}`] !== undefined);
  const worst = line?.[`eval_${select}`];
  if (line === undefined || typeof worst !== 'number')
    throw new InputError(`has no eval_${select} at the step that is judged (${step})`, {
      at: { file: join(cell.folder, 'metrics.jsonl') },
      fix: 'remove this folder and run the sweep again, which makes it anew',
    });
  const metric = select === 'worst/loss' ? 'loss' : 'rewards/accuracies';
  const ofGroups = [...present(validationScores(line)).groups.values()].flatMap((group) => group[metric] ?? []);
  const figures = ofGroups.length > 0 ? { worst, mean: estimate(ofGroups).mean } : { worst: null, mean: null };
  return { cell, run, seed: cell.seed, folder: cell.folder, ...figures };
}

/** Pairs that were made anew in the midst of a sweep. */
function checkSameData(runs: readonly Trained[]): void {
  const [first] = runs;
  const other = runs.find(({ run }) => run.dataHash !== first?.run.dataHash);
  if (first && other)
    throw new InputError(`was made of other data than ${first.cell.folder}`, {
      at: { file: other.cell.folder },
      fix: 'the files of pairs have changed in the midst of the sweep: remove the folders of the older runs, and run it again',
    });
}
