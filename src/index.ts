/**
 * The library behind `group-robust`. Importing it never needs the addon: only opening a {@link GemmaPolicy} does, and
 * that throws a typed error which says what to run where the addon is missing.
 */
export {
  type MethodName,
  type MethodOptions,
  type MethodSettings,
  methodNames,
  methodSettings,
} from './bandit/methods.js';
export { type Arm, type BanditFigure, banditFigures, type PaperClaim } from './bandit/paper-figures.js';
export { type BanditSetting, initialTheta, trainingProblem, validationProblem } from './bandit/preferences.js';
export { type RewardSettings, trainReward } from './bandit/reward-learning.js';
export { runSeed, runSeeds, type SeedJob, type SeedResult } from './bandit/run.js';
export { type FigureOutcome, runFigures } from './bandit/run-figures.js';
export { type TrainingState, train as trainLogLinear } from './bandit/training.js';
export * from './data/pairs/dataset.js';
export type { GroupBy } from './data/pairs/groups.js';
export type { OpinionQuestion } from './data/pairs/opinion-questions.js';
export * from './data/pairs/packing.js';
export * from './data/pairs/sampler.js';
export { openTokenizer, type TextTokenizer } from './data/text/tokenizer.js';
export { GroupRobustError, InputError, type InputLocation, InterruptedError } from './errors.js';
export { type Local, localAdapter, localModel, localTokenizer } from './hub/local.js';
export { Random } from './numbers/random.js';
export * from './objective/adversary.js';
export * from './objective/aggregate.js';
export * from './objective/ambiguity.js';
export * from './objective/group-weights.js';
export * from './objective/losses.js';
export * from './objective/moving-weights.js';
export * from './objective/overlap.js';
export * from './objective/pairs.js';
export * from './objective/reference-free.js';
export * from './objective/simplex.js';
export * from './objective/tilt.js';
export { GemmaPolicy } from './policy/gemma.js';
export * from './policy/log-linear.js';
export * from './policy/log-linear-problem.js';
export { type MergeReport, mergeAdapter } from './policy/merge.js';
export * from './policy/policy.js';
export { regularisedPolicy } from './policy/regularised-policy.js';
export { writeRunReport } from './report/run-report.js';
export { type AlgorithmComparison, type ComparisonSettings, compareAlgorithms } from './theory/comparison.js';
export {
  type Convergence,
  type ConvergenceSettings,
  convergenceDefaults,
  measureConvergence,
} from './theory/convergence.js';
export { type Minimax, minimax } from './theory/minimax.js';
export { resolveConfig, type TrainConfig } from './train/config.js';
export { loadConfig } from './train/config-file.js';
export { evaluatePairs } from './train/evaluate.js';
export type { GroupSummary, PairMetric, PairMetricValues } from './train/metrics.js';
export { NonFiniteError } from './train/non-finite.js';
export {
  marginObjective,
  type PairObjective,
  type PairOutcome,
  type PairScores,
  type PlainMarginLoss,
  pairObjective,
  type StepPairs,
} from './train/objective.js';
export { ReferenceCache } from './train/reference-cache.js';
export { runTraining } from './train/run.js';
export { Reference, type ScoredDataset, scoredDataset } from './train/scoring.js';
export { evaluateSurvey, type OpinionSummary, type SurveySummary, scoredSurvey } from './train/survey.js';
export { gradientAccumulators, type OwnObjective, type TrainerSettings, trainPolicy } from './train/trainer.js';
export type { TrainerHooks } from './train/trainer-hooks.js';
