import type { TokenisedPair } from './dataset.js';
import { equalNumbers, promptNumbers } from './prompt-numbers.js';

/** Pairs whose opposite, the same responses with the labels exchanged, stands on the very same prompt. */
export interface OpposedPairs {
  pairs: number;
  /** Different ones, of these pairs. */
  prompts: number;
}

/** Those whose opposite stands in another group, and those whose opposite stands in their own; a pair can be both. */
export function opposedLabels(pairs: readonly TokenisedPair[]): { elsewhere: OpposedPairs; within: OpposedPairs } {
  const numbers = promptNumbers(pairs);
  const byPrompt: number[][] = [];
  for (const [pair, prompt] of numbers.entries()) {
    byPrompt[prompt] ??= [];
    byPrompt[prompt].push(pair);
  }
  const elsewhere = { pairs: 0, prompts: 0 };
  const within = { pairs: 0, prompts: 0 };
  for (const members of byPrompt) {
    if (members.length === 1) continue;
    const labels = labelsOf(members.map((pair) => pairs[pair]));
    const groups = new Map<number, Set<number>>();
    for (const { group, label } of labels) groups.set(label, (groups.get(label) ?? new Set()).add(group));
    const count = (found: OpposedPairs, opposed: typeof labels) => {
      found.pairs += opposed.length;
      if (opposed.length > 0) found.prompts++;
    };
    const isWithin = ({ group, opposite }: Label) => groups.get(opposite)?.has(group) ?? false;
    count(
      elsewhere,
      labels.filter((one) => (groups.get(one.opposite)?.size ?? 0) > (isWithin(one) ? 1 : 0)),
    );
    count(within, labels.filter(isWithin));
  }
  return { elsewhere, within };
}

/** What a pair says of two responses to its prompt, as a number, and the number of who says the contrary. */
interface Label {
  group: number;
  label: number;
  opposite: number;
}

/** Of pairs on one prompt. A soft label says what most of the group prefer, if it says anything. */
function labelsOf(pairs: readonly TokenisedPair[]): Label[] {
  const responses = equalNumbers(2 * pairs.length, (i) => pairs[i >> 1][i % 2 === 0 ? 'chosen' : 'rejected']);
  return pairs.flatMap(({ group, preference = 1 }, i) => {
    if (preference === 0.5) return [];
    const [chosen, rejected] = responses.subarray(2 * i, 2 * i + 2);
    const [won, lost] = preference > 0.5 ? [chosen, rejected] : [rejected, chosen];
    const number = (first: number, second: number) => first * responses.length + second;
    return { group, label: number(won, lost), opposite: number(lost, won) };
  });
}
