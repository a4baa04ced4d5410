import { InputError } from '../../errors.js';
import { listNames, shortName } from '../../terminal/names.js';
import { type RowLocation, rowNumber } from '../tables/row.js';
import { hasTurnMarks, refuseInTurn } from '../text/control-tokens.js';
import { jointTexts, type TextTokenizer, type TokenisedText, tokenisePair } from '../text/tokenizer.js';
import { groupColumns, groupText } from './groups.js';
import {
  type AskedQuestion,
  carriesShares,
  type OpinionQuestion,
  OpinionQuestions,
  questionTexts,
  readQuestion,
  readShares,
} from './opinion-questions.js';
import { PairStore } from './pair-store.js';
import { PairParser, type PreferenceRecord, type ReadPairsOptions, type UnusableKind, UnusablePair } from './pairs.js';
import { type Oddities, pairWarnings } from './warnings.js';

/**
 * One preference pair, ready for a model. Those of a file that was read have accessors for their parts, which `{ ...pair }` does not
 * copy.
 */
export interface TokenisedPair {
  /** `file:line`, of Parquet `file:row`, to name the pair in messages. */
  id: string;
  /** Index into {@link PairDataset.groups}; of a data set whose groups overlap into {@link PairDataset.cells}. */
  group: number;
  /** Starts with BOS where it was text. */
  prompt: Int32Array;
  /** Ends with EOS where it was text, and as the chat template has it where it was a conversation. */
  chosen: Int32Array;
  rejected: Int32Array;
  /** Weight within its group: ≥ 0, mean 1 over the group, or where groups overlap over all pairs. */
  weight: number;
  /** Soft label: the share of the group that prefers the chosen response, in [0, 1]. Absent: 1. */
  preference?: number;
}

/** Line or row of a pair that was read from a file. */
export function pairLine({ id }: Pick<TokenisedPair, 'id'>): number {
  return Number(id.slice(id.lastIndexOf(':') + 1));
}

export interface PairDataset {
  file: string;
  /** Names, in the order asked for, or of first appearance in the file. */
  groups: string[];
  /** In the order of the file. */
  pairs: TokenisedPair[];
  /** Pairs of each group; those of several groups count in each. */
  counts: number[];
  /**
   * Where some pairs are of several groups: the different sets of groups that pairs are of, ascending indices into `groups`; `pair.group` is
   * then the index of its set. Absent where groups do not overlap: {@link cellsOf} gives the sets of both.
   */
  cells?: readonly (readonly number[])[];
  /** The different questions of a survey that the pairs carry, in the order of the file; absent where none were looked for or there are none. */
  questions?: OpinionQuestion[];
  report: LoadReport;
}

/** The groups of each cell, which is what `pair.group` is an index of: where groups do not overlap the groups themselves. */
export function cellsOf({ groups, cells }: Pick<PairDataset, 'groups' | 'cells'>): readonly (readonly number[])[] {
  return cells ?? groups.map((_, g) => [g]);
}

export interface LoadReport {
  /** Pairs left out under `unusable: 'drop'`: an empty text, equal responses, too many tokens. */
  dropped: Record<UnusableKind, number>;
  /** Lines or rows whose text is cut otherwise at the prompt's end when prompt and response are tokenised together. */
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
  /** Told how much of the file has been read. */
  onBytes?: (bytes: number) => void;
  /** What to do with a pair that is too long, or has an empty text or equal responses. Default: error. */
  unusable?: 'error' | 'drop';
  /**
   * Read the questions of the survey that the pairs are made of, by their `shares`. `optional`: where the first pair carries one. Default:
   * other columns are ignored.
   */
  survey?: 'required' | 'optional';
}

/** Texts are tokenised so many records at a time, or fewer that have this many characters. */
const AT_ONCE = { records: 256, characters: 2 ** 20 };

/**
 * Reads and tokenises a pairs file: JSONL, CSV or Parquet, in one of TRL's layouts. Weights are scaled to mean 1 within each group, so that they say which pairs of a
 * group matter more and leave the importance of the group to the method; weight 0 takes a pair out of its group's mean
 * loss without changing the divisor of any other. Where groups overlap no scale does that for all of them: weights then have mean 1 over all
 * pairs, and the mean of a group is divided by the weights of its members.
 * @throws InputError naming file, line or row, and field
 */
