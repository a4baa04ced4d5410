import { formatCount } from '../../terminal/format.js';
import { listNames } from '../../terminal/names.js';
import type { PairDataset } from './dataset.js';
import { opposedLabels } from './opposed-labels.js';

/** How many pairs, or prompts of token ids, have something odd about them. */
export interface Oddities {
  repeatedPrompts: number;
  markers: number;
  othersTurns: number;
  withoutBos: number;
}

/** What is worth telling of the pairs of a file, in full sentences. */
export function pairWarnings(
  file: string,
  { groups, pairs, counts, report: { dropped, boundaryDiffers } }: Omit<PairDataset, 'file'>,
  { repeatedPrompts, markers, othersTurns, withoutBos }: Oddities,
): string[] {
  const warnings: string[] = [];
  const tell = (text: string) => warnings.push(`${file}: ${text}`);
  if (dropped.empty + dropped.degenerate + dropped.tooLong > 0)
    tell(
      `left out ${dropped.empty} pairs with an empty text, ${dropped.degenerate} with equal responses and ` +
        `${dropped.tooLong} that are too long`,
    );
  if (boundaryDiffers.count > 0)
    tell(
      `in ${boundaryDiffers.count} pairs (first on line ${boundaryDiffers.firstLines.join(', ')}) prompt and response ` +
        'would be cut into other tokens where they meet if they were one text; the prompt was cut as it is when it ' +
        'stands alone. Ending prompts with a line break or starting responses with a space avoids this.',
    );
  if (repeatedPrompts > 0)
    tell(
      `in ${repeatedPrompts} pairs both responses begin with the prompt, which then stands there twice; without the column ` +
        '"prompt" it is taken to be what they both begin with',
    );
  if (markers > 0)
    tell(
      `${markers} pairs of plain text hold chat markers such as <start_of_turn>; text is used as given, no template is added`,
    );
  if (othersTurns > 0)
    tell(
      `in ${othersTurns} pairs a response holds turns of the user or of another role than the assistant; their ` +
        'tokens count as the response, so the model is trained to write them',
    );
  if (withoutBos > 0)
    tell(
      `BOS_MISSING in ${withoutBos} prompts of token ids; Gemma was trained with it in front of every text and ` +
        'fails without it, but ids are used exactly as given',
    );
  const alike = lookalikes(groups);
  for (const names of alike.slice(0, MOST_LOOKALIKES))
    tell(
      `the groups ${listNames(names)} differ only in spaces, case or the form of ` +
        'a character or number; spell them the same if they are one group',
    );
  if (alike.length > MOST_LOOKALIKES) tell(`${formatCount(alike.length - MOST_LOOKALIKES)} more such sets of groups`);
  const empty = groups.filter((_, group) => counts[group] === 0);
  if (empty.length > 0) tell(`no pair of group ${listNames(empty)}`);
  const { elsewhere, within } = opposedLabels(pairs);
  if (elsewhere.pairs > 0)
    tell(
      `${formatCount(elsewhere.pairs)} pairs (on ${formatCount(elsewhere.prompts)} prompts) are labelled the other way round in ` +
        'another group, and nothing in the prompt tells the groups apart: one model cannot satisfy both. data.template, or ' +
        '--template of eval and logprobs, puts the group into the prompt: "Imagine you are from {group}. {prompt}"',
    );
  if (within.pairs > 0)
    tell(
      `${formatCount(within.pairs)} pairs (on ${formatCount(within.prompts)} prompts) are labelled the other way round in their ` +
        'own group too: the best that a model can do there is to have the share that prefers each. Where people disagree, a ' +
        'column "preference" says that share in one pair',
    );
  return warnings;
}

/** So many sets of them are worth a line each. */
const MOST_LOOKALIKES = 3;

/** Sets of names that people would take for one. */
function lookalikes(names: readonly string[]): string[][] {
  const alike = new Map<string, string[]>();
  for (const name of names) {
    const folded = name.normalize('NFKC').toLowerCase().trim().replace(/\s+/g, ' ');
    const key = /^\d+(\.\d+)?$/.test(folded) ? String(Number(folded)) : folded;
    const known = alike.get(key);
    if (known) known.push(name);
    else alike.set(key, [name]);
  }
  return [...alike.values()].filter((set) => set.length > 1);
}
