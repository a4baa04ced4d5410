import { shareJson, type Team } from '../distributed/team.js';
import { checkUnchanged } from '../files/opened-file.js';
import type { TrainConfig } from './config.js';
import { StopRequest } from './interrupt.js';
import type { MetricsLine } from './metrics-line.js';
import { NonFiniteError } from './non-finite.js';
import { pairObjective } from './objective.js';
import { ReferenceCache } from './reference-cache.js';
import { openRun, prepareRun } from './run.js';
import { scoredTest, scoreTest, type TestScoring } from './run-outcome.js';
import type { Start } from './run-start.js';
import { Reference } from './scoring.js';
import { loadStateTogether } from './team-run.js';
import { trainPolicy } from './trainer.js';
import type { BestEvaluation, TrainerHooks, TrainerState } from './trainer-hooks.js';

/**
 * The part of {@link runTraining} that processes of other ranks than 0 have: they compute what it does, in the same order, and write nothing.
 * @throws InterruptedError when any process is asked to stop, once rank 0 has saved
 */
export async function followTraining(asked: TrainConfig, team: Team): Promise<void> {
  const quiet = { quiet: true, log: () => {} };
  const begun = await shareJson<Parameters<typeof prepareRun>[1]>(team, undefined);
  const prepared = await prepareRun(asked, begun, quiet, team);
  const { config, inputs } = prepared;
  const from = await shareJson<Pick<Start, 'trainer'> | null>(team, undefined);
  const { policy, data } = await openRun(prepared, quiet, team);
  using _ = policy;
  if (from) await loadStateTogether(policy, team, undefined);
  using stop = new StopRequest(() => {}, '', team);
  const pause = () => stop.check('');
  const cache = new ReferenceCache(() => policy.referenceIdentity(), quiet.log);
  const reference = new Reference(policy, { cache, pause, team });
  const hooks = new FollowerHooks(reference, stop, team, from?.trainer.best);
  await trainPolicy(policy, data.train, data.validation, config, hooks, from?.trainer);
  pause();

  const objective = pairObjective(config.objective);
  const test = data.test && (await scoredTest(data.test, config.objective, reference, policy));
  const scoring: TestScoring = { policy, objective, pause, team, quiet: true };
  const scoreAll = async () => {
    policy.checkFiles();
    checkUnchanged(inputs);
    if (test) await policy.averaged(() => scoreTest(test, scoring));
  };
  let fault: unknown;
  await scoreAll().catch((error: unknown) => {
    if (!(error instanceof NonFiniteError)) throw error;
    fault = error;
  });
  if (config.checkpoint.best && hooks.best) {
    await loadStateTogether(policy, team, undefined);
    await scoreAll();
  }
  if (fault) throw fault;
}

/** Of a process that writes nothing. */
class FollowerHooks implements TrainerHooks {
  constructor(
    readonly reference: Reference,
    private readonly stop: StopRequest,
    readonly team: Team,
    public best: BestEvaluation | undefined,
  ) {}

  onStep(_line: MetricsLine): void {}

  pause(): void {
    this.stop.check('');
  }

  afterStep(state: TrainerState): boolean {
    this.best = state.best;
    return !this.stop.made;
  }
}
