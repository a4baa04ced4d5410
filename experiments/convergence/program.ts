/** What the experiments of this folder share: options, runs, and a table with the expected numbers beside what comes out. */
import { Command } from '@commander-js/extra-typings';
import { countOption, defineAction, parsedOption, parseNumbers, runProgram } from '../../src/cli/command.js';
import { formatNumber } from '../../src/terminal/format.js';
import { progress } from '../../src/terminal/progress.js';
import { textTable } from '../../src/terminal/text-table.js';
import type { SaddleRun } from '../../src/theory/algorithm.js';
import { convergenceDefaults } from '../../src/theory/convergence.js';
import { runSaddles, type SaddleJob } from '../../src/theory/saddle-jobs.js';

export interface Size {
  /** Ascending numbers of steps, or of samples. */
  horizons: readonly number[];
  runs: number;
}

/** A line of the table: what was run, and what was measured. */
export interface Row {
  labels: Readonly<Record<string, string>>;
  values: Readonly<Record<string, number | null>>;
}

export interface Experiment {
  name: string;
  description: string;
  size: Size;
  /** One for each row that `size` gives: its values in order, to four digits. */
  expected: readonly (readonly (number | null)[])[];
  /** @param run the runs of each of `settings`, all at once and across cores, by the streams of random numbers that `converge` has */
  measure(size: Size, run: (settings: readonly RunSettings[]) => Promise<SaddleRun[][]>): Promise<Row[]>;
  /** What the rows say together. */
  summary?(rows: readonly Row[]): string[];
}

/** What is run `runs` times. */
export type RunSettings = Omit<SaddleJob, 'seed' | 'run'>;

/** Results depend on the seed only, but for rounding, which differs between processors, and shows where errors are subtracted. */
const tolerance = { relative: 0.01, absolute: 1e-8 };

/** Runs it at the size given by `--horizons` and `--runs`. Exits 1 where, at its own size, a number is more than 1 % off the expected. */
export async function runExperiment({
  name,
  description,
  size,
  expected,
  measure,
  summary,
}: Experiment): Promise<void> {
  const program = new Command(name)
    .description(description)
    .addOption(
      parsedOption('--horizons <list>', `numbers of steps (default: ${size.horizons.join(',')})`, (flag, text) =>
        parseNumbers(flag, text, { min: 1, integer: true }),
      ),
    )
    .addOption(countOption('--runs <n>', `independent runs (default: ${size.runs})`, { min: 2 }))
    .option('--quiet', 'no progress');
  defineAction(program, async ({ horizons = size.horizons, runs = size.runs, quiet }, output) => {
    const own = horizons === size.horizons && runs === size.runs;
    const run = async (settings: readonly RunSettings[]) => {
      const jobs = settings.flatMap((one) =>
        Array.from({ length: runs }, (_, n): SaddleJob => ({ ...one, seed: convergenceDefaults.seed, run: n })),
      );
      const steps = jobs.reduce((sum, { count }) => sum + count, 0);
      const bar = progress(`${name}, steps`, steps, quiet);
      const results = await runSaddles(jobs, { onSteps: (done) => bar.update(done) }).finally(() => bar.stop());
      return settings.map((_, n) => results.slice(n * runs, (n + 1) * runs));
    };
    const rows = await measure({ horizons: [...new Set(horizons)].sort((a, b) => a - b), runs }, run);
    const [{ labels, values }] = rows;
    const cells = rows.map((row, n) => [
      ...Object.values(row.labels),
      ...Object.values(row.values).map((value, k) => cell(value, own ? expected[n]?.[k] : undefined)),
    ]);
    output.log(`\n${textTable([...Object.keys(labels), ...Object.keys(values)], cells)}\n`);
    for (const line of summary?.(rows) ?? []) output.log(line);
    const off = own
      ? rows.flatMap((row, n) =>
          Object.entries(row.values).flatMap(([column, value], k) =>
            agrees(value, expected[n]?.[k]) ? [] : [`${Object.values(row.labels).join(' ')}: ${column}`],
          ),
        )
      : [];
    output.log(own ? '(expected in brackets)' : '(the expected numbers are of other horizons or runs)');
    for (const place of off) output.log(`✗ not as expected: ${place}`);
    if (off.length > 0) process.exitCode = 1;
    return { rows, not_as_expected: off };
  });
  await runProgram(program);
}

function cell(value: number | null, expected: number | null | undefined): string {
  const text = (one: number | null) => (one === null ? '–' : formatNumber(one));
  return expected === undefined ? text(value) : `${text(value)} (${text(expected)})`;
}

function agrees(value: number | null, expected: number | null | undefined): boolean {
  if (value === null || expected === null) return value === expected;
  if (expected === undefined) return false;
  return Math.abs(value - expected) <= tolerance.relative * Math.abs(expected) + tolerance.absolute;
}
