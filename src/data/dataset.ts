import { InputError } from '../errors.js';
import { type PreferenceRecord, type ReadPairsOptions, readPairs } from './pairs.js';
import { type TextTokenizer, tokenisePair } from './tokenizer.js';

/** One preference pair, ready for a model. */
export interface TokenisedPair {
  /** `file:line`, to name the pair in messages. */
  id: string;
  /** Index into {@link PairDataset.groups}. */
  group: number;
  /** Starts with BOS where it was text. */
  prompt: Int32Array;
  /** Ends with EOS where it was text. */
  chosen: Int32Array;
  rejected: Int32Array;
  /** Weight within its group: ≥ 0, mean 1 over the group. */
  weight: number;
}

export interface PairDataset {
  file: string;
  /** Names, in the order asked for, or of first appearance in the file. */
  groups: string[];
  /** In the order of the file. */
  pairs: TokenisedPair[];
  /** Pairs of each group. */
  counts: number[];
  report: LoadReport;
}

export interface LoadReport {
  /** Pairs left out under `unusable: 'drop'`. */
  dropped: { degenerate: number; tooLong: number };
  /** Lines whose text is cut otherwise at the prompt's end when prompt and response are tokenised together. */
  boundaryDiffers: { count: number; firstLines: number[] };
  /** Things worth telling the user, in full sentences. */
  warnings: string[];
}

export interface LoadPairsOptions extends ReadPairsOptions {
  /** Called at the first record that is text; a file of token ids needs none. */
  tokenizer?: () => TextTokenizer;
  /** Names and order of the groups (those of the training set, for an evaluation set); another name is an error. */
  groups?: readonly string[];
  /** Most tokens of prompt and response together, BOS and EOS counted. Nothing is ever cut. */
  maxLength?: number;
  /** Id that prompts of token ids should start with; a warning tells how many do not. Absent: not checked. */
  bos?: number;
  /** What to do with a pair that is too long or whose responses are equal. Default: error. */
  unusable?: 'error' | 'drop';
}

/** Chat markers of Gemma's instruction-tuned models. */
const CHAT_MARKER = /<(start|end)_of_turn>/;

/**
 * Reads and tokenises a pairs file. Weights are scaled to mean 1 within each group, so that they say which pairs of a
 * group matter more and leave the importance of the group to the method; weight 0 takes a pair out of its group's mean
 * loss without changing the divisor of any other.
 * @throws InputError naming file, line and field
 */
export async function loadPairs(file: string, options: LoadPairsOptions = {}): Promise<PairDataset> {
  const groups = [...(options.groups ?? [])];
  const indices = new Map(groups.map((name, index) => [name, index]));
  const counts = groups.map(() => 0);
  const weightSums = groups.map(() => 0);
  const pairs: TokenisedPair[] = [];
  const report: LoadReport = {
    dropped: { degenerate: 0, tooLong: 0 },
    boundaryDiffers: { count: 0, firstLines: [] },
    warnings: [],
  };
  let tokenizer: TextTokenizer | undefined;
  let markers = 0;
  let withoutBos = 0;

  for await (const record of readPairs(file, options)) {
    const at = { file, line: record.line };
    let group = indices.get(record.group);
    if (group === undefined) {
      if (options.groups)
        throw new InputError(`"${record.group}" is not one of the groups`, {
          at: { ...at, field: 'group' },
          fix: `use ${options.groups.map((name) => `"${name}"`).join(', ')}`,
        });
      group = groups.push(record.group) - 1;
      indices.set(record.group, group);
      counts.push(0);
      weightSums.push(0);
    }
    if (record.kind === 'text') {
      tokenizer ??= openFor(record, options, at);
      if (CHAT_MARKER.test(record.prompt)) markers++;
    }
    const tokens = record.kind === 'text' ? tokenise(record, tokenizer!, at, report) : record;
    if (record.kind === 'ids' && options.bos !== undefined && record.prompt[0] !== options.bos) withoutBos++;
    if (tokenizer && options.vocabulary !== undefined) checkVocabulary(tokens, tokenizer, options.vocabulary, at);

    const unusable = findFault(tokens, options.maxLength, record.kind);
    if (unusable && options.unusable !== 'drop')
      throw new InputError(unusable.problem, { at: { ...at, field: unusable.field }, fix: unusable.fix });
    if (unusable) {
      report.dropped[unusable.kind]++;
      continue;
    }
    counts[group]++;
    weightSums[group] += record.weight;
    pairs.push({
      id: `${file}:${record.line}`,
      group,
      prompt: tokens.prompt,
      chosen: tokens.chosen,
      rejected: tokens.rejected,
      weight: record.weight,
    });
  }

  if (pairs.length === 0) throw new InputError('holds no usable pair', { at: { file } });
  for (const pair of pairs) {
    if (weightSums[pair.group] === 0)
      throw new InputError(`all weights of group "${groups[pair.group]}" are 0`, { at: { file, field: 'weight' } });
    pair.weight *= counts[pair.group] / weightSums[pair.group];
  }
  warn(file, groups, counts, report, { markers, withoutBos });
  return { file, groups, pairs, counts, report };
}

