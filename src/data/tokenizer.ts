import { existsSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Tokenizer } from '@huggingface/tokenizers';
import * as z from 'zod';
import { InputError, type InputLocation } from '../errors.js';
import { checked, readJson } from '../read-file.js';
import { type ChatTemplate, readChatTemplate } from './chat-template.js';
import { UnusablePair } from './pairs.js';
import { describe } from './row.js';

/** Text to token ids and back. BOS and EOS are never added here: {@link tokenisePair} does that, exactly once. */
export interface TextTokenizer {
  /** The file it was read from. */
  readonly file: string;
  /** One more than the highest id it can give. */
  readonly vocabulary: number;
  readonly bos: number;
  readonly eos: number;
  encode(text: string): number[];
  decode(ids: ArrayLike<number>): string;
  /** Its chat template. @throws InputError at `at`, the conversation that needs it, when it has none */
  chatTemplate(at: InputLocation): ChatTemplate;
}

/** Works from src/ and from dist/ alike: both lie beside the package's src/data. */
const TINY_TOKENIZER = fileURLToPath(new URL('../../src/data/tiny-tokenizer.json', import.meta.url));

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

interface TokenizerJson {
  model: { vocab: Record<string, number> };
  added_tokens?: { id: number; content: string }[];
}

function readTokenizer(file: string): TextTokenizer {
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
  const tokenizer = understood(() => new Tokenizer(json, config));

  const special = (field: 'bos_token' | 'eos_token', usual: string): { token: string; id: number } => {
    const named = config[field] as string | { content?: string } | null | undefined;
    const token = (typeof named === 'object' ? named?.content : named) ?? usual;
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
  return {
    file,
    vocabulary,
    bos: bos.id,
    eos: eos.id,
    encode: (text) => understood(() => tokenizer.encode(text, { add_special_tokens: false }).ids),
    decode: (ids) =>
      ids.length === 0
        ? ''
        : understood(() =>
            tokenizer.decode(Array.from(ids), { skip_special_tokens: false, clean_up_tokenization_spaces: false }),
          ),
    chatTemplate(at) {
      template ??= readChatTemplate(dirname(file), config, at, { bos_token: bos.token, eos_token: eos.token });
      return template;
    },
  };
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

/**
 * Tokenises a prompt and its responses.
 *
 * The prompt is always cut as it is when it stands alone, which is what the model sees when it answers, and what lets
 * all responses share it. A response is what follows the prompt's tokens in the joined text. Where the joined text has
 * a token across the boundary, the response is cut by itself instead, so that its tokens never hold prompt text; the
 * caller is told, since such a cut is one that text written in one piece would not have.
 *
 * @param at where the texts stand, for messages
 * @param ending `eos`: one EOS follows each response; `as-is`: they end as they are, where a chat template wrote their end
 * @throws InputError when a text holds a BOS or EOS token other than at its outer end, an {@link UnusablePair} when a
 * response has no tokens
 */
export function tokenisePair(
  tokenizer: TextTokenizer,
  texts: { prompt: string; chosen: string; rejected: string },
  at: InputLocation = {},
  ending: 'eos' | 'as-is' = 'eos',
): TokenisedText {
  const refuseSpecials = (ids: number[], field: string) => {
    for (const id of ids)
      if (id === tokenizer.bos || id === tokenizer.eos)
        throw new InputError(`has the token "${tokenizer.decode([id])}" inside its text`, {
          at: { ...at, field },
          fix: 'remove it: BOS and EOS are added for you',
        });
  };

  const prompt = tokenizer.encode(texts.prompt);
  const prefix = prompt[0] === tokenizer.bos ? prompt.slice(1) : prompt;
  refuseSpecials(prefix, 'prompt');

  let boundaryDiffers = false;
  const response = (field: 'chosen' | 'rejected'): Int32Array => {
    const joined = tokenizer.encode(texts.prompt + texts[field]);
    const agrees = prompt.every((id, i) => joined[i] === id);
    if (!agrees) boundaryDiffers = true;
    const ids = agrees ? joined.slice(prompt.length) : tokenizer.encode(texts[field]);
    const ended = ids[ids.length - 1] === tokenizer.eos;
    if (ended) ids.pop();
    refuseSpecials(ids, field);
    if (ids.length === 0) throw new UnusablePair('empty', 'is empty', { at: { ...at, field }, fix: 'mend it' });
    return Int32Array.from(ended || ending === 'eos' ? [...ids, tokenizer.eos] : ids);
  };
  const chosen = response('chosen');
  const rejected = response('rejected');
  return { prompt: Int32Array.from([tokenizer.bos, ...prefix]), chosen, rejected, boundaryDiffers };
}
