import type { Command } from 'commander';
import { defineAction, parseNumber } from './command.js';
import { openScorer, scoringOptions } from './eval.js';

type Options = Parameters<typeof openScorer>[0] & { out: string };

/** `group-robust logprobs`: sums of token log-probs of both responses of every pair, by the policy and by the base model. */
export function registerLogprobs(program: Command): void {
  const command = scoringOptions(
    program.command('logprobs').description('log-probs of both responses of each pair, with and without the adapter'),
  ).requiredOption('--out <file>', 'JSONL to write, one line a pair in order; - for stdout');
  defineAction<Options>(command, async (options, output) => {
    const { byPair, packForScoring, scoringBatches } = await import('../train/scoring.js');
    const { writeFileWhole } = await import('../files.js');
    const { checkFinite } = await import('../train/non-finite.js');
    const { progress } = await import('../progress.js');
    using scorer = await openScorer(options);
    const { policy, data } = scorer;
    const batch = options.batch && parseNumber('--batch', options.batch, { min: 1, integer: true });
    const bar = progress('scoring', data.pairs.length, options.quiet || output.json);
    const lines = new Array<string>(data.pairs.length);
    let done = 0;
    try {
      for (const indices of scoringBatches(data, batch || undefined)) {
        const packed = packForScoring(data, indices);
        const scored = byPair(packed, await policy.logProbabilities(packed.batch, 'policy'));
        const reference = byPair(packed, await policy.logProbabilities(packed.batch, 'base'));
        const pairs = Array.from(indices, (pair) => data.pairs[pair]);
        for (const { chosen, rejected } of [scored, reference])
          checkFinite(pairs, { 'logps/chosen': chosen, ...(rejected && { 'logps/rejected': rejected }) });
        indices.forEach((pair, i) => {
          lines[pair] = JSON.stringify({
            chosen: scored.chosen[i],
            rejected: scored.rejected?.[i],
            reference_chosen: reference.chosen[i],
            reference_rejected: reference.rejected?.[i],
          });
        });
        done += indices.length;
        bar.update(done);
      }
    } finally {
      bar.stop();
    }
    policy.checkFiles();
    const text = `${lines.join('\n')}\n`;
    if (options.out !== '-') {
      writeFileWhole(options.out, text);
      output.log(`${options.out}: ${lines.length} pairs`);
    } else if (!output.json) process.stdout.write(text);
    return { pairs: lines.length, out: options.out, ...(options.out === '-' ? { logprobs: lines.map(parse) } : {}) };
  });
}

function parse(line: string): unknown {
  return JSON.parse(line);
}
