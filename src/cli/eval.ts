import { type Command, Option } from '@commander-js/extra-typings';
import type { Team } from '../distributed/team.js';
import { InputError, present } from '../errors.js';
import type { GemmaPolicy } from '../policy/gemma.js';
import type { ClusteredPair } from '../report/clusters.js';
import { warn } from '../terminal/output.js';
import type { PairMetricValues } from '../train/metrics.js';
import type { Reference } from '../train/scoring.js';
import { clusterOption, defineAction, groupByOption, type Output, parsedOption, parsePositive } from './command.js';
import { chooseObjective, objectiveOption } from './eval-objective.js';
import { chosen, logChosen, openScorer, peopleSource, type ScorerOptions, scoringCommand } from './model.js';

/** `group-robust eval`: exact metrics of a whole file of pairs, by group. */
export function registerEval(program: Command): void {
  const command = scoringCommand(program, 'eval', 'exact metrics of a pairs file, by group')
    .addOption(objectiveOption())
    .addOption(groupByOption().default(['group'], 'group'))
    .option('--drop-unusable', 'leave out pairs that are too long, empty or equal, and count them (default: an error)')
    .addOption(clusterOption().conflicts('survey'))
    .addOption(
      new Option(
        '--survey',
        "how near the model's answers to the pairs' questions are to each group's, over all options (needs their `shares`), instead of metrics of pairs",
      ).conflicts('objective'),
    )
    .addOption(
      parsedOption(
        '--beta <b>',
        'with --survey and a reward model r: β of the policy that is best for it, π ∝ π_ref exp(r/β), whose answers are compared',
        parsePositive,
      ).conflicts('objective'),
    );
  defineAction(command, async (options, output) => {
    const { together } = await import('../distributed/process-team.js');
    if (options.beta !== undefined && !options.survey)
      throw new InputError('does nothing without --survey', {
        at: { field: '--beta' },
        fix: 'leave it out; a loss takes its own from --objective',
      });
    if (options.survey) return together(undefined, (team) => evaluateOpinions(options, output, team));
    const { pairObjective } = await import('../train/objective.js');
    const { evaluatePairs } = await import('../train/evaluate.js');
    const { scoredDataset } = await import('../train/scoring.js');
    const { progress } = await import('../terminal/progress.js');
    const { clustersOf, overClusters } = await import('../report/clusters.js');
    const { cellsOf, pairLine } = await import('../data/pairs/dataset.js');
    const { groupTable } = await import('./group-table.js');
    const { localAdapter } = await import('../hub/local.js');
    return together(undefined, async (team) => {
      const { pairs, cluster, adapter } = options;
      const folder = adapter === undefined ? undefined : (await localAdapter(adapter, { quiet: options.quiet })).path;
      const { objective: loss, text } = await chooseObjective(options.objective, folder);
      const objective = pairObjective({ ...loss, weights: 'erm' });
      const { usesReference } = objective;
      if (options.referenceAdapter !== undefined && !usesReference)
        throw new InputError(`does nothing with --objective ${loss.loss}`, {
          at: { field: '--reference-adapter' },
          fix: 'leave it out',
        });
      const clusters = cluster === undefined ? undefined : await clustersOf(pairs, cluster, peopleSource(options));
      const scores = loss.loss === 'reward' ? 'rewards' : 'logps';
      using scorer = await openScorer(
        { ...options, objective: loss },
        { scores, usesReference, usesGroups: true },
        team,
      );
      const { policy, data } = scorer;
      output.log(policy.placeText);
      const quiet = options.quiet || output.json;
      const reference = await referenceOf(policy, quiet, team);
      const limits = { maxPairs: options.batch, device: policy.device };
      const scored = await scoredDataset(data, usesReference ? reference : undefined, limits);
      const bar = progress('scoring', data.pairs.length, quiet);
      const tested: ClusteredPair[] = [];
      const cells = cellsOf(data);
      const onValues = (indices: Int32Array, values: PairMetricValues) => {
        if (!clusters) return;
        indices.forEach((pair, i) => {
          const { id, group, weight } = present(data.pairs[pair]);
          const cluster = present(clusters.get(pairLine({ id })));
          const own = Object.entries(values).map(([metric, column]) => [metric, column[i]]);
          tested[pair] = { groups: present(cells[group]), weight, cluster, values: Object.fromEntries(own) };
        });
      };
      const onProgress = bar.update;
      const summary = await evaluatePairs(policy, scored, objective, { onProgress, onValues, team }).finally(() =>
        bar.stop(),
      );
      policy.checkFiles();
      logChosen(scorer, output);
      const over = clusters && overClusters(data.groups, tested);
      for (const [name, group] of over ? Object.entries(summary.groups) : [])
        group.standard_error = over?.groups[name]?.standard_error;
      output.log(groupTable(options.pairs, summary, over && { ...over, column: present(options.cluster) }));
      output.log(`objective: ${text}`);
      return {
        objective: loss,
        ...summary,
        ...(over && { clusters: { column: options.cluster, ...over } }),
        dropped: data.report.dropped,
        ...chosen(scorer),
      };
    });
  });
}

/** The frozen policy of both kinds of evaluation, with its scores from the cache where that has them. */
async function referenceOf(
  policy: GemmaPolicy,
  quiet: boolean | undefined,
  team: Team | undefined,
): Promise<Reference> {
  const { Reference } = await import('../train/scoring.js');
  const { ReferenceCache } = await import('../train/reference-cache.js');
  const { progress } = await import('../terminal/progress.js');
  return new Reference(policy, {
    cache: new ReferenceCache(() => policy.referenceIdentity(), warn),
    progress: (_, pairs) => progress('reference', pairs, quiet),
    team,
  });
}

/** `group-robust eval --survey`. */
async function evaluateOpinions(
  options: ScorerOptions & { batch?: number; beta?: number },
  output: Output,
  team: Team | undefined,
): Promise<object> {
  const { beta } = options;
  const { evaluateSurvey, scoredSurvey } = await import('../train/survey.js');
  const { progress } = await import('../terminal/progress.js');
  const { surveyTable } = await import('./survey-table.js');
  const scores = beta === undefined ? 'logps' : 'rewards';
  using scorer = await openScorer(options, { scores, usesReference: true, usesGroups: true, usesSurvey: true }, team);
  const { policy, data } = scorer;
  output.log(policy.placeText);
  const quiet = options.quiet || output.json;
  const reference = await referenceOf(policy, quiet, team);
  const scored = present(await scoredSurvey(data, reference, { maxPairs: options.batch, device: policy.device }));
  const bar = progress('scoring', scored.pairs.length, quiet);
  const survey = await evaluateSurvey(policy, scored, { onProgress: bar.update, team, rewardBeta: beta }).finally(() =>
    bar.stop(),
  );
  policy.checkFiles();
  logChosen(scorer, output);
  if (beta !== undefined) output.log(`policy: π ∝ π_ref exp(r/β) of the reward model r, β = ${beta}`);
  output.log(surveyTable(options.pairs, survey));
  return { survey, beta, dropped: data.report.dropped, ...chosen(scorer) };
}
