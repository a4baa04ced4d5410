import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Tokenizer } from '@huggingface/tokenizers';
import * as z from 'zod';
import { InputError, type InputLocation } from '../../errors.js';
import { checked, readJson } from '../../files/read.js';
import { answerRequests } from '../../processes/bounded-child.js';
import type { ChatMessage } from '../pairs/messages.js';
import { describe } from '../tables/row.js';
import { type ChatTemplate, readChatTemplate } from './chat-template.js';

/** The program of a process of its own, see tokenizer-client.ts: it answers each {@link TokenizerRequest} with a {@link TokenizerReply}. */

export interface TokenizerRequest {
  /** The tokenizer, and the file that it is read from at the first request. */
  id: number;
  file: string;
  /** Tokenizers that are needed no longer. */
  close: readonly number[];
  call: TokenizerCall;
}

export type TokenizerCall =
  | { kind: 'open' }
  | { kind: 'encode'; texts: readonly string[] }
  | { kind: 'decode'; ids: readonly number[] }
  | { kind: 'template'; at: InputLocation }
  | { kind: 'render'; messages: readonly ChatMessage[]; generate: boolean; at: InputLocation };

export type TokenizerReply = { value: unknown } | { problem: string; at: InputLocation; fix?: string; code: string };

/** What a tokenizer says of itself. */
export interface TokenizerFacts {
  vocabulary: number;
  bos: number;
  eos: number;
  controls: readonly ControlToken[];
}

/** A token that steers the model, and that a text which has its name is cut into. */
export interface ControlToken {
  id: number;
  text: string;
}

interface OpenTokenizer extends TokenizerFacts {
  answer(call: TokenizerCall): unknown;
}

interface TokenizerJson {
  model: {
    vocab: Record<string, number>;
    type?: string;
    merges?: (string | readonly string[])[];
    ignore_merges?: boolean;
    end_of_word_suffix?: string | null;
    continuing_subword_suffix?: string | null;
  };
  pre_tokenizer?: object | null;
  added_tokens?: { id: number; content: string; special?: boolean }[];
}

function open(file: string): OpenTokenizer {
  const json = readJson(file) as TokenizerJson;
  const vocabulary = vocabularyOf(json, file);
  const configFile = join(dirname(file), 'tokenizer_config.json');
  const config = existsSync(configFile)
    ? checked(z.looseObject({}), readJson(configFile), { file: configFile })
    : ({} as Record<string, unknown>);
  /** The library finds some faults of the file only when it comes to use what is at fault. */
  const understood = <T>(use: () => T): T => {
    try {
      return use();
    } catch (cause) {
      const problem = `is not a tokenizer this program understands: ${(cause as Error).message}`;
      throw new InputError(problem, { at: { file }, cause });
    }
  };
  const tokenizer = understood(() => new Tokenizer(cutIntoWords(json), config));

  const named = namedTokens(config);
  const special = (field: 'bos_token' | 'eos_token', usual: string): { token: string; id: number } => {
    const token = named[field] ?? usual;
    const id = tokenizer.token_to_id(token);
    if (id !== undefined) return { token, id };
    throw new InputError(`has no token "${token}"`, {
      at: { file },
      code: field === 'bos_token' ? 'BOS_MISSING' : 'EOS_MISSING',
      fix: `name it as "${field}" in tokenizer_config.json: the model was trained with it and fails without`,
    });
  };
  const bos = special('bos_token', '<bos>');
  const eos = special('eos_token', '<eos>');
  let template: ChatTemplate | undefined;
  const chatTemplate = (at: InputLocation) => {
    template ??= readChatTemplate(dirname(file), config, at, {
      ...named,
      bos_token: bos.token,
      eos_token: eos.token,
    });
    return template;
  };
  const controls = new Map([bos, eos].map(({ token, id }) => [id, token]));
  // The unknown token stands for what cannot be read, and steers nothing; there are texts that hold its name.
  const unknown = named.unk_token ?? '<unk>';
  for (const { id, content, special } of json.added_tokens ?? [])
    if (special === true && content !== unknown) controls.set(id, content);
  const facts: TokenizerFacts = {
    vocabulary,
    bos: bos.id,
    eos: eos.id,
    controls: Array.from(controls, ([id, text]) => ({ id, text })),
  };
  return {
    ...facts,
    answer(call) {
      switch (call.kind) {
        case 'open':
          return facts;
        case 'encode':
          return understood(() => call.texts.map((text) => tokenizer.encode(text, { add_special_tokens: false }).ids));
        case 'decode':
          return understood(() =>
            tokenizer.decode([...call.ids], { skip_special_tokens: false, clean_up_tokenization_spaces: false }),
          );
        case 'template':
          chatTemplate(call.at);
          return null;
        case 'render':
          return chatTemplate(call.at).render(call.messages, call.generate, call.at);
      }
    },
  };
}

