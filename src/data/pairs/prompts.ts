import { InputError } from '../../errors.js';
import { rowNumber } from '../tables/row.js';
import { hasTurnMarks, refuseInTurn } from '../text/control-tokens.js';
import { type TextTokenizer, tokenisePrompt } from '../text/tokenizer.js';
import { checkVocabulary, type LoadPairsOptions } from './dataset.js';
import { PairParser, type PromptRecord } from './pairs.js';

/** A prompt, ready for a model. */
export interface TokenisedPrompt {
  /** `file:line`, of Parquet `file:row`, to name the prompt in messages. */
  id: string;
  /** That line or row. */
  line: number;
  /** Names of its groups; [''] for none. */
  groups: readonly string[];
  /** What stands in the file. */
  kind: PromptRecord['kind'];
  /** Starts with BOS where it was text. */
  prompt: Int32Array;
}

export interface PromptDataset {
  prompts: TokenisedPrompt[];
  /** Things worth telling the user, in full sentences. */
  warnings: string[];
}

export type LoadPromptsOptions = Pick<
  LoadPairsOptions,
  'groupBy' | 'groupOptional' | 'people' | 'template' | 'vocabulary' | 'bos' | 'onBytes'
> & {
  tokenizer: () => TextTokenizer;
  /** Whether the rows are pairs, whose prompt may be what `chosen` and `rejected` begin with. */
  ofPairs?: boolean;
};

/**
 * Reads and tokenises a file of prompts: JSONL, CSV or Parquet with `prompt`, as text or a conversation, or `prompt_ids`. Other columns,
 * responses too, are not looked at, but where a pair has its prompt in them; prompts become the same tokens as those of pairs.
 * @throws InputError naming file, line or row, and field
 */
export async function loadPrompts(file: string, options: LoadPromptsOptions): Promise<PromptDataset> {
  const parser = new PairParser(options);
  const prompts: TokenisedPrompt[] = [];
  const seen = { markers: 0, withoutBos: 0 };
  for await (const row of parser.rows(file, options.onBytes)) {
    const record = parser.parsePrompt(row, options);
    const { kind, groups, at } = record;
    const line = rowNumber(at);
    prompts.push({ id: `${file}:${line}`, line, groups, kind, prompt: tokensOf(record, options) });
    if (record.kind === 'ids' && options.bos !== undefined && record.prompt[0] !== options.bos) seen.withoutBos++;
    if (record.kind === 'text' && hasTurnMarks(options.tokenizer(), { ...record, chosen: '', rejected: '' }))
      seen.markers++;
  }
  if (prompts.length === 0) throw new InputError('holds no prompt', { at: { file } });
  const warnings: string[] = [];
  if (seen.markers > 0)
    warnings.push(
      `${file}: ${seen.markers} prompts of plain text hold chat markers such as <start_of_turn>; text is used as given, no template is added`,
    );
  if (seen.withoutBos > 0)
    warnings.push(
      `${file}: BOS_MISSING in ${seen.withoutBos} prompts of token ids; Gemma was trained with it in front of every text and ` +
        'fails without it, but ids are used exactly as given',
    );
  return { prompts, warnings };
}

function tokensOf(record: PromptRecord, { tokenizer: open, vocabulary }: LoadPromptsOptions): Int32Array {
  if (record.kind === 'ids') return record.prompt;
  const { at } = record;
  const tokenizer = open();
  const prompt =
    record.kind === 'text' ? tokenisePrompt(tokenizer, record.prompt, at) : conversationTokens(tokenizer, record);
  if (vocabulary !== undefined) checkVocabulary({ prompt }, tokenizer, vocabulary, at);
  return prompt;
}

function conversationTokens(
  tokenizer: TextTokenizer,
  { prompt, shared, at }: PromptRecord & { kind: 'chat' },
): Int32Array {
  const template = tokenizer.chatTemplate(at);
  prompt.forEach((turn, i) => {
    refuseInTurn(tokenizer, turn, at, `${shared ? 'chosen' : 'prompt'}[${i}]`);
  });
  return tokenisePrompt(tokenizer, template.render(prompt, true, { ...at, field: 'prompt' }), at, 'template');
}