type Location = { file: string; line: number };
type Tokens = { prompt: Int32Array; chosen: Int32Array; rejected: Int32Array };

function openFor(record: PreferenceRecord, options: LoadPairsOptions, at: Location): TextTokenizer {
  if (options.tokenizer) return options.tokenizer();
  throw new InputError(`is text, and there is no tokenizer to read it with (group "${record.group}")`, {
    at: { ...at, field: 'prompt' },
    fix: 'name a tokenizer, or give prompt_ids, chosen_ids and rejected_ids',
  });
}

function tokenise(
  record: PreferenceRecord & { kind: 'text' },
  tokenizer: TextTokenizer,
  at: Location,
  report: LoadReport,
): Tokens {
  const tokens = tokenisePair(tokenizer, record, at);
  if (tokens.boundaryDiffers) {
    report.boundaryDiffers.count++;
    if (report.boundaryDiffers.firstLines.length < 5) report.boundaryDiffers.firstLines.push(record.line);
  }
  return tokens;
}

function checkVocabulary(tokens: Tokens, tokenizer: TextTokenizer, vocabulary: number, at: Location): void {
  for (const field of ['prompt', 'chosen', 'rejected'] as const)
    for (const id of tokens[field])
      if (id >= vocabulary)
        throw new InputError(`"${tokenizer.decode([id])}" is token ${id}, but the model knows only ${vocabulary}`, {
          at: { ...at, field },
          fix: `use the model's own tokenizer (this one is ${tokenizer.file})`,
        });
}

/** Why a pair cannot be learnt from, if it cannot. */
function findFault(tokens: Tokens, maxLength: number | undefined, kind: PreferenceRecord['kind']) {
  const suffix = kind === 'ids' ? '_ids' : '';
  if (tokens.chosen.length === tokens.rejected.length && tokens.chosen.every((id, i) => id === tokens.rejected[i]))
    return {
      kind: 'degenerate' as const,
      field: `rejected${suffix}`,
      problem: 'is the same as the chosen response, so the pair says nothing',
      fix: 'remove the pair',
    };
  if (maxLength === undefined) return undefined;
  for (const side of ['chosen', 'rejected'] as const) {
    const length = tokens.prompt.length + tokens[side].length;
    if (length > maxLength)
      return {
        kind: 'tooLong' as const,
        field: side + suffix,
        problem: `is too long: with its prompt ${length} tokens, and the longest allowed is ${maxLength}`,
        fix: 'shorten it, or raise the longest length; nothing is ever cut off',
      };
  }
  return undefined;
}

function warn(
  file: string,
  groups: string[],
  counts: number[],
  report: LoadReport,
  { markers, withoutBos }: { markers: number; withoutBos: number },
): void {
  const { warnings, dropped, boundaryDiffers } = report;
  if (dropped.degenerate + dropped.tooLong > 0)
    warnings.push(
      `${file}: left out ${dropped.degenerate} pairs with equal responses and ${dropped.tooLong} that are too long`,
    );
  if (boundaryDiffers.count > 0)
    warnings.push(
      `${file}: in ${boundaryDiffers.count} pairs (first on line ${boundaryDiffers.firstLines.join(', ')}) the text ` +
        'would be cut into other tokens where prompt and response meet if they were one text; the prompt was cut as it ' +
        'stands alone. Ending prompts with a line break or starting responses with a space avoids this.',
    );
  if (markers > 0)
    warnings.push(
      `${file}: ${markers} prompts hold chat markers such as <start_of_turn>; prompts are used as given, no template is added`,
    );
  if (withoutBos > 0)
    warnings.push(
      `${file}: BOS_MISSING in ${withoutBos} prompts of token ids; Gemma was trained with it in front of every text and ` +
        'fails without, but ids are used exactly as given',
    );
  groups.forEach((name, group) => {
    if (counts[group] === 0) warnings.push(`${file}: no pair of group "${name}"`);
  });
}
