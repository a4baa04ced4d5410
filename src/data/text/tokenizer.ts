import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { InputError, type InputLocation, present } from '../../errors.js';
import { UnusablePair } from '../pairs/pairs.js';
import type { ChatTemplate } from './chat-template.js';
import { refuseInText } from './control-tokens.js';
import { type Sharing, TokenizerClient } from './tokenizer-client.js';
import type { ControlToken, TokenizerFacts } from './tokenizer-process.js';

/** Text to token ids and back. BOS and EOS are never added here: {@link tokenisePair} does that, exactly once. */
export interface TextTokenizer {
  /** The file it was read from. */
  readonly file: string;
  /** One more than the highest id it can give. */
  readonly vocabulary: number;
  readonly bos: number;
  readonly eos: number;
  /** BOS, EOS and its other special tokens: what of a text is read as them steers the model. */
  readonly controls: readonly ControlToken[];
  encode(text: string): number[];
  /** Encodes many texts at once, which is faster, and keeps what came of them until the next time. */
  prepare?(texts: readonly string[]): void;
  /** Gives back what was taken for texts to prepare where they were many; to be called after the last. */
  endPreparing?(): void;
  decode(ids: ArrayLike<number>): string;
  /** Its chat template. @throws InputError at `at`, the conversation that needs it, when it has none */
  chatTemplate(at: InputLocation): ChatTemplate;
}

const TINY_TOKENIZER = fileURLToPath(new URL('./tiny-tokenizer.json', import.meta.url));

/**
 * The tokenizer of a model: `tokenizer.json` of its checkpoint folder, or the built-in tiny one (see tiny-tokenizer.py;
 * any text, without loss) for a `random:` model.
 * @param override a tokenizer.json, or a folder that holds one, to use instead
 * @throws InputError when it is missing or not a tokenizer; code `BOS_MISSING` when it has no BOS token
 */
export function openTokenizer(model: string, override?: string): TextTokenizer {
  if (override === undefined && model.startsWith('random:')) return readTokenizer(TINY_TOKENIZER);
  const path = override ?? model;
  if (!existsSync(path))
    throw new InputError('no such folder', {
      at: { file: path },
      fix: 'name a checkpoint folder that holds tokenizer.json, or give token ids instead of text',
    });
  const file = statSync(path).isDirectory() ? join(path, 'tokenizer.json') : path;
  if (!existsSync(file))
    throw new InputError('no such file', {
      at: { file },
      fix: "copy the model's tokenizer.json there, name another tokenizer, or give token ids instead of text",
    });
  return readTokenizer(file);
}

/** @param sharing of what is prepared, among processes */
export function readTokenizer(file: string, sharing?: Sharing): TextTokenizer {
  const client = new TokenizerClient(file, sharing);
  const facts = client.ask<TokenizerFacts>({ kind: 'open' });
  let prepared = new Map<string, number[]>();
  const template: ChatTemplate = {
    render: (messages, generate, at) => client.ask({ kind: 'render', messages, generate, at }),
  };
  let hasTemplate = false;
  return {
    file,
    ...facts,
    prepare(texts) {
      const ids = client.encodeShared(texts);
      prepared = new Map(texts.map((text, i) => [text, present(ids[i])]));
    },
    endPreparing() {
      client.endSharing();
    },
    encode: (text) =>
      prepared.get(text)?.slice() ?? present(client.ask<number[][]>({ kind: 'encode', texts: [text] })[0]),
    decode: (ids) => (ids.length === 0 ? '' : client.ask({ kind: 'decode', ids: Array.from(ids) })),
    chatTemplate(at) {
      if (!hasTemplate) client.ask({ kind: 'template', at });
      hasTemplate = true;
      return template;
    },
  };
}

/** Token ids of one prompt and its two responses. */
export interface TokenisedText {
  /** BOS, then the prompt. */
  prompt: Int32Array;
  /** The response, then EOS; without EOS where a chat template has closed it. */
  chosen: Int32Array;
  rejected: Int32Array;
  /** Whether tokenising prompt and response together would have cut the text elsewhere, in at least one response. */
  boundaryDiffers: boolean;
}

/** What {@link tokenisePair} encodes of a pair in any case. */
export function jointTexts({
  prompt,
  chosen,
  rejected,
}: {
  prompt: string;
  chosen: string;
  rejected: string;
}): string[] {
  return [prompt, prompt + chosen, prompt + rejected];
}

/** Tokenises a prompt that stands alone, as {@link tokenisePair} does. @throws InputError as that */
export function tokenisePrompt(
  tokenizer: TextTokenizer,
  prompt: string,
  at: InputLocation = {},
  writer: 'user' | 'template' = 'user',
): Int32Array {
  if (writer === 'user') refuseInText(tokenizer, { prompt, chosen: '', rejected: '' }, at);
  return withBos(tokenizer, tokenizer.encode(prompt));
}

function withBos({ bos }: TextTokenizer, prompt: readonly number[]): Int32Array {
  return Int32Array.from(prompt[0] === bos ? prompt : [bos, ...prompt]);
}

/**
 * Tokenises a prompt and its responses.
 *
 * The prompt is always cut as it is when it stands alone, which is what the model sees when it answers, and what lets
 * all responses share it. A response is what follows the prompt's tokens in the joined text. Where the joined text has
 * a token across the boundary, the response is cut by itself instead, so that its tokens never hold prompt text; the
 * caller is told, since such a cut is one that text written in one piece would not have.
 *
 * @param at where the texts stand, for messages
 * @param writer `user`: one EOS follows each response, and control tokens are refused as in {@link refuseInText}; `template`: a chat
 * template has written the texts, whose control tokens and end are as it has them
 * @throws InputError where a text of the user holds a control token, an {@link UnusablePair} when a response has no tokens
 */
export function tokenisePair(
  tokenizer: TextTokenizer,
  texts: { prompt: string; chosen: string; rejected: string },
  at: InputLocation = {},
  writer: 'user' | 'template' = 'user',
): TokenisedText {
  const byUser = writer === 'user';
  if (byUser) refuseInText(tokenizer, texts, at);
  const prompt = tokenizer.encode(texts.prompt);
  let boundaryDiffers = false;
  const response = (field: 'chosen' | 'rejected'): Int32Array => {
    const joined = tokenizer.encode(texts.prompt + texts[field]);
    const agrees = prompt.every((id, i) => joined[i] === id);
    if (!agrees) boundaryDiffers = true;
    const ids = agrees ? joined.slice(prompt.length) : tokenizer.encode(texts[field]);
    const ended = ids[ids.length - 1] === tokenizer.eos;
    if (ids.length === (ended && byUser ? 1 : 0))
      throw new UnusablePair('empty', 'is empty', { at: { ...at, field }, fix: 'correct it' });
    return Int32Array.from(byUser && !ended ? [...ids, tokenizer.eos] : ids);
  };
  const chosen = response('chosen');
  const rejected = response('rejected');
  return { prompt: withBos(tokenizer, prompt), chosen, rejected, boundaryDiffers };
}
