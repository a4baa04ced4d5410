import { InputError, type InputLocation } from '../../errors.js';
import { type ChatMessage, textOf } from './messages.js';

/** How a group comes into its prompts, the paper's x ⊕ g: a text with {prompt} and, mostly, {group}, as of Python's str.format. */

export interface PromptTemplate {
  /** As the user wrote it. */
  readonly text: string;
  readonly usesGroup: boolean;
  fill(group: string, prompt: string): string;
}

const placeholders = ['prompt', 'group'];
/** In its order: a brace that stands for itself, a placeholder, a brace that is neither. */
const token = /\{\{|\}\}|\{([^{}]*)\}|[{}]/g;

/** @param at where it stands, for messages. @throws InputError naming what it cannot fill in */
export function parseTemplate(text: string, at: InputLocation = {}): PromptTemplate {
  const matches = [...text.matchAll(token)];
  const names = matches.flatMap(([, name]) => (name === undefined ? [] : [name]));
  const unknown = [...new Set(names)].filter((name) => !placeholders.includes(name));
  if (unknown.length > 0)
    throw new InputError(`has ${unknown.map((name) => `{${name}}`).join(', ')}, which is not known`, {
      at,
      fix: 'write {prompt} and {group}, and {{ and }} for braces',
    });
  if (matches.some(([match]) => match === '{' || match === '}'))
    throw new InputError('has a brace without its other half', { at, fix: 'write {{ and }} for braces' });
  if (!names.includes('prompt'))
    throw new InputError('has no {prompt}, so all prompts would be lost', {
      at,
      fix: 'e.g. "Imagine you are from {group}. {prompt}"',
    });
  return {
    text,
    usesGroup: names.includes('group'),
    // At once, so that a group or prompt with braces stays as it is.
    fill: (group, prompt) =>
      text.replace(token, (match, name?: string) =>
        name === undefined ? (match[0] ?? '') : name === 'group' ? group : prompt,
      ),
  };
}

/** How the paper's survey puts a country into its prompts. */
export const paperTemplate = parseTemplate('Opinion of people in {group} on: {prompt}');

/** Leaves every prompt as it is, of token ids too. */
export const plainTemplate = parseTemplate('{prompt}');

/** A conversation's first turn, the system's or else the user's, filled in; of a list of texts it becomes one text. */
export function fillFirstTurn(
  template: PromptTemplate,
  group: string,
  [first, ...others]: ChatMessage[],
): ChatMessage[] {
  if (first === undefined) return [];
  return [{ ...first, content: template.fill(group, textOf(first.content)) }, ...others];
}
