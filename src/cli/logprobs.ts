import type { Command } from '@commander-js/extra-typings';
import { present } from '../errors.js';
import type { LogProbabilitySource } from '../policy/policy.js';
import { counted } from '../terminal/format.js';
import { defineAction, groupByOption } from './command.js';
import { chosen, logChosen, openScorer, scoringCommand, scoringInputs } from './model.js';
import { checkOut, noLines, nowhere, openLines, requireOut } from './out.js';

/** Whose scores a line has, and what is before their names. */
type Sources = readonly (readonly [source: LogProbabilitySource, prefix: string])[];
const policySources: Sources = [
  ['policy', ''],
  ['reference', 'reference_'],
];
const rewardSources: Sources = [['policy', 'reward_']];

/**
 * `group-robust logprobs`: sums of token log-probs of both responses of every pair, by the policy and by the reference; of a reward model its
 * scores.
 */
export function registerLogprobs(program: Command): void {
  const command = requireOut(
    scoringCommand(
      program,
      'logprobs',
      'log-probs of both responses of each pair, by policy and reference, or their scores by a reward model',
    ).addOption(groupByOption()),
    '--out <file>',
    'JSONL to write, one line a pair in order; - for stdout',
  );
  defineAction(command, async (options, output) => {
    const { byPair, pairsAt, scoreBatches, scoringBatches } = await import('../train/scoring.js');
    const { checkFinite } = await import('../train/non-finite.js');
    const { progress } = await import('../terminal/progress.js');
    const { together } = await import('../distributed/process-team.js');
    return together(undefined, async (team) => {
      // Of several processes one writes.
      const out = team && team.rank > 0 ? nowhere : checkOut(options, { inputs: scoringInputs(options) });
      // Before the scoring, which may take hours: a place that cannot be written is found at once.
      using file = out === nowhere ? noLines : openLines(out);
      using scorer = await openScorer(options, { usesReference: true, usesGroups: false }, team);
      const { policy, data } = scorer;
      if (!out.stdout) output.log(policy.placeText);
      const bar = progress('scoring', data.pairs.length, options.quiet || output.json);
      const waiting = new Map<number, object>();
      const all: object[] = [];
      let written = 0;
      let done = 0;
      try {
        const batches = scoringBatches(data, { maxPairs: options.batch, device: policy.device });
        const sources = policy.isReward ? rewardSources : policySources;
        const names = sources.map(([source]) => source);
        for await (const { indices, packed, logps } of scoreBatches(policy, data, batches, names, { team })) {
          const pairs = pairsAt(data, indices);
          const columns = sources.flatMap(([, prefix], s) => {
            const { chosen, rejected } = byPair(packed, present(logps[s]));
            checkFinite(pairs, { 'logps/chosen': chosen, 'logps/rejected': present(rejected) });
            return [
              { name: `${prefix}chosen`, values: chosen },
              { name: `${prefix}rejected`, values: present(rejected) },
            ];
          });
          indices.forEach((pair, i) => {
            waiting.set(pair, Object.fromEntries(columns.map(({ name, values }) => [name, values[i]])));
          });
          // Pairs of one prompt are scored together, wherever they stand: a line waits for those before it.
          for (let line = waiting.get(written); line !== undefined; line = waiting.get(written)) {
            // Under --json stdout has room for the one object only.
            if (out.stdout && output.json) all.push(line);
            else file.append(`${JSON.stringify(line)}\n`);
            waiting.delete(written++);
          }
          done += indices.length;
          bar.update(done);
        }
      } finally {
        bar.stop();
      }
      policy.checkFiles();
      file.finish();
      if (!out.stdout) {
        logChosen(scorer, output);
        output.log(`${out.path}: ${counted(written, 'pair')}`);
      }
      return {
        pairs: written,
        out: out.path,
        ...chosen(scorer),
        ...(out.stdout ? { logprobs: all } : {}),
      };
    });
  });
}
