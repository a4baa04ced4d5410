import type { SamplerPlan } from '../data/pairs/sampler.js';
import type { Team } from '../distributed/team.js';
import { present } from '../errors.js';
import { writeFault } from '../files/write.js';
import { methodName } from '../objective/method-name.js';
import type { GemmaPolicy } from '../policy/gemma.js';
import { counted } from '../terminal/format.js';
import { shortName } from '../terminal/names.js';
import { type Progress, progress } from '../terminal/progress.js';
import type { Checkpoint, Checkpoints } from './checkpoint.js';
import type { TrainConfig } from './config.js';
import { printConfig } from './config-file.js';
import type { RunData } from './inputs.js';
import type { StopRequest } from './interrupt.js';
import { groupKey } from './metrics.js';
import type { MetricsLine } from './metrics-line.js';
import type { RunFolder } from './run-folder.js';
import { RunLog } from './run-log.js';
import { amendRecord } from './run-record.js';
import type { Start } from './run-start.js';
import type { Reference } from './scoring.js';
import { EventFile } from './tensorboard.js';
import type { BestEvaluation, TrainerHooks, TrainerState } from './trainer-hooks.js';

/** Told of the optimiser steps that are taken and of those of the whole run: once these are planned, and after each. */
export type RunProgress = (taken: number, planned: number) => void;

/** What one run works with. */
export interface RunParts {
  config: TrainConfig;
  folder: RunFolder;
  checkpoints: Checkpoints;
  policy: GemmaPolicy;
  data: RunData;
  reference: Reference;
  /** Where it goes on; undefined where it starts. */
  from: Start | undefined;
  /** What goes into each checkpoint. */
  marks: Pick<Checkpoint, 'identity' | 'made'>;
  stop: StopRequest;
  /** Call before results are kept. @throws where an input has changed meanwhile, or another process has taken the folder */
  checkHold(): void;
  ui: { quiet: boolean; log(text: string): void };
  onProgress: RunProgress | undefined;
  /** The processes that train together. */
  team?: Team;
}

/** What a run does while the loop trains: files, progress and checkpoints. */
export class RunHooks implements TrainerHooks, Disposable {
  readonly reference: Reference;
  readonly team?: Team;
  /** Steps of the whole run, once the loop has planned them. */
  steps = 0;
  /** The last line of the log. */
  last: MetricsLine;
  /** α of all groups, then their weights, of every line of the log. */
  readonly alphaHistory: number[][];
  best?: BestEvaluation;
  private log?: RunLog;
  private events?: EventFile;
  private bar?: Progress;

  /** @param record run.json of a run that starts */
  constructor(
    private readonly run: RunParts,
    private readonly record: object,
  ) {
    const { from, reference, team } = run;
    this.reference = reference;
    this.team = team;
    this.last = from?.lines.at(-1) ?? { step: 0 };
    this.alphaHistory = from?.lines.map((line) => this.alphaOf(line)) ?? [];
    this.best = from?.trainer.best;
  }

  /** Nothing is written before this: by now group weights and sampler have accepted the groups too. */
  onPlan({ steps, sampler, finished }: { steps: number; sampler: SamplerPlan; finished: boolean }): void {
    const { config, policy, data, from, ui, team } = this.run;
    ui.log(`${policy.placeText}${team ? `, ${counted(team.size, 'process', 'processes')}` : ''}`);
    this.log = from ? this.goOn(from) : this.start();
    this.steps = steps;
    this.run.onProgress?.(from?.trainer.step ?? 0, steps);
    ui.log(
      `${methodName(config.objective)}: ${stepsToTake(from, steps, finished)} of ${counted(config.batch.size, 'pair')}${finished ? ' are done' : ''}; ` +
        `training pairs: ${describeGroups(data)}`,
    );
    const repeats = describeRepeats(sampler, data);
    if (repeats !== undefined) ui.log(repeats);
  }

  onStep(line: MetricsLine): void {
    const { config, folder } = this.run;
    this.bar ??= this.startBar();
    folder.checkHeld();
    this.last = line;
    this.alphaHistory.push(this.alphaOf(line));
    this.openLog.append(line);
    try {
      this.events ??= new EventFile(folder.path, line.step);
      this.events.write(line);
    } catch (error) {
      throw writeFault(config.output, error);
    }
    this.run.onProgress?.(line.step, this.steps);
    this.bar.update(line.step, typeof line.loss === 'number' ? `loss ${line.loss.toPrecision(4)}` : '');
  }

  evaluating(_step: number, pairs: number): Progress {
    return progress('validation', pairs, this.run.ui.quiet);
  }

  pause(step: number): void {
    this.run.folder.checkHeld();
    this.run.stop.check(`in the evaluation after step ${step} of ${this.steps}, which is saved`);
  }