/**
 * The same tokenizer, several times as fast where it is Gemma's, which takes a whole text for one word: between two characters that no
 * merge joins a text can be cut, what comes before merged by itself, and words that the library has met before are in its cache. It
 * is cut in front of a word's ▁, which is a space.
 */
function cutIntoWords(json: TokenizerJson): TokenizerJson {
  const { type, merges, ignore_merges, end_of_word_suffix, continuing_subword_suffix } = json.model;
  if (type !== 'BPE' || ignore_merges || end_of_word_suffix || continuing_subword_suffix) return json;
  // Gemma 3 has one such merge, of "> </".
  const joined = new Set<string>();
  for (const merge of merges ?? []) {
    const token = typeof merge === 'string' ? merge.replace(' ', '') : merge.join('');
    for (const [, before = ''] of token.matchAll(/([^▁])▁/gu)) joined.add(before);
  }
  const uncut = Array.from(joined, (character) => `\\x{${character.codePointAt(0)!.toString(16)}}`).join('');
  const pattern = { Regex: `(?<=[^▁${uncut}])(?=▁)` };
  const words = { type: 'Split', pattern, behavior: 'Isolated', invert: false };
  const pretokenizers = json.pre_tokenizer ? [json.pre_tokenizer, words] : [words];
  return { ...json, pre_tokenizer: { type: 'Sequence', pretokenizers } };
}

/** The tokens that tokenizer_config.json has a name for: bos_token, eos_token, …, which templates may use. */
function namedTokens(config: Record<string, unknown>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(config).flatMap(([field, value]) => {
      const token = typeof value === 'object' ? (value as { content?: unknown } | null)?.content : value;
      return field.endsWith('_token') && typeof token === 'string' ? [[field, token]] : [];
    }),
  );
}

/** One more than the highest id. @throws InputError where an id is none */
function vocabularyOf(json: TokenizerJson, file: string): number {
  const { vocab } = json?.model ?? {};
  if (typeof vocab !== 'object' || vocab === null)
    throw new InputError('is not a Hugging Face tokenizer.json: it has no model.vocab', { at: { file } });
  let highest = 0;
  const count = (id: unknown, field: string) => {
    if (!Number.isInteger(id) || (id as number) < 0 || (id as number) >= 2 ** 31)
      throw new InputError(`expected a token id, found ${describe(id)}`, { at: { file, field } });
    highest = Math.max(highest, id as number);
  };
  for (const id of Object.values(vocab)) count(id, 'model.vocab');
  if (json.added_tokens != null && !Array.isArray(json.added_tokens))
    throw new InputError('expected a list', { at: { file, field: 'added_tokens' } });
  for (const token of json.added_tokens ?? []) count(token?.id, 'added_tokens');
  return highest + 1;
}

const opened = new Map<number, OpenTokenizer>();

function replyTo({ id, file, close, call }: TokenizerRequest): TokenizerReply {
  for (const closed of close) opened.delete(closed);
  try {
    const tokenizer = opened.get(id) ?? open(file);
    opened.set(id, tokenizer);
    return { value: tokenizer.answer(call) };
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    const { problem, location, fix, code } = error;
    return { problem, at: location, fix, code };
  }
}

answerRequests(replyTo);
