import type { Command } from '@commander-js/extra-typings';
import { present } from '../errors.js';
import { counted } from '../terminal/format.js';
import { defineAction, groupByOption } from './command.js';
import { openScorer, scoringCommand, scoringInputs } from './eval.js';
import { checkOut, noLines, nowhere, openLines, requireOut } from './out.js';

/** `group-robust logprobs`: sums of token log-probs of both responses of every pair, by the policy and by the reference. */
export function registerLogprobs(program: Command): void {
  const command = requireOut(
    scoringCommand(program, 'logprobs', 'log-probs of both responses of each pair, by policy and reference').addOption(
      groupByOption(),
    ),
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
        for await (const { indices, packed, logps } of scoreBatches(policy, data, batches, ['policy', 'reference'], {
          team,
        })) {
          const scored = byPair(packed, present(logps[0]));
          const reference = byPair(packed, present(logps[1]));
          const pairs = pairsAt(data, indices);
          for (const { chosen, rejected } of [scored, reference])
            checkFinite(pairs, { 'logps/chosen': chosen, ...(rejected && { 'logps/rejected': rejected }) });
          indices.forEach((pair, i) => {
            waiting.set(pair, {
              chosen: scored.chosen[i],
              rejected: scored.rejected?.[i],
              reference_chosen: reference.chosen[i],
              reference_rejected: reference.rejected?.[i],
            });
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
      if (!out.stdout) output.log(`reference: ${scorer.reference?.text}`);
      if (!out.stdout && scorer.template) output.log(`template: ${scorer.template.text}`);
      if (!out.stdout) output.log(`${out.path}: ${counted(written, 'pair')}`);
      return {
        pairs: written,
        out: out.path,
        reference: scorer.reference?.adapter,
        template: scorer.template?.text,
        ...(out.stdout ? { logprobs: all } : {}),
      };
    });
  });
}