export async function loadPairs(file: string, options: LoadPairsOptions = {}): Promise<PairDataset> {
  const groups = [...(options.groups ?? [])];
  const indices = new Map(groups.map((name, index) => [name, index]));
  /** By the groups of it. */
  const cells = new Map<string, Cell>();
  const store = new PairStore(file);
  const { pairs } = store;
  const report: LoadReport = {
    dropped: { empty: 0, degenerate: 0, tooLong: 0 },
    boundaryDiffers: { count: 0, firstLines: [] },
    warnings: [],
  };
  const parser = new PairParser({ ...options, columns: options.survey && ['shares', 'question'] });
  const survey = new OpinionQuestions();
  // Of an optional survey the first pair decides.
  let hasShares = options.survey === 'optional' ? undefined : options.survey === 'required';
  let tokenizer: TextTokenizer | undefined;
  const seen: Oddities = { repeatedPrompts: 0, markers: 0, othersTurns: 0, withoutBos: 0 };

  const indexOf = (name: string, at: RowLocation): number => {
    const known = indices.get(name);
    if (known !== undefined) return known;
    if (options.groups)
      throw new InputError(`"${shortName(name)}" is not one of the groups`, {
        at: { ...at, field: groupColumns(options.groupBy ?? ['group']).join(', ') },
        fix: `use ${listNames(options.groups)}`,
      });
    indices.set(name, groups.length);
    return groups.push(name) - 1;
  };
  const cellOf = (names: readonly string[], at: RowLocation): Cell => {
    const members = names.map((name) => indexOf(name, at)).sort((a, b) => a - b);
    const key = members.join();
    const cell = cells.get(key) ?? { index: cells.size, groups: members, count: 0, weight: 0 };
    cells.set(key, cell);
    return cell;
  };

  const add = ({ record, asked }: Waiting): void => {
    const cell = cellOf(record.groups, record.at);
    if (record.kind !== 'ids') tokenizer ??= openFor(record, options);
    const tokens = record.kind === 'ids' ? record : tokenise(record, tokenizer!, report);
    if (record.kind === 'text' && record.repeatsPrompt) seen.repeatedPrompts++;
    if (record.kind === 'text' && hasTurnMarks(tokenizer!, record)) seen.markers++;
    if (record.kind === 'chat' && hasOthersTurns(record)) seen.othersTurns++;
    if (record.kind === 'ids' && options.bos !== undefined && record.prompt[0] !== options.bos) seen.withoutBos++;
    if (tokenizer && options.vocabulary !== undefined)
      checkVocabulary(tokens, tokenizer, options.vocabulary, record.at);
    refuseUnusable(tokens, options.maxLength, record);
    if (asked && record.kind === 'text') {
      const [group, ...others] = cell.groups;
      if (others.length === 0)
        survey.add(record, group, asked, tokenizer!, (ofOptions) => {
          if (options.vocabulary !== undefined) checkVocabulary(ofOptions, tokenizer!, options.vocabulary, record.at);
          refuseUnusable(ofOptions, options.maxLength, record);
        });
      else if (options.survey === 'required') refuseShares(record);
      else if (hasShares) {
        hasShares = false;
        report.warnings.push(
          `${file}: the questions that pairs carry are not scored: shares are the answers of one group, and pairs are of several`,
        );
      }
    }
    cell.count++;
    cell.weight += record.weight;
    store.add(rowNumber(record.at), {
      group: cell.index,
      prompt: tokens.prompt,
      chosen: tokens.chosen,
      rejected: tokens.rejected,
      weight: record.weight,
      preference: record.preference,
    });
  };

  const orDrop = (action: () => void): void => {
    try {
      action();
    } catch (error) {
      if (options.unusable !== 'drop' || !(error instanceof UnusablePair)) throw error;
      report.dropped[error.kind]++;
    }
  };
  let waiting: Waiting[] = [];
  let characters = 0;
  const addWaiting = (): void => {
    const texts = waiting.flatMap(({ record, asked }) =>
      record.kind === 'text' ? [...jointTexts(record), ...(asked ? questionTexts(record, asked.shares) : [])] : [],
    );
    if (texts.length > 0) {
      tokenizer ??= openFor(waiting.find(({ record }) => record.kind === 'text')!.record, options);
      tokenizer.prepare?.(texts);
    }
    for (const one of waiting) orDrop(() => add(one));
    waiting = [];
    characters = 0;
  };
  try {
    for await (const row of parser.rows(file, options.onBytes)) {
      orDrop(() => {
        const record = parser.parse(row);
        hasShares ??= carriesShares(row, record);
        const asked = hasShares ? { question: readQuestion(row), shares: readShares(row, record) } : undefined;
        waiting.push({ record, asked });
        if (record.kind === 'text') characters += record.prompt.length + record.chosen.length + record.rejected.length;
      });
      if (waiting.length >= AT_ONCE.records || characters >= AT_ONCE.characters) addWaiting();
    }
  } finally {
    try {
      // Also where a row cannot be read: what is wrong with one before it comes first.
      addWaiting();
    } finally {
      tokenizer?.endPreparing?.();
    }
  }

  const { empty, degenerate, tooLong } = report.dropped;
  if (pairs.length === 0)
    throw new InputError(
      empty + degenerate + tooLong === 0
        ? 'holds no pair'
        : `holds no usable pair: ${empty} have an empty text, ${degenerate} equal responses, and ${tooLong} are too long`,
      { at: { file } },
    );
  const sets = [...cells.values()];
  // Of a cell whose pairs were all left out nothing remains.
  const overlap = sets.some((cell) => cell.count > 0 && cell.groups.length > 1);
  const ofGroup = (what: 'count' | 'weight') => sumsByGroup(sets, groups.length, what);
  const [counts, weights] = [ofGroup('count'), ofGroup('weight')];
  const weightless = groups.find((_, g) => counts[g] > 0 && weights[g] === 0);
  if (weightless !== undefined)
    throw new InputError(`all weights of group "${weightless}" are 0`, { at: { file, field: 'weight' } });
  const total = sets.reduce((sum, { weight }) => sum + weight, 0);
  for (const pair of pairs) {
    const cell = sets[pair.group];
    if (!overlap) pair.group = cell.groups[0];
    pair.weight *= overlap ? pairs.length / total : cell.count / cell.weight;
  }
  report.warnings.push(...pairWarnings(file, { groups, pairs, counts, report }, seen));
  return {
    file,
    groups,
    pairs,
    counts,
    ...(overlap && { cells: sets.map((cell) => cell.groups) }),
    report,
    ...(hasShares && { questions: survey.questions }),
  };
}

