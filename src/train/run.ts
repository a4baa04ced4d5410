import { shareJson, type Team } from '../distributed/team.js';
import { checkUnchanged, type FileState } from '../files/opened-file.js';
import { orderedRecord } from '../files/ordered-record.js';
import { refuseExisting } from '../files/write.js';
import { methodName } from '../objective/method-name.js';
import { type Device, resolveDevice } from '../policy/device.js';
import type { GemmaPolicy } from '../policy/gemma.js';
import { progress } from '../terminal/progress.js';
import { Checkpoints } from './checkpoint.js';
import type { TrainConfig } from './config.js';
import { type RunIdentity, runIdentity } from './identity.js';
import { type HubNames, localNames, namesAsBegun, pairReader, type RunData, readRunData } from './inputs.js';
import { StopRequest } from './interrupt.js';
import type { MetricsLine } from './metrics-line.js';
import { pairObjective, refuseSoftLabels } from './objective.js';
import { ReferenceCache } from './reference-cache.js';
import { RunFolder } from './run-folder.js';
import { RunHooks, type RunParts, type RunProgress } from './run-hooks.js';
import { lockRun, type RunLock, runLockName } from './run-lock.js';
import { writeOutcome } from './run-outcome.js';
import { openForTraining, prepareAdapter, templateWarning, trainedAgainst, withDType } from './run-policy.js';
import { makingOn, provenance } from './run-record.js';
import { begunWith, findStart } from './run-start.js';
import { Reference } from './scoring.js';
import type { TestScores } from './survey.js';
import { agreeOnRun, loadStateTogether } from './team-run.js';
import { gradientAccumulators, trainPolicy } from './trainer.js';
import type { BestEvaluation } from './trainer-hooks.js';

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
  /** Pairs scored by the reference (of each question of a survey, its options in pairs too), and how many forward passes that took: 0 where all scores came from the cache. */
  reference: { pairs: number; forwardPasses: number };
  /** Exact metrics of the test split, where there is one. */
  test?: TestScores;
  /** The evaluation with the smallest worst-group validation loss, where there is a validation split. */
  best?: BestEvaluation;
}

export interface RunOptions {
  resume?: boolean;
  /** The command that continues the run after an interruption, for the error's text. */
  again?: string;
  /** Called with the run folder when everything else in it is written, while this process still holds it; for example `writeRunReport`. */
  report?: (run: string) => Promise<void>;
  onProgress?: RunProgress;
  /** The processes that train together, of which this one has rank 0; those of other ranks call {@link followTraining}. */
  team?: Team;
}

/**
 * Trains one model as `config` says and fills its run folder:
 * config.yaml (resolved), run.json (provenance), metrics.jsonl (a line per step, from step 0), events.out.tfevents.* (the
 * same for TensorBoard), checkpoints/ (see checkpoint.ts), alpha.csv (α and weights per step and group), evaluation.json (exact test
 * metrics), adapter/ (PEFT), and what `report` writes. With `checkpoint.best`, adapter-best/ and evaluation-best.json are the
 * same of the step with the smallest worst-group validation loss.
 *
 * Errors in the input are found before anything is written, and then no folder is left behind. While the run goes on, no other process can
 * work on its folder.
 *
 * With `resume`, the run in the folder goes on from its newest whole checkpoint, and ends with exactly the files that it would have had
 * without the interruption (which run.json records); where there is no checkpoint yet, it starts. With more `steps` or `epochs` than it
 * began with, it is made longer, if the longer run would have come to the same checkpoint.
 *
 * @throws InterruptedError after SIGINT or SIGTERM, once the step is done and saved
 */
export async function runTraining(config: TrainConfig, ui: Ui, options: RunOptions = {}): Promise<RunResult> {
  await using lock = await lockRun(config.output);
  try {
    return await trainLocked(lock, config, ui, options);
  } catch (error) {
    // If another process has taken the folder meanwhile, it has removed what this one was writing: report that instead.
    lock.check();
    throw error;
  }
}

interface Ui {
  quiet: boolean;
  log(text: string): void;
}

