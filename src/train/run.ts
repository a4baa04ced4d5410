import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { InputError, InterruptedError } from '../errors.js';
import { csv } from '../files/csv.js';
import { checkUnchanged, type FileState } from '../files/opened-file.js';
import { orderedRecord } from '../files/ordered-record.js';
import { hashFile, readJson } from '../files/read.js';
import { refuseExisting, removePartials, writeFault, writeFileWhole } from '../files/write.js';
import { loadNative } from '../native/load.js';
import { GemmaPolicy } from '../policy/gemma.js';
import { adapterReference, type ReferenceRecord } from '../policy/reference-record.js';
import { counted } from '../terminal/format.js';
import { shortName } from '../terminal/names.js';
import { type Progress, progress } from '../terminal/progress.js';
import { packageVersion } from '../version.js';
import { Checkpoints, type FoundCheckpoint } from './checkpoint.js';
import { loadConfig, methodName, printConfig, type TrainConfig } from './config.js';
import { evaluatePairs } from './evaluate.js';
import { checkIdentity, type RunIdentity, runIdentity } from './identity.js';
import { type HubNames, localNames, namesAsBegun, pairReader, type RunData, readRunData } from './inputs.js';
import { onStopSignal, type StopSignal } from './interrupt.js';
import type { GroupSummary } from './metrics.js';
import { NonFiniteError } from './non-finite.js';
import { pairObjective } from './objective.js';
import { ReferenceCache } from './reference-cache.js';
import { lockRun, type RunLock, runLockName } from './run-lock.js';
import { logUntil, RunLog } from './run-log.js';
import { dependsOnEnd } from './schedule.js';
import { Reference, scoredDataset } from './scoring.js';
import { EventFile } from './tensorboard.js';
import { type BestEvaluation, type MetricsLine, type TrainerState, trainPolicy } from './trainer.js';

/** What a finished run leaves behind; the JSON of `group-robust train --json`. */
export interface RunResult {
  run: string;
  method: string;
  /** Optimiser steps taken in all, which a plateau may make fewer than planned. */
  steps: number;
  seconds: number;
  /** Last line of metrics.jsonl. */
  last: MetricsLine;
  alpha: Record<string, number>;
  /** Pairs scored by the reference, and how many forward passes that took: 0 where all scores came from the cache. */
  reference: { pairs: number; forwardPasses: number };
  /** Exact metrics of the test split, where there is one. */
  test?: GroupSummary;
  /** The evaluation with the smallest worst-group validation loss, where there is a validation split. */
  best?: BestEvaluation;
}

/** Files and folders of a run folder, besides TensorBoard's. */
const names = {
  config: 'config.yaml',
  record: 'run.json',
  metrics: 'metrics.jsonl',
  alpha: 'alpha.csv',
  adapter: 'adapter',
  evaluation: 'evaluation.json',
  bestAdapter: 'adapter-best',
  bestEvaluation: 'evaluation-best.json',
} as const;

/**
 * Trains one model as `config` says and fills its run folder:
 * config.yaml (resolved), run.json (provenance), metrics.jsonl (a line per step, from step 0), events.out.tfevents.* (the
 * same for TensorBoard), checkpoints/ (see checkpoint.ts), alpha.csv (α per step and group), evaluation.json (exact test
 * metrics), report.html, and adapter/ (PEFT). With `checkpoint.best`, adapter-best/ and evaluation-best.json are the
 * same of the step with the smallest worst-group validation loss.
 *
 * Everything that can be wrong with the input is found before anything is written; then no folder is left. While the run goes
 * on, no other process can work on its folder.
 *
 * With `resume`, a run that the folder holds goes on from its newest whole checkpoint, and ends with the very files that it
 * would have had without a break (run.json tells of the break); where there is none yet, it starts. With more `steps` or `epochs`
 * than it began with, it becomes the longer run, where that one's past is the same.
 *
 * @throws InterruptedError after SIGINT or SIGTERM, once the step is done and saved
 */
export async function runTraining(
  config: TrainConfig,
  ui: Ui,
  { resume = false, again = 'the same command with --resume' }: RunOptions = {},
): Promise<RunResult> {
  await using lock = await lockRun(config.output);
  try {
    return await trainLocked(lock, config, ui, { resume, again });
  } catch (error) {
    // Where another process has the folder by now, it has removed what this one was about to write.
    lock.check();
    throw error;
  }
}