/** Pairs of the same groups. */
interface Cell {
  index: number;
  /** Ascending. */
  groups: readonly number[];
  /** Pairs, and the sum of their weights as given. */
  count: number;
  weight: number;
}

/** Of each group the sum over the cells that are of it. */
function sumsByGroup(cells: readonly Cell[], groupCount: number, what: 'count' | 'weight'): number[] {
  const sums = new Array<number>(groupCount).fill(0);
  for (const cell of cells) for (const group of cell.groups) sums[group] += cell[what];
  return sums;
}

/** A survey's shares are those of one group. */
function refuseShares({ groups, at }: PreferenceRecord): never {
  throw new InputError(`are the answers of one group, and the pair is of several (${listNames(groups)})`, {
    at: { ...at, field: 'shares' },
    fix: 'group by the columns whose groups were asked, without overlap',
  });
}

/** A pair that is read, and the shares that it carries. */
interface Waiting {
  record: PreferenceRecord;
  asked: AskedQuestion | undefined;
}

type ChatRecord = PreferenceRecord & { kind: 'chat' };
type Tokens = { prompt: Int32Array; chosen: Int32Array; rejected: Int32Array };

function openFor(record: Pick<PreferenceRecord, 'groups' | 'at'>, options: LoadPairsOptions): TextTokenizer {
  if (options.tokenizer) return options.tokenizer();
  throw new InputError(`is text, and there is no tokenizer to read it with (group "${groupText(record.groups)}")`, {
    at: { ...record.at, field: 'prompt' },
    fix: 'name a tokenizer, or give prompt_ids, chosen_ids and rejected_ids',
  });
}

