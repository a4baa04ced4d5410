import { rmSync } from 'node:fs';
import { cellsOf, type PairDataset, pairLine } from '../data/pairs/dataset.js';
import { groupValue } from '../data/pairs/groups.js';
import type { Team } from '../distributed/team.js';
import { present } from '../errors.js';
import { csv } from '../files/csv.js';
import type { NativeBatch } from '../native/types.js';
import type { Policy } from '../policy/policy.js';
import type { ReferenceRecord } from '../policy/reference-record.js';
import { progress } from '../terminal/progress.js';
import { evaluatePairs } from './evaluate.js';
import type { HubNames } from './inputs.js';
import { NonFiniteError } from './non-finite.js';
import { type PairObjective, pairObjective } from './objective.js';
import { lossOf, type Objective } from './objective-config.js';
import type { RunHooks, RunParts } from './run-hooks.js';
import { amendRecord } from './run-record.js';
import { type Reference, type ScoredDataset, scoredDataset } from './scoring.js';
import { evaluateSurvey, type ScoredSurvey, type SurveySummary, scoredSurvey, type TestScores } from './survey.js';
import { loadStateTogether } from './team-run.js';
import type { BestEvaluation } from './trainer-hooks.js';

/**
 * Writes the results of a run: alpha.csv, the adapter with its exact test metrics, and the same for the best step.
 * @returns the metrics of the test split, where there is one
 * @throws InterruptedError where the run is asked to stop meanwhile; calling it again does everything anew
 */
export async function writeOutcome(
  run: RunParts,
  { last, best, alphaHistory }: RunHooks,
  origin: { hub: HubNames; trained: ReferenceRecord },
): Promise<TestScores | undefined> {
  const { config, folder, checkpoints, policy, data, reference, team } = run;
  const test = data.test && (await scoredTest(data.test, config.objective, reference, policy));
  folder.write(
    'alpha',
    csv(
      ['step', ...data.train.groups, ...data.train.groups.map((name) => `weight/${name}`)],
      alphaHistory.map((alpha, step) => [step, ...alpha]),
    ),
  );
  // Metrics of a shorter run would be taken for this one's.
  for (const name of ['evaluation', 'testPairs', 'bestEvaluation', 'bestTestPairs'] as const)
    rmSync(folder.at(name), { force: true });
  // For the same reason the record names no step until its adapter is written.
  amendRecord(folder, data, () => ({ steps: undefined, best: undefined, longer: undefined }));
  const steps = last.step;
  const { averageFrom } = config.optimizer;
  if (averageFrom !== undefined && steps >= averageFrom)
    run.ui.log(
      `the adapter that is saved, and the test figures, are of the mean of the adapters of steps ${averageFrom} to ${steps} (optimizer.averageFrom)`,
    );
  const ofLast = config.checkpoint.best ? { steps } : { steps, best };
  let fault: unknown;
  const writeLast = policy.averaged(() => writePolicy(run, test, origin, ofLast, lastPolicy));
  const scores = await writeLast.catch((error: unknown) => {
    // The best step may be from before the scores went wrong: it is written all the same.
    if (!(error instanceof NonFiniteError)) throw error;
    fault = error;
    return undefined;
  });
  if (config.checkpoint.best && best) {
    const file = await checkpoints.policyFile(best.step);
    await (team ? loadStateTogether(policy, team, file) : policy.loadState(file));
    await policy.averaged(() => writePolicy(run, test, origin, { steps, best }, bestPolicy));
  }
  if (fault) throw fault;
  return scores;
}

/** The test split, ready to be scored: its pairs and, where they carry them, its questions. */
export interface ScoredTest {
  pairs: ScoredDataset;
  survey: ScoredSurvey | undefined;
}

export async function scoredTest(
  data: PairDataset,
  objective: Objective,
  available: Reference,
  { device }: Pick<Policy<NativeBatch>, 'device'>,
): Promise<ScoredTest> {
  const reference = pairObjective(objective).usesReference ? available : undefined;
  // A reward model alone gives no answers: which it would have given depends on β.
  const survey = objective.loss === 'reward' ? undefined : await scoredSurvey(data, reference, { device });
  return { pairs: await scoredDataset(data, reference, { device }), survey };
}