interface Ui {
  quiet: boolean;
  log(text: string): void;
}

interface RunOptions {
  resume?: boolean;
  /** What to run after an interruption, for the error's text. */
  again?: string;
}

async function trainLocked(
  lock: RunLock,
  config: TrainConfig,
  ui: Ui,
  { resume, again }: Required<RunOptions>,
): Promise<RunResult> {
  const at = (name: keyof typeof names) => join(config.output, names[name]);
  const warn = (text: string) => ui.log(`warning: ${text}`);
  const checkpoints = new Checkpoints(config.output, config.checkpoint.keep, config.checkpoint.best);
  if (!resume) refuseExisting(config.output, runLockName, 'go on with it by --resume, ');
  const named = resume ? namesAsBegun(config, begunWith(config.output)) : config;
  const { names: local, hub } = await localNames(named, { quiet: ui.quiet });
  const inputs: FileState[] = [];
  const identity = await runIdentity(local, inputs);
  const from = resume ? await findCheckpoint(local, checkpoints, identity, warn) : undefined;

  using policy = await openForTraining(local);
  const reader = pairReader(local.model, policy, local.tokenizer, ui.quiet);
  const data = await readRunData(reader, config.data);
  reader.refuseIdleTokenizer('tokenizer');
  await prepareAdapter(policy, local, data.train.groups.length);
  if (from) await policy.loadState(from.policyFile);
  data.warnings.forEach(warn);

  const objective = pairObjective(config.objective);
  let interruption: StopSignal | undefined;
  using _ = onStopSignal((signal) => {
    interruption = signal;
    ui.log(`${signal}: finishing this step and saving; once more stops at once`);
  });
  /** Before results are kept. @throws where they are no longer those of this run's inputs, or the folder is another's */
  const checkHold = () => {
    policy.checkFiles();
    checkUnchanged(inputs);
    lock.check();
  };
  const write = (name: keyof typeof names, text: string) => {
    lock.check();
    writeFileWhole(at(name), text);
  };
  /** Adds what the run has come to know of itself to its run.json. */
  const amendRecord = (change: (record: Record<string, unknown>) => object) => {
    const record = readJson(at('record')) as Record<string, unknown>;
    write('record', json({ ...record, ...change(record) }));
  };
  /** @throws where the run may not go on; `when` says how far it is then */
  const pause = (when: string) => {
    lock.check();
    if (interruption) throw interrupted(interruption, when, again);
  };
  const reference = new Reference(policy, {
    cache: new ReferenceCache(() => policy.referenceIdentity(), warn),
    progress: (file, pairs) => progress(`reference of ${file}`, pairs, ui.quiet),
    pause: () => pause('while the reference scored the pairs; those done are kept'),
  });
  const trained = await trainedAgainst(local, hub, at('adapter'));
  const started = Date.now();
  const { groups } = data.train;
  const alphaOf = (line: MetricsLine) => groups.map((name) => line[`group/${name}/alpha`] as number);
  const made = versions();
  const record = await provenance(config, data, { ...made, hub });
  // Lines of the log so far: the last one, and α of all.
  let last = from?.lines.at(-1) ?? {};
  const alphaHistory = from?.lines.map(alphaOf) ?? [];
  let log: RunLog | undefined;
  let events: EventFile | undefined;
  let bar: Progress | undefined;
  let steps = 0;
  let best = from?.trainer.best;
  const save = (trainer: TrainerState, unscheduled: boolean) => {
    checkHold();
    const checkpoint = {
      trainer,
      log: (log as RunLog).sync(),
      identity,
      made,
      ...(unscheduled ? { unscheduled } : {}),
    };
    return checkpoints.save(checkpoint, (file) => policy.saveState(file), lock.check);
  };
  try {
    await trainPolicy(
      policy,
      data.train,
      data.validation,
      config,
      {
        reference,
        onPlan(plan) {
          // Nothing is written before this: by now group weights and sampler have accepted these groups too.
          if (from) {
            if (JSON.stringify(from.made) !== JSON.stringify(made))
              warn(
                `the run began with ${JSON.stringify(from.made)} and goes on with ${JSON.stringify(made)}: ` +
                  'its numbers may differ in their last bits from those of a run without a break',
              );
            // The step after which the run went on, when, and with what.
            const resumption = { step: from.trainer.step, at: new Date().toISOString(), ...made };
            amendRecord(({ resumed = [] }) => ({ resumed: [...(resumed as object[]), resumption] }));
            if (from.longer) write('config', printConfig(config));
            log = RunLog.resume(at('metrics'), from.log);
          } else {
            // The configuration first: by it a later --resume knows the folder as a run.
            write('config', printConfig(config));
            log = RunLog.create(at('metrics'));
            write('record', json(record));
          }
          steps = plan.steps;
          ui.log(
            `${methodName(config.objective)}: ${stepsToTake(from?.trainer, steps, config.batch.size)}; ` +
              `training pairs: ${describeGroups(data)}`,
          );
        },
        onStep(line) {
          if (!bar) {
            const { pairs, forwardPasses } = reference;
            if (pairs > 0)
              ui.log(
                `reference: ${counted(pairs, 'pair')}, ${forwardPasses > 0 ? `${counted(forwardPasses, 'forward pass', 'forward passes')} for those not in the cache` : 'all from the cache'}`,
              );
            bar = progress('training', steps, ui.quiet, from?.trainer.step);
          }
          lock.check();
          last = line;
          alphaHistory.push(alphaOf(line));
          log?.append(line);
          try {
            events ??= new EventFile(config.output, line.step as number);
            events.write(line);
          } catch (error) {
            throw writeFault(config.output, error);
          }
          bar.update(line.step as number, typeof line.loss === 'number' ? `loss ${line.loss.toPrecision(4)}` : '');
        },
        evaluating: (_, pairs) => progress('validation', pairs, ui.quiet),
        pause: (step) => pause(`in the evaluation after step ${step} of ${steps}, which is saved`),
        async afterStep(state) {
          best = state.best;
          const due = state.step > 0 && (state.step % config.checkpoint.every === 0 || state.finished);
          const isBest = config.checkpoint.best && best?.step === state.step;
          const scheduled = (due || isBest) && state.unevaluated === undefined;
          if (scheduled || interruption) await save(state, !scheduled);
          return interruption === undefined;
        },
        onWarning: warn,
        onDecision: ui.log,
      },
      from?.trainer,
    );
  } finally {
    bar?.stop();
    log?.close();
    events?.close();
  }
  pause(`after step ${last.step} of ${steps}, which is saved`);

  const scoredTest = data.test && (await scoredDataset(data.test, objective.usesReference ? reference : undefined));
  /** Writes the exact test metrics of the policy as it is now, and its adapter. */
  const writeOutcome = async (evaluation: 'evaluation' | 'bestEvaluation', adapter: 'adapter' | 'bestAdapter') => {
    checkHold();
    // The adapter first: scoring may take long, or meet a pair whose score is not finite.
    const base = { baseModel: hub.model?.id ?? config.model, revision: hub.model?.commit };
    await policy.saveAdapter(at(adapter), base, { trained, replace: true });
    if (!scoredTest) return undefined;
    const bar = progress('scoring the test pairs', scoredTest.data.pairs.length, ui.quiet);
    try {
      const scores = await evaluatePairs(policy, scoredTest, objective, {
        onProgress: bar.update,
        pause: () => pause(`while the test pairs were scored; all ${last.step} steps are saved`),
      });
      checkHold();
      writeFileWhole(at(evaluation), json(scores));
      return scores;
    } catch (error) {
      if (!(error instanceof NonFiniteError)) throw error;
      throw new NonFiniteError(error.problem, {
        where: `after all ${last.step} steps: the evaluation on ${config.data.test}`,
        fix: `check these pairs; without them, run group-robust eval with --adapter ${at(adapter)}, which is written`,
      });
    } finally {
      bar.stop();
    }
  };
  write(
    'alpha',
    csv(
      ['step', ...groups],
      alphaHistory.map((alpha, step) => [step, ...alpha]),
    ),
  );
  // Those of a shorter run would be taken for this one's.
  for (const name of ['evaluation', 'bestEvaluation'] as const) rmSync(at(name), { force: true });
  amendRecord(() => ({ steps: last.step, best }));
  const test = await writeOutcome('evaluation', 'adapter');
  if (config.checkpoint.best && best) {
    await policy.loadState(await checkpoints.policyFile(best.step));
    await writeOutcome('bestEvaluation', 'bestAdapter');
  }
  const { writeRunReport } = await import('../report/runs-page.js');
  lock.check();
  await writeRunReport(config.output);
  return {
    run: config.output,
    method: methodName(config.objective),
    steps: last.step as number,
    seconds: (Date.now() - started) / 1000,
    last,
    alpha: orderedRecord(groups.map((name, g) => [name, (alphaHistory.at(-1) as number[])[g]])),
    reference: { pairs: reference.pairs, forwardPasses: reference.forwardPasses },
    test,
    best,
  };
}

