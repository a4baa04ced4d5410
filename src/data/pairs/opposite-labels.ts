import type { TokenisedPair } from './dataset.js';
import { promptNumbers } from './prompt-numbers.js';

/** Pairs whose opposite, the same responses with the labels exchanged, stands in another group on the very same prompt. */
export interface OppositeLabels {
  pairs: number;
  /** Different ones, of these pairs. */
  prompts: number;
}

export function oppositeLabels(pairs: readonly TokenisedPair[]): OppositeLabels {
  const numbers = promptNumbers(pairs);
  const byPrompt: number[][] = [];
  for (const [pair, prompt] of numbers.entries()) {
    byPrompt[prompt] ??= [];
    byPrompt[prompt].push(pair);
  }
  const found = { pairs: 0, prompts: 0 };
  for (const members of byPrompt) {
    if (members.every((pair) => pairs[pair].group === pairs[members[0]].group)) continue;
    const labels = members.flatMap((pair) => {
      const { group, chosen, rejected, preference = 1 } = pairs[pair];
      // A soft label says what most of the group prefer, if it says anything.
      if (preference === 0.5) return [];
      const [won, lost] = (preference > 0.5 ? [chosen, rejected] : [rejected, chosen]).map((ids) => ids.join(' '));
      return { group, label: `${won}|${lost}`, opposite: `${lost}|${won}` };
    });
    const groups = new Map<string, Set<number>>();
    for (const { group, label } of labels) groups.set(label, (groups.get(label) ?? new Set()).add(group));
    const opposed = labels.filter(({ group, opposite }) => {
      const others = groups.get(opposite);
      return others !== undefined && (others.size > 1 || !others.has(group));
    });
    found.pairs += opposed.length;
    if (opposed.length > 0) found.prompts++;
  }
  return found;
}
