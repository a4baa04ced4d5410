import { InputError, type InputLocation } from '../../errors.js';
import type { ChatMessage } from '../pairs/messages.js';
import { strip } from './python-strip.js';
import type { ControlToken } from './tokenizer-process.js';

/**
 * Control tokens in what people wrote: `<eos>` or `<end_of_turn>` within a text is not read as these letters, it ends the text or turn
 * for the model. Whoever wants that writes turns, or ids.
 */

/** What is known of the tokenizer here. */
interface Controls {
  readonly bos: number;
  readonly eos: number;
  readonly controls: readonly ControlToken[];
}

/** Gemma's marks of a turn: a text that has them has its turns written by hand, which is allowed, and counted. */
const TURN_MARK = /<(start|end)_of_turn>/;

/** The token that ends a turn of Gemma's chat models, where there is one. */
export function endOfTurn({ controls }: Pick<Controls, 'controls'>): number[] {
  return controls.filter(({ text }) => text === '<end_of_turn>').map(({ id }) => id);
}

/**
 * Refuses control tokens in plain text, but for BOS that begins a prompt, EOS that ends a response, and marks of turns; within a
 * response EOS is refused even where it is one, since the model would end there.
 * @throws InputError
 */
export function refuseInText(
  { bos, eos, controls }: Controls,
  texts: { prompt: string; chosen: string; rejected: string },
  at: InputLocation,
): void {
  for (const field of ['prompt', 'chosen', 'rejected'] as const)
    for (const { id, text } of controls) {
      if (id === eos ? field === 'prompt' && TURN_MARK.test(text) : TURN_MARK.test(text)) continue;
      const first = texts[field].indexOf(text);
      if (first < 0) continue;
      const begins = id === bos && field === 'prompt' && texts[field].lastIndexOf(text) === 0;
      const ends = id === eos && field !== 'prompt' && first === texts[field].length - text.length;
      if (begins || ends) continue;
      throw new InputError(`has the token "${text}" inside its text`, {
        at: { ...at, field },
        fix:
          id === bos || id === eos
            ? 'remove it: BOS and EOS are added for you'
            : 'remove it, or write it in another way: the tokenizer would make a control token of it',
      });
    }
}

/** Whether turns are marked by hand in a plain text; the EOS that ends a response is no such mark. */
export function hasTurnMarks(
  { eos, controls }: Controls,
  { prompt, chosen, rejected }: { prompt: string; chosen: string; rejected: string },
): boolean {
  const end = controls.find(({ id }) => id === eos)?.text;
  const inner = (text: string) => (end !== undefined && text.endsWith(end) ? text.slice(0, -end.length) : text);
  return TURN_MARK.test(prompt) || TURN_MARK.test(inner(chosen)) || TURN_MARK.test(inner(rejected));
}

/**
 * Refuses any control token in what is written in a turn: the chat template writes those that belong there.
 * @param field of the turn, such as `chosen[1]`
 * @throws InputError
 */
export function refuseInTurn({ controls }: Controls, turn: ChatMessage, at: InputLocation, field: string): void {
  const refuse = (text: string, place: string): void => {
    const control = controls.find((token) => text.includes(token.text));
    if (control)
      throw new InputError(`has the token "${control.text}" inside its text`, {
        at: { ...at, field: place },
        fix: 'remove it, or write it in another way: the chat template marks turns, and the tokenizer would take this for such a mark',
      });
  };
  const refuseWithin = (value: unknown, place: string): void => {
    if (typeof value === 'string') refuse(value, place);
    else if (Array.isArray(value)) for (const [i, entry] of value.entries()) refuseWithin(entry, `${place}[${i}]`);
    else if (typeof value === 'object' && value !== null)
      for (const [key, entry] of Object.entries(value)) refuseWithin(entry, `${place}.${key}`);
  };
  refuseWithin(turn, field);
  if (typeof turn.content === 'string') return;
  // Templates write parts one after another, as they stand or without the blanks around them.
  const texts = turn.content.map(({ text }) => text);
  for (const joined of [texts.join(''), texts.map(strip).join('')]) refuse(joined, `${field}.content`);
}