/** Where a run goes on. */
interface Start extends FoundCheckpoint {
  /** The log up to there. */
  lines: MetricsLine[];
  /** Whether the run is made longer than it was when this was saved. */
  longer: boolean;
}

/**
 * Where a run goes on; undefined where it has to start, for want of a checkpoint.
 * @throws InputError where the folder holds something else, no checkpoint is whole, or the run is of another identity
 */
async function findCheckpoint(
  config: TrainConfig,
  checkpoints: Checkpoints,
  identity: RunIdentity,
  warn: (text: string) => void,
): Promise<Start | undefined> {
  const run = config.output;
  removePartials(run);
  const metrics = join(run, names.metrics);
  const found = await checkpoints.newest((checkpoint) => {
    if (!logUntil(metrics, checkpoint.log)) return `${names.metrics} has no longer the lines it had then`;
    const length = lengthened(checkpoint.identity, identity);
    if (length === undefined) {
      checkIdentity(checkpoint.identity, identity, run);
      return undefined;
    }
    checkIdentity({ ...checkpoint.identity, [length.key]: length.is }, identity, run);
    return whyNotLonger(config, length, checkpoint.trainer, checkpoints.folder);
  }, warn);
  if (found) {
    const lines = logUntil(metrics, found.log) as MetricsLine[];
    return { ...found, lines, longer: lengthened(found.identity, identity) !== undefined };
  }
  // A killed run that had not come to its first checkpoint is started over; anything else is not ours to write over.
  if (!existsSync(join(run, names.config)) || existsSync(join(run, names.adapter))) refuseExisting(run, runLockName);
  else warn(`${run} has no checkpoint yet; the run starts over`);
  return undefined;
}