async function trainLocked(
  lock: RunLock,
  asked: TrainConfig,
  ui: Ui,
  { resume = false, again = 'the same command with --resume', report, onProgress, team }: RunOptions,
): Promise<RunResult> {
  const warn = (text: string) => ui.log(`warning: ${text}`);
  const checkpoints = new Checkpoints(asked.output, asked.checkpoint.keep, asked.checkpoint.best);
  if (!resume) refuseExisting(asked.output, runLockName, 'go on with it by --resume, ');
  const folder = new RunFolder(asked.output, lock);
  const begun = resume ? begunWith(folder) : undefined;
  if (team) await shareJson(team, begun);
  const prepared = await prepareRun(asked, begun, ui, team);
  const { config, local, hub, identity, inputs, device } = prepared;
  const from = resume ? await findStart(local, folder, checkpoints, identity, warn) : undefined;
  if (team) await shareJson(team, from ? { trainer: from.trainer } : null);

  const { policy, data, warnings } = await openRun(prepared, ui, team);
  using _ = policy;
  if (from) await (team ? loadStateTogether(policy, team, from.policyFile) : policy.loadState(from.policyFile));
  for (const text of warnings) warn(text);

  using stop = new StopRequest(
    (signal) => ui.log(`${signal}: finishing this step and saving; once more stops at once`),
    again,
    team,
  );
  const reference = new Reference(policy, {
    cache: new ReferenceCache(() => policy.referenceIdentity(), warn),
    progress: (file, pairs) => progress(`reference of ${file}`, pairs, ui.quiet),
    team,
    pause: () => {
      lock.check();
      stop.check('while the reference scored the pairs; those done are kept');
    },
  });
  const checkHold = () => {
    policy.checkFiles();
    checkUnchanged(inputs);
    lock.check();
  };
  const trained = await trainedAgainst(local, hub, folder.at('adapter'));
  const started = Date.now();
  const made = makingOn(device, team);
  const marks = { identity, made };
  const run: RunParts = {
    config,
    folder,
    checkpoints,
    policy,
    data,
    reference,
    from,
    marks,
    stop,
    checkHold,
    ui,
    onProgress,
    team,
  };
  const hooks = new RunHooks(run, await provenance(config, data, { ...made, hub }));
  try {
    await trainPolicy(policy, data.train, data.validation, config, hooks, from?.trainer);
  } finally {
    hooks[Symbol.dispose]();
  }
  const { last, steps, alphaHistory, best } = hooks;
  lock.check();
  stop.check(`after step ${last.step} of ${steps}, which is saved`);
  const test = await writeOutcome(run, hooks, { hub, trained });
  lock.check();
  await report?.(config.output);
  return {
    run: config.output,
    method: methodName(config.objective),
    steps: last.step,
    seconds: (Date.now() - started) / 1000,
    last,
    alpha: orderedRecord(data.train.groups.map((name, g) => [name, alphaHistory.at(-1)?.[g] ?? Number.NaN])),
    reference: { pairs: reference.pairs, forwardPasses: reference.forwardPasses },
    test,
    best,
  };
}

/** A run, before its model is opened; every process finds it by itself. */
interface PreparedRun {
  config: TrainConfig;
  /** With paths on this machine in place of ids of the hub. */
  local: TrainConfig;
  hub: HubNames;
  device: Device;
  identity: RunIdentity;
  /** The files that the identity was made of. */
  inputs: FileState[];
}

/**
 * @param begun of a run that goes on, what it began with
 * @throws InputError where an input is missing, or the processes of a team have different ones
 */
export async function prepareRun(
  asked: TrainConfig,
  begun: ReturnType<typeof begunWith> | undefined,
  { quiet }: Pick<Ui, 'quiet'>,
  team: Team | undefined,
): Promise<PreparedRun> {
  const device = resolveDevice(asked.device, 'device', team?.localRank);
  const config = withDType(asked, device, begun?.names.dtype);
  const named = begun ? namesAsBegun(config, begun) : config;
  const { names: local, hub } = await localNames(named, { quiet });
  const inputs: FileState[] = [];
  const identity = await runIdentity(local, inputs);
  const { threads, ...made } = makingOn(device);
  if (team) await agreeOnRun(team, config, identity, { ...made, threads: config.threads ?? threads });
  return { config, local, hub, device, identity, inputs };
}

/** Opens the model of a run, with its adapter as it starts, and reads its pairs. */
export async function openRun(
  { config, local, device }: PreparedRun,
  { quiet }: Pick<Ui, 'quiet'>,
  team: Team | undefined,
): Promise<{ policy: GemmaPolicy; data: RunData; warnings: string[] }> {
  const policy = await openForTraining(local, device);
  try {
    if (team?.native) policy.stepWith(team.native);
    const reader = pairReader(local.model, policy, local.tokenizer, quiet);
    const data = await readRunData(reader, config.data);
    reader.refuseIdleTokenizer('tokenizer');
    for (const split of [data.train, data.validation, data.test])
      if (split) refuseSoftLabels(pairObjective(config.objective), split);
    await prepareAdapter(policy, local, gradientAccumulators(data.train, local.batch.size));
    return { policy, data, warnings: [...policy.notes, ...data.warnings, templateWarning(local) ?? []].flat() };
  } catch (error) {
    policy.dispose();
    throw error;
  }
}
