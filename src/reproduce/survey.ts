import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { GroupRobustError } from '../errors.js';
import type { RunResult } from '../train/run.js';

/** Configurations of the demonstration, in experiments/survey of this package. */
const configs = fileURLToPath(new URL('../../experiments/survey/', import.meta.url));

/** The methods compared, both from the SFT model of the same seed. */
export const surveyMethods = ['ipo', 'gr-ipo'] as const;

export interface SurveyRuns {
  /** Run folders of IPO and GR-IPO over all seeds, for the report. */
  folders: string[];
  /** Worst-group test loss by method and seed. */
  worstLoss: Record<(typeof surveyMethods)[number], Map<number, number>>;
}

/**
 * The demonstration on survey data: for every seed a new survey, SFT, then IPO and GR-IPO from that SFT model on the same
 * batches, each by the command line a user would type. Runs of one thread go side by side, as many as `workers`.
 *
 * @param overrides `key=value` settings for every run, e.g. `epochs=1`
 * @param onRun called after each of the 3 · seeds training runs
 */
export async function surveyRuns(
  folder: string,
  seeds: readonly number[],
  options: { workers: number; overrides?: string[]; onRun(note: string): void },
): Promise<SurveyRuns> {
  const result: SurveyRuns = { folders: [], worstLoss: { ipo: new Map(), 'gr-ipo': new Map() } };
  const waiting = [...seeds];
  const work = async () => {
    for (let seed = waiting.shift(); seed !== undefined; seed = waiting.shift()) await oneSeed(seed);
  };
  const oneSeed = async (seed: number) => {
    const at = (name: string) => join(folder, `seed-${seed}`, name);
    const train = (name: string, extra: string[] = []) => {
      const settings = [
        `seed=${seed}`,
        `output=${at(name)}`,
        ...['train', 'validation', 'test'].map((split) => `data.${split}=${at(join('data', `${split}.jsonl`))}`),
        'threads=1',
        ...extra,
        ...(options.overrides ?? []),
      ];
      return runCommand(['train', join(configs, `${name}.yaml`), '--quiet', ...settings.flatMap((s) => ['--set', s])]);
    };
    await runCommand(['data', 'survey', '--seed', String(seed), '--out', at('data')]);
    await train('sft');
    options.onRun(`seed ${seed}: sft`);
    for (const method of surveyMethods) {
      const run = (await train(method, [`adapter=${at(join('sft', 'adapter'))}`])) as RunResult;
      result.worstLoss[method].set(seed, run.test?.worst.loss as number);
      options.onRun(`seed ${seed}: ${method}`);
    }
  };
  await Promise.all(Array.from({ length: Math.min(options.workers, seeds.length) }, work));
  result.folders = seeds.flatMap((seed) => surveyMethods.map((method) => join(folder, `seed-${seed}`, method)));
  return result;
}

/** Runs one of this program's own commands in a child process and returns its JSON. */
function runCommand(args: string[]): Promise<unknown> {
  return new Promise((resolve, reject) => {
    // execArgv carries the TypeScript loader when the program runs from source.
    const child = spawn(process.execPath, [...process.execArgv, program, ...args, '--json'], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk) => {
      stdout += chunk;
    });
    child.stderr.on('data', (chunk) => {
      stderr += chunk;
    });
    child.on('error', reject);
    child.on('close', (code) => {
      if (code === 0) resolve(JSON.parse(stdout));
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