/** Where an adapter and its test metrics are written. */
const lastPolicy = { adapter: 'adapter', evaluation: 'evaluation', pairs: 'testPairs' } as const;
const bestPolicy = { adapter: 'bestAdapter', evaluation: 'bestEvaluation', pairs: 'bestTestPairs' } as const;

/** Writes the adapter of the policy as it is now, then what the record says of it, then its exact test metrics. */
async function writePolicy(
  { config, folder, policy, data, stop, checkHold, ui, team }: RunParts,
  test: ScoredTest | undefined,
  { hub, trained }: { hub: HubNames; trained: ReferenceRecord },
  outcome: { steps: number; best?: BestEvaluation },
  names: typeof lastPolicy | typeof bestPolicy,
): Promise<TestScores | undefined> {
  checkHold();
  // The adapter first: scoring may take long, or fail on a pair whose score is not finite.
  const base = { baseModel: hub.model?.id ?? config.model, revision: hub.model?.commit };
  await policy.saveAdapter(folder.at(names.adapter), base, { trained, replace: true });
  amendRecord(folder, data, () => outcome);
  if (!test) return undefined;
  const pause = () => {
    folder.checkHeld();
    stop.check(`while the test pairs were scored; all ${outcome.steps} steps are saved`);
  };
  try {
    const scoring = { policy, objective: pairObjective(config.objective), pause, team, quiet: ui.quiet };
    const { scores: measured, byPair } = await scoreTest(test, scoring);
    const scores = { objective: lossOf(config.objective), ...measured };
    checkHold();
    folder.write(names.pairs, pairLines(test.pairs, byPair));
    folder.writeJson(names.evaluation, scores);
    return scores;
  } catch (error) {
    if (!(error instanceof NonFiniteError)) throw error;
    throw new NonFiniteError(error.problem, {
      where: `after all ${outcome.steps} steps: the evaluation on ${config.data.test}`,
      fix: `check these pairs; without them, run group-robust eval with --adapter ${folder.at(names.adapter)}, which is written`,
    });
  }
}

/** How a test split is scored. */
export interface TestScoring {
  policy: Policy<NativeBatch>;
  objective: PairObjective;
  /** Called before every forward pass; may throw to stop. */
  pause: () => void;
  team: Team | undefined;
  quiet: boolean;
}

/**
 * The exact metrics of a test split by the policy as it is now, and those of each pair.
 * @throws NonFiniteError
 */
export async function scoreTest(
  { pairs, survey }: ScoredTest,
  { policy, objective, pause, team, quiet }: TestScoring,
): Promise<{ scores: Omit<TestScores, 'objective'>; byPair: ReadonlyMap<number, object> }> {
  const byPair = new Map<number, object>();
  const bar = progress('scoring the test pairs', pairs.data.pairs.length, quiet);
  const ofPairs = await evaluatePairs(policy, pairs, objective, {
    onProgress: bar.update,
    onValues: (indices, values) => {
      indices.forEach((pair, i) => {
        byPair.set(pair, Object.fromEntries(Object.entries(values).map(([metric, column]) => [metric, column[i]])));
      });
    },
    pause,
    team,
  }).finally(() => bar.stop());
  const ofSurvey = survey && (await scoreSurvey(policy, survey, { quiet, pause, team }));
  return { scores: { ...ofPairs, ...(ofSurvey && { survey: ofSurvey }) }, byPair };
}

async function scoreSurvey(
  policy: Policy<NativeBatch>,
  survey: ScoredSurvey,
  { quiet, pause, team }: Pick<TestScoring, 'quiet' | 'pause' | 'team'>,
): Promise<SurveySummary> {
  const bar = progress('scoring the questions', survey.pairs.length, quiet);
  return evaluateSurvey(policy, survey, { onProgress: bar.update, pause, team }).finally(() => bar.stop());
}

/** A line for each pair, in the order of its file: where it stands there, its group or groups, its weight within (1 on average) and its metrics. */
function pairLines({ data }: ScoredDataset, byPair: ReadonlyMap<number, object>): string {
  const names = cellsOf(data).map((groups) => groupValue(groups.map((group) => present(data.groups[group]))));
  return data.pairs
    .map(({ id, group, weight }, pair) => {
      const at = { line: pairLine({ id }), group: names[group], weight };
      return `${JSON.stringify({ ...at, ...byPair.get(pair) })}\n`;
    })
    .join('');
}