function tokenise(
  record: PreferenceRecord & { kind: 'text' | 'chat' },
  tokenizer: TextTokenizer,
  report: LoadReport,
): Tokens {
  const tokens =
    record.kind === 'text' ? tokenisePair(tokenizer, record, record.at) : tokeniseConversation(tokenizer, record);
  if (tokens.boundaryDiffers) {
    report.boundaryDiffers.count++;
    if (report.boundaryDiffers.firstLines.length < 5) report.boundaryDiffers.firstLines.push(rowNumber(record.at));
  }
  return tokens;
}

/**
 * The prompt as the chat template ends it for the model to answer; a response is what the template then adds for the
 * answer's turns, its end-of-turn marker included and no EOS added, as TRL does it.
 */
function tokeniseConversation(tokenizer: TextTokenizer, record: ChatRecord): TokenisedText {
  const { at } = record;
  const template = tokenizer.chatTemplate(at);
  refuseControls(tokenizer, record);
  const prompt = template.render(record.prompt, true, { ...at, field: 'prompt' });
  const response = (field: 'chosen' | 'rejected'): string => {
    const whole = template.render([...record.prompt, ...record[field]], false, { ...at, field });
    if (whole.startsWith(prompt)) return whole.slice(prompt.length);
    throw new InputError('the chat template writes the prompt differently when an answer follows', {
      at: { ...at, field },
      fix: `begin with an assistant's turn, which answers the prompt's last turn`,
    });
  };
  const texts = { prompt, chosen: response('chosen'), rejected: response('rejected') };
  return tokenisePair(tokenizer, texts, at, 'template');
}

/** @throws InputError naming the turn as it stands in the file, where it holds a control token */
function refuseControls(tokenizer: TextTokenizer, { prompt, chosen, rejected, shared, at }: ChatRecord): void {
  const before = shared ? prompt.length : 0;
  for (const [field, turns, skipped] of [
    [shared ? 'chosen' : 'prompt', prompt, 0],
    ['chosen', chosen, before],
    ['rejected', rejected, before],
  ] as const)
    turns.forEach((turn, i) => {
      refuseInTurn(tokenizer, turn, at, `${field}[${i + skipped}]`);
    });
}

/** Whether a response goes on after the assistant's turn with one that is not the assistant's. */
function hasOthersTurns({ chosen, rejected }: ChatRecord): boolean {
  return [...chosen, ...rejected].some(({ role }) => role !== 'assistant' && role !== 'model');
}

/** @throws InputError naming the field and token that the model does not know */
export function checkVocabulary(
  tokens: Partial<Tokens>,
  tokenizer: TextTokenizer,
  vocabulary: number,
  at: RowLocation,
): void {
  for (const field of ['prompt', 'chosen', 'rejected'] as const)
    for (const id of tokens[field] ?? [])
      if (id >= vocabulary)
        throw new InputError(`"${tokenizer.decode([id])}" is token ${id}, but the model knows only ${vocabulary}`, {
          at: { ...at, field },
          fix: `use the model's own tokenizer (this one is ${tokenizer.file})`,
        });
}

/** @throws UnusablePair where nothing can be learnt from the pair */
function refuseUnusable(tokens: Tokens, maxLength: number | undefined, { kind, at }: PreferenceRecord): void {
  const suffix = kind === 'ids' ? '_ids' : '';
  if (tokens.chosen.length === tokens.rejected.length && tokens.chosen.every((id, i) => id === tokens.rejected[i]))
    throw new UnusablePair('degenerate', 'is the same as the chosen response, so the pair says nothing', {
      at: { ...at, field: `rejected${suffix}` },
      fix: 'remove the pair',
    });
  if (maxLength === undefined) return;
  for (const side of ['chosen', 'rejected'] as const) {
    const length = tokens.prompt.length + tokens[side].length;
    if (length > maxLength)
      throw new UnusablePair(
        'tooLong',
        `is too long: with its prompt it has ${length} tokens, and at most ${maxLength} are allowed`,
        {
          at: { ...at, field: side + suffix },
          fix: 'nothing is ever cut off: shorten it, raise the maximum length',
        },
      );
  }
}
