import type { Command } from '@commander-js/extra-typings';
import { counted } from '../terminal/format.js';
import { defineAction } from './command.js';
import { groupByOption, openScorer, scoringCommand, scoringInputs } from './eval.js';
import { checkOut, openLines, requireOut } from './out.js';

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
    const { byPair, packForScoring, pairsAt, scoringBatches } = await import('../train/scoring.js');
    const { checkFinite } = await import('../train/non-finite.js');
    const { progress } = await import('../terminal/progress.js');
    const out = checkOut(options, { inputs: scoringInputs(options) });
    // Before the scoring, which may take hours: a place that cannot be written is found at once.
    using file = openLines(out);
    using scorer = await openScorer(options, { usesReference: true, usesGroups: false });
    const { policy, data } = scorer;
    if (!out.stdout) output.log(policy.placeText);
    const bar = progress('scoring', data.pairs.length, options.quiet || output.json);
    const waiting = new Map<number, object>();
    const all: object[] = [];
    let written = 0;
    let done = 0;
    try {
      for (const indices of scoringBatches(data, options.batch)) {
        const packed = packForScoring(data, indices);
        const scored = byPair(packed, await policy.logProbabilities(packed.batch, 'policy'));
        const reference = byPair(packed, await policy.logProbabilities(packed.batch, 'reference'));
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
}
