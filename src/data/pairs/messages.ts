import { InputError } from '../../errors.js';
import { checkCharacters, describe, type RowLocation } from '../tables/row.js';

/** Turns of a conversation as they stand in a file. */

/** One turn. Further keys, such as tool_calls, are handed to the chat template as they are. */
export interface ChatMessage {
  role: string;
  content: string | TextPart[];
  [key: string]: unknown;
}

/** A part of a turn, as models that also see images have them; here all are text. */
export interface TextPart {
  type: 'text';
  text: string;
  [key: string]: unknown;
}

/** Whether a value is a list of turns, well formed or not. */
export function isConversation(value: unknown): value is unknown[] {
  return (
    Array.isArray(value) &&
    value.length > 0 &&
    value.every((turn) => typeof turn === 'object' && turn !== null && 'role' in turn)
  );
}

/** Checks a conversation. Keys without a value, which Parquet fills in, are dropped. @throws InputError */
export function readConversation(value: unknown, at: RowLocation, field: string): ChatMessage[] {
  if (!isConversation(value))
    throw new InputError(`expected a list of messages with role and content, found ${describe(value)}`, {
      at: { ...at, field },
    });
  return value.map((turn, i) => {
    const message = withoutNulls(turn as object);
    const place = `${field}[${i}]`;
    return {
      ...message,
      role: readString(message.role, at, `${place}.role`),
      content: Array.isArray(message.content)
        ? readParts(message.content, at, `${place}.content`)
        : readString(message.content, at, `${place}.content`, 'text or a list of parts'),
    };
  });
}

function readParts(parts: unknown[], at: RowLocation, field: string): TextPart[] {
  if (parts.length === 0) throw new InputError('expected text, found an empty list', { at: { ...at, field } });
  return parts.map((value, i) => {
    const place = `${field}[${i}]`;
    if (typeof value !== 'object' || value === null || !('type' in value))
      throw new InputError(`expected {"type": "text", "text": …}, found ${describe(value)}`, {
        at: { ...at, field: place },
      });
    const part = withoutNulls(value);
    if (part.type !== 'text')
      throw new InputError(`is of type ${describe(part.type)}, and only text can be read`, {
        at: { ...at, field: place },
        fix: 'leave out the pairs with images and the like, or these parts of them',
      });
    return { ...part, type: 'text', text: readString(part.text, at, `${place}.text`) };
  });
}

function withoutNulls(value: object): Record<string, unknown> {
  return Object.fromEntries(Object.entries(value).filter(([, part]) => part != null));
}

function readString(value: unknown, at: RowLocation, field: string, expected = 'text'): string {
  if (typeof value !== 'string')
    throw new InputError(`expected ${expected}, found ${describe(value)}`, { at: { ...at, field } });
  checkCharacters(value, { ...at, field });
  return value;
}

/** The text of a turn; of a list of parts all of it, as it stands. */
export function textOf(content: ChatMessage['content']): string {
  return typeof content === 'string' ? content : content.map(({ text }) => text).join('');
}
