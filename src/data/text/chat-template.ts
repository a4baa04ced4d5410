import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Template } from '@huggingface/jinja';
import { InputError, type InputLocation } from '../../errors.js';
import { readRegularText } from '../../files/read.js';
import { type ChatMessage, textOf } from '../pairs/messages.js';
import { describe } from '../tables/row.js';
import { strip, withPythonsBlanks } from './python-strip.js';

/** A tokenizer's chat template: how turns become the text a chat model was trained on. */
export interface ChatTemplate {
  /**
   * @param generate end with what comes before the model's next answer
   * @throws InputError with what the template refuses, such as a role it does not know, or where it leaves out a part of a text
   */
  render(messages: readonly ChatMessage[], generate: boolean, at: InputLocation): string;
}

/**
 * The template of a tokenizer folder: chat_template.jinja, or `chat_template` of tokenizer_config.json, where of several
 * the one named "default" holds.
 * @param at the conversation that needs it
 * @param variables what templates may use beside the messages: bos_token, eos_token, …
 * @throws InputError when there is none, or it is not Jinja
 */
export function readChatTemplate(
  folder: string,
  config: Record<string, unknown>,
  at: InputLocation,
  variables: Record<string, string>,
): ChatTemplate {
  const own = join(folder, 'chat_template.jinja');
  const file = existsSync(own) ? own : join(folder, 'tokenizer_config.json');
  const source = file === own ? readRegularText(own) : templateOf(config.chat_template);
  if (source === undefined)
    throw new InputError('is a conversation, and the tokenizer has no chat template', {
      at,
      fix: 'use the tokenizer of a chat model, such as google/gemma-2b-it, or write prompt, chosen and rejected as text',
    });
  let template: Template;
  try {
    template = new Template(source);
  } catch (cause) {
    throw new InputError(`the chat template cannot be read: ${(cause as Error).message}`, { at: { file }, cause });
  }
  const write = (messages: readonly unknown[], generate: boolean) =>
    withPythonsBlanks(() => template.render({ ...variables, messages, add_generation_prompt: generate }));
  const takesParts = readsParts((content) => write([{ role: 'user', content }], false));
  return {
    render(messages, generate, at) {
      let text: string;
      try {
        text = write(takesParts ? messages : messages.map(withText), generate);
      } catch (cause) {
        const reason = (cause as Error).message;
        throw new InputError(`the chat template refuses the conversation: ${reason}`, {
          at,
          cause,
          fix: /system/i.test(reason)
            ? "put the system message's text in front of the first user message: this model has no system role"
            : undefined,
        });
      }
      if (takesParts) refuseLeftOut(messages, text, at);
      return text;
    },
  };
}

/** Whether a template that writes text also writes a list of parts; those of text-only models would write its notation. */
function readsParts(write: (content: unknown) => string): boolean {
  try {
    return write([{ type: 'text', text: 'x' }]) === write('x');
  } catch {
    return false;
  }
}

function withText(message: ChatMessage): ChatMessage {
  return typeof message.content === 'string' ? message : { ...message, content: textOf(message.content) };
}

/** Gemma 3's template, for one, writes the first part only of a system turn. @throws InputError where a part is not there */
function refuseLeftOut(messages: readonly ChatMessage[], written: string, at: InputLocation): void {
  for (const { role, content } of messages) {
    if (typeof content === 'string') continue;
    const lost = content.find(({ text }) => !written.includes(strip(text)));
    if (lost)
      throw new InputError(`the chat template leaves out ${describe(lost.text)}, a part of the turn of "${role}"`, {
        at,
        fix: 'write that turn as one text',
      });
  }
}

function templateOf(value: unknown): string | undefined {
  if (typeof value === 'string') return value;
  if (!Array.isArray(value)) return undefined;
  const named = value.find((entry) => entry?.name === 'default');
  return typeof named?.template === 'string' ? named.template : undefined;
}