  async afterStep(state: TrainerState): Promise<boolean> {
    const { checkpoint } = this.run.config;
    this.best = state.best;
    const due = state.step > 0 && (state.step % checkpoint.every === 0 || state.finished);
    const isBest = checkpoint.best && this.best?.step === state.step;
    const scheduled = (due || isBest) && state.unevaluated === undefined;
    const { stop } = this.run;
    if (scheduled || stop.made) await this.save(state, !scheduled);
    return !stop.made;
  }

  onWarning(text: string): void {
    this.run.ui.log(`warning: ${text}`);
  }

  onDecision(text: string): void {
    this.run.ui.log(text);
  }

  [Symbol.dispose](): void {
    this.bar?.stop();
    this.log?.close();
    this.events?.close();
  }

  private start(): RunLog {
    const { config, folder } = this.run;
    // The configuration first: a later --resume recognises the folder as a run by it.
    folder.write('config', printConfig(config));
    const log = RunLog.create(folder.at('metrics'));
    folder.writeJson('record', this.record);
    return log;
  }

  private goOn(from: Start): RunLog {
    const { config, folder, data, marks } = this.run;
    const { made } = marks;
    // Runs were on a CPU before they recorded where they are, and later of some unknown make.
    const before = {
      ...from.made,
      device: from.made.device ?? 'cpu',
      processor: from.made.processor ?? made.processor,
    };
    if (JSON.stringify(before) !== JSON.stringify(made))
      this.onWarning(
        `the run began with ${JSON.stringify(before)} and goes on with ${JSON.stringify(made)}: ` +
          'its numbers may differ in their last bits from those of an uninterrupted run',
      );
    // The step after which the run went on, when, and with what.
    const resumption = { step: from.trainer.step, at: new Date().toISOString(), ...made };
    amendRecord(folder, data, ({ resumed }) => ({
      resumed: [...(Array.isArray(resumed) ? resumed : []), resumption],
      // Until it has ended anew.
      ...(from.longer && { longer: true }),
    }));
    if (from.longer) folder.write('config', printConfig(config));
    return RunLog.resume(folder.at('metrics'), from.log);
  }

  private async save(trainer: TrainerState, unscheduled: boolean): Promise<void> {
    const { checkpoints, policy, marks, folder, checkHold } = this.run;
    checkHold();
    const { identity, made } = marks;
    const checkpoint = { trainer, log: this.openLog.sync(), identity, made, ...(unscheduled ? { unscheduled } : {}) };
    await checkpoints.save(
      checkpoint,
      (file) => policy.saveState(file),
      () => folder.checkHeld(),
    );
  }

  /** Called at the first step, so that the bar comes below those of the reference. */
  private startBar(): Progress {
    const { ui, from } = this.run;
    const { pairs, forwardPasses } = this.reference;
    if (pairs > 0)
      ui.log(
        `reference: ${counted(pairs, 'pair')}, ${forwardPasses > 0 ? `${counted(forwardPasses, 'forward pass', 'forward passes')} for those not in the cache` : 'all from the cache'}`,
      );
    return progress('training', this.steps, ui.quiet, from?.trainer.step);
  }

  private get openLog(): RunLog {
    if (!this.log) throw new Error('a step before the plan');
    return this.log;
  }

  private alphaOf(line: MetricsLine): number[] {
    const { groups } = this.run.data.train;
    return (['alpha', 'weight'] as const).flatMap((what) => groups.map((name) => Number(line[groupKey(name, what)])));
  }
}

function stepsToTake(from: Start | undefined, steps: number, finished: boolean): string {
  if (from === undefined) return counted(steps, 'step');
  return finished ? `all ${from.trainer.step} steps` : `steps ${from.trainer.step + 1} to ${steps}`;
}

/** Of many groups the first. */
function describeGroups({ train: { groups, counts } }: RunData): string {
  const most = 20;
  const shown = groups.slice(0, most).map((name, g) => `${shortName(name)} (${counts[g]})`);
  return shown.join(', ') + (groups.length > most ? ` and ${counted(groups.length - most, 'more group')}` : '');
}

/** What an epoch means where some groups come up more often in it than others. */
function describeRepeats({ kind, groups, batchesPerEpoch }: SamplerPlan, { train }: RunData): string | undefined {
  if (kind === 'proportional') return undefined;
  const byRepeats = groups
    .map(({ repeatsPerEpoch }, g) => ({ name: shortName(present(train.groups[g])), repeats: repeatsPerEpoch }))
    .sort((a, b) => a.repeats - b.repeats);
  const [least, most] = [present(byRepeats[0]), present(byRepeats.at(-1))];
  if (most.repeats < 1.01 * least.repeats) return undefined;
  return (
    `${kind} batches: in an epoch of ${counted(batchesPerEpoch, 'step')} a pair of ${most.name} comes up ${most.repeats.toPrecision(3)} ` +
    `times, one of ${least.name} ${least.repeats.toPrecision(3)}`
  );
}
