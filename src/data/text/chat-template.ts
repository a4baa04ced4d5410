import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Template } from '@huggingface/jinja';
import { InputError, type InputLocation } from '../../errors.js';
import { readRegularText } from '../../files/read.js';
import type { ChatMessage } from '../pairs/layouts.js';

/** A tokenizer's chat template: how turns become the text a chat model was trained on. */
export interface ChatTemplate {
  /**
   * @param generate end with what comes before the model's next answer
   * @throws InputError with what the template refuses, such as a role it does not know
   */
  render(messages: readonly ChatMessage[], generate: boolean, at: InputLocation): string;
}

/**
 * The template of a tokenizer folder: chat_template.jinja, or `chat_template` of tokenizer_config.json, where of several
 * the one named "default" holds.
 * @param at the conversation that needs it
 * @param variables what templates may use beside the messages: bos_token, eos_token
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
  return {
    render(messages, generate, at) {
      try {
        return template.render({ ...variables, messages, add_generation_prompt: generate });
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
    },
  };
}

function templateOf(value: unknown): string | undefined {
  if (typeof value === 'string') return value;
  if (!Array.isArray(value)) return undefined;
  const named = value.find((entry) => entry?.name === 'default');
  return typeof named?.template === 'string' ? named.template : undefined;
}
