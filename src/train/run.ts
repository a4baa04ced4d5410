import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { makeFolder, refuseExisting, writeFileWhole } from '../files.js';
import { loadNative } from '../native/load.js';
import { GemmaPolicy } from '../policy/gemma.js';
import { progress } from '../progress.js';
import { packageVersion } from '../version.js';
import { methodName, printConfig, type TrainConfig } from './config.js';
import { evaluatePairs } from './evaluate.js';
import { pairReader, type RunData, readRunData } from './inputs.js';
import type { GroupSummary } from './metrics.js';
import { pairObjective } from './objective.js';
import { withReference } from './scoring.js';
import { EventFile } from './tensorboard.js';
import { type MetricsLine, trainPolicy } from './trainer.js';

/** What a finished run leaves behind; the JSON of `group-robust train --json`. */
export interface RunResult {
  run: string;
  method: string;
  steps: number;
  seconds: number;
  /** Last line of metrics.jsonl. */
  last: MetricsLine;
  alpha: Record<string, number>;
  /** Exact metrics of the test split, where there is one. */
  test?: GroupSummary;
}

/**
 * Trains one model as `config` says and fills its run folder:
 * config.yaml (resolved), run.json (provenance), metrics.jsonl (a line per step, from step 0), events.out.tfevents.* (the
 * same for TensorBoard), alpha.csv (α per step and group), adapter/ (PEFT), evaluation.json (exact test metrics), report.html.
 *
 * Everything that can be wrong with the input is found before the folder is made.
 */
export async function runTraining(
  config: TrainConfig,
  ui: { quiet: boolean; log(text: string): void },
): Promise<RunResult> {
  refuseExisting(config.output);
  using policy = await openForTraining(config);
  const reader = pairReader(config.model, policy, config.tokenizer);
  const data = await readRunData(reader, config.data);
  await prepareAdapter(policy, config, data.train.groups.length);
  for (const warning of data.warnings) ui.log(`warning: ${warning}`);

  const started = Date.now();
  const at = (name: string) => join(config.output, name);
  let metricsFile: number | undefined;
  let events: EventFile | undefined;
  let last: MetricsLine = {};
  let bar = progress('training', 1, true);
  let steps = 0;
  let alphaHistory: number[][];
  try {
    alphaHistory = await trainPolicy(policy, data.train, data.validation, config, {
      onPlan(plan) {
        // By now group weights and sampler have accepted these groups too.
        makeFolder(config.output);
        writeFileWhole(at('config.yaml'), printConfig(config));
        writeFileWhole(at('run.json'), json(provenance(config, data)));
        metricsFile = openSync(at('metrics.jsonl'), 'ax');
        events = new EventFile(config.output, 0);
        steps = plan.steps;
        ui.log(
          `${methodName(config.objective)}: ${steps} steps of ${config.batch.size} pairs, ${describeGroups(data)}`,
        );
        bar = progress('training', steps, ui.quiet);
      },
      onStep(line) {
        last = line;
        writeSync(metricsFile as number, `${JSON.stringify(line)}\n`);
        events?.write(line);
        bar.update(line.step as number, typeof line.loss === 'number' ? `loss ${line.loss.toPrecision(4)}` : '');
      },
      onWarning: (text) => ui.log(`warning: ${text}`),
    });
  } finally {
    bar.stop();
    if (metricsFile !== undefined) closeSync(metricsFile);
    events?.close();
  }
  await policy.saveAdapter(at('adapter'), { baseModel: config.model });
  writeFileWhole(at('alpha.csv'), alphaCsv(data.train.groups, alphaHistory));
  const test =
    data.test &&
    (await evaluatePairs(
      policy,
      withReference(policy, data.test),
      pairObjective(config.objective),
      config.batch.micro ?? config.batch.size,
    ));
  if (test) writeFileWhole(at('evaluation.json'), json(test));
  const { writeRunReport } = await import('../report/runs-page.js');
  await writeRunReport(config.output);
  const finalAlpha = alphaHistory[alphaHistory.length - 1];
  return {
    run: config.output,
    method: methodName(config.objective),
    steps,
    seconds: (Date.now() - started) / 1000,
    last,
    alpha: Object.fromEntries(data.train.groups.map((name, g) => [name, finalAlpha[g]])),
    test,
  };
}

async function openForTraining(config: TrainConfig): Promise<GemmaPolicy> {
  return GemmaPolicy.open(config.model, { dtype: config.dtype, threads: config.threads });
}

/** A new adapter, or the one to start from; in that case it is frozen as the reference unless the base is asked for. */
async function prepareAdapter(policy: GemmaPolicy, config: TrainConfig, accumulators: number): Promise<void> {
  const { betas, epsilon, weightDecay } = config.optimizer;
  const training = { seed: config.seed, accumulators, optimizer: { betas, epsilon, weightDecay } };
  if (config.adapter === undefined) {
    const { rank = 8, alpha = 32, targets } = config.lora ?? {};
    await policy.addAdapter({ rank, alpha, targets }, training);
    return;
  }
  await policy.loadAdapter(config.adapter, training);
  if (config.reference !== 'base') await policy.freezeReference();
}

function provenance(config: TrainConfig, { train, validation, test }: RunData): object {
  const info = loadNative().nativeInfo();
  return {
    method: methodName(config.objective),
    seed: config.seed,
    created: new Date().toISOString(),
    versions: { 'group-robust-po': packageVersion(), node: process.version, torch: info.torchVersion },
    threads: info.threads,
    git: gitCommit(),
    dataHash: hashOf([train, validation, test].flatMap((split) => (split ? [split.file] : []))),
    groups: Object.fromEntries(
      train.groups.map((name, g) => [
        name,
        { train: train.counts[g], validation: validation?.counts[g] ?? 0, test: test?.counts[g] ?? 0 },
      ]),
    ),
  };
}

/** SHA-256 over the bytes of all data files, in order. */
function hashOf(files: string[]): string {
  const hash = createHash('sha256');
  for (const file of files) hash.update(readFileSync(file));
  return hash.digest('hex');
}

/** Commit of the folder the command runs in; null outside a repository. */
function gitCommit(): string | null {
  try {
    return execFileSync('git', ['rev-parse', 'HEAD'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return null;
  }
}

function describeGroups({ train }: RunData): string {
  return train.groups.map((name, g) => `${name} ${train.counts[g]}`).join(', ');
}

function alphaCsv(groups: readonly string[], history: number[][]): string {
  const quoted = groups.map((name) => (/[",\n]/.test(name) ? `"${name.replaceAll('"', '""')}"` : name));
  return `${[['step', ...quoted], ...history.map((alpha, step) => [step, ...alpha])].map((row) => row.join(',')).join('\n')}\n`;
}

function json(value: object): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}
