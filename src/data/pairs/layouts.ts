import { isDeepStrictEqual } from 'node:util';
import { InputError } from '../../errors.js';
import type { RowLocation } from '../tables/row.js';
import type { ChatMessage } from './messages.js';

/** TRL's ways of writing a preference: the prompt apart or as the common beginning, in text or in turns. */

/**
 * Splits two conversations into the turns they share at their beginning and what follows. The last turn of either is
 * always response, so that equal conversations become equal responses.
 * @throws InputError when they share no turn
 */
export function commonTurns(chosen: ChatMessage[], rejected: ChatMessage[], at: RowLocation) {
  const longest = Math.min(chosen.length, rejected.length) - 1;
  let shared = 0;
  while (shared < longest && isDeepStrictEqual(chosen[shared], rejected[shared])) shared++;
  if (shared === 0)
    throw new InputError('and "rejected" begin with different turns, and there is no column "prompt" of turns', {
      at: { ...at, field: 'chosen' },
      fix: 'begin both conversations with the turns of the prompt, or give these in a column "prompt"',
    });
  return { prompt: chosen.slice(0, shared), chosen: chosen.slice(shared), rejected: rejected.slice(shared) };
}

/** Letters, digits and the marks that belong to them, ending or beginning a text. */
const endsInWord = /[\p{L}\p{N}\p{M}_]+$/u;
const beginsInWord = /^[\p{L}\p{N}\p{M}_]/u;
/** UTF-16 units; a longer run without spaces, as in Chinese, is cut at this distance. */
const LONGEST_WORD = 64;

/**
 * Splits two texts into the beginning they share and what follows. As in TRL a space before the responses belongs to
 * them; unlike there a word is never cut, since "Sure" and "Sorry" do not begin with the same token.
 */
export function commonBeginning(chosen: string, rejected: string) {
  let shared = 0;
  while (shared < Math.min(chosen.length, rejected.length) && chosen[shared] === rejected[shared]) shared++;
  // Never between the halves of a surrogate pair.
  if (/[\uD800-\uDBFF]/.test(chosen[shared - 1] ?? '')) shared--;
  if (beginsInWord.test(chosen.slice(shared)) || beginsInWord.test(rejected.slice(shared)))
    shared -= endsInWord.exec(chosen.slice(Math.max(0, shared - LONGEST_WORD), shared))?.[0].length ?? 0;
  if (chosen[shared - 1] === ' ') shared--;
  return { prompt: chosen.slice(0, shared), chosen: chosen.slice(shared), rejected: rejected.slice(shared) };
}