interface Length {
  key: 'steps' | 'epochs';
  was: number;
  is: number;
}

/** The key by which the run is to be longer than it was; undefined where it is not. */
function lengthened(saved: RunIdentity, now: RunIdentity): Length | undefined {
  for (const key of ['steps', 'epochs'] as const) {
    const [was, is] = [saved[key], now[key]];
    if (typeof was === 'number' && typeof is === 'number' && is > was) return { key, was, is };
  }
  return undefined;
}

/**
 * Why the longer run's past is another than what this checkpoint stands for, where an older one may do; undefined where it is the same.
 * @throws InputError where no checkpoint can do
 */
function whyNotLonger(
  config: TrainConfig,
  { key, was, is }: Length,
  { step, finished, unevaluated }: TrainerState,
  checkpoints: string,
): string | undefined {
  const { optimizer, output: run, batch, data } = config;
  const ways =
    `put ${key} back to ${was}; or start a run of ${is} ${key} with another output; or start one from ` +
    `${join(run, names.adapter)}, as its adapter, which then is its reference too`;
  const { warmupRatio = 0, schedule } = optimizer;
  if (dependsOnEnd(optimizer))
    throw new InputError(
      `is ${is}, and was ${was} when the run began: with ${warmupRatio > 0 ? `warmupRatio: ${warmupRatio}` : `schedule: ${schedule}`} ` +
        `all learning rates depend on the number of steps, so a run of ${is} ${key} has another past, and ${run} cannot be made longer`,
      { at: { field: key }, fix: ways },
    );
  if (data.validation === undefined || !finished || unevaluated) return undefined;
  const { groups } = readJson(join(run, names.record)) as { groups: Record<string, { train: number }> };
  const pairs = Object.values(groups).reduce((sum, { train }) => sum + train, 0);
  const evaluateEvery = config.evaluateEvery ?? Math.ceil(pairs / batch.size);
  if (step % evaluateEvery === 0) return undefined;
  const problem = `step ${step} was evaluated as the last of ${was} ${key}, which the longer run would not do`;
  if (readdirSync(checkpoints).filter((name) => name.startsWith('step-')).length > 1) return problem;
  throw new InputError(`${problem}, and no older checkpoint is kept, so ${run} cannot be made longer`, {
    at: { field: key },
    fix: ways,
  });
}

