import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { GroupRobustError } from '../errors.js';
import type { Section } from '../report/html.js';
import type { Run } from '../report/runs.js';
import { runsSection } from '../report/sections/runs.js';
import { comparedMethods, experimentFolder, placeSettings, type Stage, stageConfig } from './stages.js';

/** Settings, size and wording of the demonstration were chosen on seeds below this one. */
const firstFreshSeed = 100;
export const surveySeeds: readonly number[] = Array.from({ length: 10 }, (_, i) => firstFreshSeed + i);

/** What stands beside every number of the demonstration. */
export function surveyNote(seeds: readonly number[]): string {
  const seen = seeds.filter((seed) => seed < firstFreshSeed).length;
  const which =
    seen === 0 ? ', as these are' : `; of these ${seeds.length}, ${seen} ${seen === 1 ? 'is' : 'are'} lower`;
  return `A demonstration: a model of random weights on an invented survey. Its settings were chosen on low seeds, so it is judged on seeds from ${firstFreshSeed} on${which}.`;
}

/** The runs side by side, with the note. */
export function surveySection(runs: readonly Run[]): Section {
  const { text = [], checks = [], ...section } = runsSection(runs);
  return {
    ...section,
    title: 'A random model on an invented survey',
    text: [surveyNote([...new Set(runs.map(({ seed }) => seed))]), ...text],
    checks: checks.map((check) => ({ ...check, claim: `Random model on an invented survey: ${check.claim}` })),
  };
}

/**
 * The demonstration on an invented survey: for every seed a new survey, SFT, then IPO and GR-IPO from that SFT model on the same
 * batches, each by the command line a user would type. Runs of one thread go side by side, as many as `workers`.
 *
 * @param overrides `key=value` settings for every run, e.g. `epochs=1`
 * @param onRun called after each of the 3 · seeds training runs
 * @returns the run folders of IPO and GR-IPO over all seeds
 */
export async function surveyRuns(
  folder: string,
  seeds: readonly number[],
  options: { workers: number; overrides?: string[]; onRun(note: string): void },
): Promise<string[]> {
  const waiting = [...seeds];
  const work = async () => {
    for (let seed = waiting.shift(); seed !== undefined; seed = waiting.shift()) await oneSeed(seed);
  };
  const oneSeed = async (seed: number) => {
    const at = (name: string) => join(folder, `seed-${seed}`, name);
    const train = (stage: Stage) => {
      const place = placeSettings(stage, { seed, output: at(stage), data: at('data'), sft: at('sft') });
      const settings = [...place, ...(options.overrides ?? [])].flatMap((each) => ['--set', each]);
      return runCommand(['train', stageConfig(experimentFolder('survey'), stage).file, '--quiet', ...settings]);
    };
    await runCommand(['data', 'survey', '--seed', String(seed), '--out', at('data')]);
    await train('sft');
    options.onRun(`seed ${seed}: sft`);
    for (const method of comparedMethods) {
      await train(method);
      options.onRun(`seed ${seed}: ${method}`);
    }
  };
  await Promise.all(Array.from({ length: Math.min(options.workers, seeds.length) }, work));
  return seeds.flatMap((seed) => comparedMethods.map((method) => join(folder, `seed-${seed}`, method)));
}

/** Runs one of this program's own commands in a child process. */
function runCommand(args: string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    // execArgv carries the TypeScript loader when the program runs from source.
    const child = spawn(process.execPath, [...process.execArgv, program, ...args], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let stderr = '';
    child.stderr.on('data', (chunk) => {
      stderr += chunk;
    });
    child.on('error', reject);
    child.on('close', (code) => {
      if (code === 0) resolve();
      else
        reject(
          new GroupRobustError('RUN_FAILED', `group-robust ${args.join(' ')} ended with ${code}:\n${stderr.trim()}`),
        );
    });
  });
}

/** The command line's entry: beside this folder, .js when built and .ts under tsx. */
const program = fileURLToPath(
  new URL(`../cli/main${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url),
);