/** The names of model, adapter and tokenizer that a run began with; none where its folder does not tell. */
function begunWith(run: string): Parameters<typeof namesAsBegun>[1] {
  const [config, record] = [join(run, names.config), join(run, names.record)];
  if (!existsSync(config) || !existsSync(record)) return { names: {}, hub: {} };
  return { names: loadConfig(config), hub: (readJson(record) as { hub?: HubNames }).hub ?? {} };
}

function stepsToTake(from: TrainerState | undefined, steps: number, pairs: number): string {
  const each = counted(pairs, 'pair');
  if (from?.finished) return `all ${from.step} steps of ${each} are done`;
  return `${from === undefined ? counted(steps, 'step') : `steps ${from.step + 1} to ${steps}`} of ${each}`;
}

function interrupted(signal: StopSignal, when: string, again: string): InterruptedError {
  return new InterruptedError(`stopped by ${signal} ${when}\n  fix: run ${again} to go on`, signal);
}

async function openForTraining(config: TrainConfig): Promise<GemmaPolicy> {
  const { model, dtype, baseDtype, recompute, threads } = config;
  return GemmaPolicy.open(model, { dtype, baseDtype, recompute, threads });
}

/** A new adapter, or the one to start from; in that case it is frozen as the reference unless the base is asked for. */
async function prepareAdapter(policy: GemmaPolicy, config: TrainConfig, accumulators: number): Promise<void> {
  const { betas, epsilon, weightDecay } = config.optimizer;
  const training = { seed: config.seed, accumulators, optimizer: { betas, epsilon, weightDecay } };
  if (config.adapter === undefined) {
    const { rank, alpha, targets } = config.lora as NonNullable<TrainConfig['lora']>;
    await policy.addAdapter({ rank, alpha, targets }, training);
    return;
  }
  await policy.loadAdapter(config.adapter, training);
  if (config.reference !== 'base') await policy.freezeReference();
}

/** What is recorded beside the adapter `folder` of a run. */
async function trainedAgainst(config: TrainConfig, hub: HubNames, folder: string): Promise<ReferenceRecord> {
  const id = hub.adapter && `${hub.adapter.id}@${hub.adapter.commit}`;
  const reference = !pairObjective(config.objective).usesReference
    ? 'none'
    : config.adapter !== undefined && config.reference !== 'base'
      ? await adapterReference(folder, config.adapter, id)
      : 'base';
  return { method: methodName(config.objective), reference };
}

/** What decides the last bits of a run's numbers, besides its identity. */
function versions(): { versions: Record<string, string>; threads: number } {
  const { torchVersion, threads } = loadNative().nativeInfo();
  return { versions: { 'group-robust-po': packageVersion(), node: process.version, torch: torchVersion }, threads };
}

async function provenance(config: TrainConfig, { train, validation, test }: RunData, made: object): Promise<object> {
  const splits = Object.entries({ train, validation, test }).flatMap(([name, data]) => (data ? [{ name, data }] : []));
  return {
    method: methodName(config.objective),
    seed: config.seed,
    created: new Date().toISOString(),
    ...made,
    git: gitCommit(),
    dataHash: await hashOf(splits.map(({ data }) => data.file)),
    dropped: Object.fromEntries(splits.map(({ name, data }) => [name, data.report.dropped])),
    groups: orderedRecord(
      train.groups.map((name, g) => [
        name,
        { train: train.counts[g], validation: validation?.counts[g] ?? 0, test: test?.counts[g] ?? 0 },
      ]),
    ),
  };
}

/** SHA-256 over the bytes of all data files, in order. */
async function hashOf(files: string[]): Promise<string> {
  const hash = createHash('sha256');
  for (const file of files) await hashFile(file, hash);
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

/** Of many groups the first. */
function describeGroups({ train: { groups, counts } }: RunData): string {
  const most = 20;
  const shown = groups.slice(0, most).map((name, g) => `${shortName(name)} (${counts[g]})`);
  return shown.join(', ') + (groups.length > most ? ` and ${counted(groups.length - most, 'more group')}` : '');
}

function json(value: object): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}
