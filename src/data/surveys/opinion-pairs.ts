import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { InputError, present } from '../../errors.js';
import { orderedRecord } from '../../files/ordered-record.js';
import { Random } from '../../numbers/random.js';
import { listNames } from '../../terminal/names.js';
import { mostOptions, optionLetter } from '../pairs/opinion-questions.js';
import { type PromptTemplate, paperTemplate } from '../pairs/prompt-template.js';
import { nearMatches } from '../tables/near-matches.js';
import { isParquet } from '../tables/rows.js';
import { type BadRow, badRowText, opinionPrompt, type Survey, type SurveyQuestion } from './global-opinions.js';

/** Preference pairs of a survey: what is asked of the model, which answer wins, and which questions are kept for the test. */

/** A preference of a country, as a line of a pairs file. */
export interface OpinionPair {
  group: string;
  prompt: string;
  /** Letters. */
  chosen: string;
  rejected: string;
  /** Of those who chose one of the two, the share that chose `chosen`; absent where the label is hard. */
  preference?: number;
  /** Row of the survey it comes from. */
  row: number;
  /** Row in which this question, whatever its options, capitals and punctuation, is asked first. */
  question: number;
  /** The share of each option, which sum to 1; the options are the letters from A on. */
  shares: number[];
}

export type OpinionSplit = 'train' | 'validation' | 'test';
export const opinionSplits: readonly OpinionSplit[] = ['train', 'validation', 'test'];

/** See {@link OpinionOptions.pairs}. */
export type OpinionPairing = 'argmax' | 'all';

/** Countries that count as one group; each is asked in its own name. */
export interface CountryGroup {
  name: string;
  countries: readonly string[];
}

/** One of several parts of the questions, from 1. */
export interface Fold {
  number: number;
  of: number;
}

export interface OpinionOptions {
  /** Countries, exactly as in the file, or groups of them; their order is kept. */
  groups: readonly (string | CountryGroup)[];
  /** Decides the split and the losers. */
  seed: number;
  /**
   * The fold of questions that is tested; the next one is for validation, all others for training. Whatever the groups are, all pairs of
   * a question are in one split. Default: the paper's split, 80/10/10 within each group.
   */
  fold?: Fold;
  /**
   * `argmax`: one pair a question with a hard label, the most frequent answer against another (the default). `all`: every two options that
   * anyone chose, with the share that prefers each as a soft label.
   */
  pairs?: OpinionPairing;
  /** Up to four pairs a question, from the ranking of all options, instead of one; of `argmax`. */
  multiPair?: boolean;
  /** Leave bad rows out and count them, instead of refusing the file. */
  skipBadRows?: boolean;
  /** How the country comes into the prompt; decides nothing else. Default: {@link paperTemplate}. */
  template?: PromptTemplate;
}

/** Why a country's answers to a question give no pair. */
export type FilterReason = 'emptyQuestion' | 'emptyOptions' | 'emptySelections' | 'zeroSum' | 'singleOption';

export interface OpinionGroup {
  /** Readable answers: one for each row and each country of the group that it has. */
  rows: number;
  filtered: Record<FilterReason, number>;
  /** Rows replaced by a later one with the same question and options. */
  duplicates: number;
  /** Questions whose most frequent answer is shared by two options; the first counts as the winner. */
  tied: number;
  /** Different prompts in each split; all pairs of a prompt are in one split. */
  questions: Record<OpinionSplit, number>;
  pairs: Record<OpinionSplit, number>;
}

export interface OpinionSummary {
  source: { file: string; sha256: string; rows: number };
  seed: number;
  /** Absent where the split is the paper's. */
  fold?: Fold;
  pairs: OpinionPairing;
  multiPair: boolean;
  template: string;
  /** Rows left out because they cannot be read or contradict themselves. */
  badRows: BadRow[];
  groups: Record<string, OpinionGroup>;
  totals: { rows: number; filtered: number; duplicates: number; pairs: Record<OpinionSplit, number> };
  warnings: string[];
}

export interface OpinionPairs {
  splits: Record<OpinionSplit, OpinionPair[]>;
  summary: OpinionSummary;
}

/** A prompt of a group, with what makes its pairs. */
interface Asked {
  /** In the paper's words: pairs and splits depend on these alone. */
  prompt: string;
  /** In those of the template. */
  written: string;
  /** Equal for a question that other countries were asked too: the row in which it is asked first. */
  question: number;
  row: number;
  shares: number[];
}

/**
 * Preference pairs of some groups: winner is the most frequent answer, loser one of the others, uniformly. The loser of a question depends
 * on nothing but seed, country and question.
 * @throws InputError for an unknown country (with near matches), and for bad rows unless they are to be skipped
 */
export function opinionPairs(survey: Survey, options: OpinionOptions): OpinionPairs {
  const wanted = options.groups.map((group) =>
    typeof group === 'string' ? { name: group, countries: [group] } : group,
  );
  const countries = wanted.flatMap((group) => group.countries);
  const { template = paperTemplate, pairs: pairing = 'argmax' } = options;
  const badRows = [...survey.bad, ...contradictions(survey, countries)].sort((a, b) => a.line - b.line);
  if (badRows.length > 0 && !options.skipBadRows) refuse(survey.file, badRows);
  checkCountries(survey, countries);
  const badLines = new Set(badRows.map((bad) => bad.line));

  const good = survey.questions.filter((question) => !badLines.has(question.line));
  const firstRow = firstRows(survey);
  const counted = wanted.map((group) => ({ name: group.name, ...askedOf(good, group, template, firstRow) }));
  const splitOf = options.fold
    ? foldSplit(
        counted.flatMap(({ asked }) => asked),
        options.fold,
        options.seed,
      )
    : paperSplit(options.seed);

  const splits: OpinionPairs['splits'] = { train: [], validation: [], test: [] };
  const groups = new Map<string, OpinionGroup>();
  for (const { name, asked, counts } of counted) {
    groups.set(name, counts);
    const assigned = splitOf(name, asked);
    for (const split of opinionSplits)
      for (const { prompt, written, row, question, shares } of assigned[split]) {
        const random = Random.stream(options.seed, 'global-opinions', 'pairs', prompt);
        const hardPairs = options.multiPair ? rankedPairs : winnerAndLoser;
        const labelled: Labelled[] = pairing === 'all' ? softPairs(shares) : hardPairs(shares, random);
        for (const { winner, loser, preference } of labelled)
          splits[split].push({
            group: name,
            prompt: written,
            chosen: optionLetter(winner),
            rejected: optionLetter(loser),
            ...(preference !== undefined && { preference }),
            row,
            question,
            shares: normalised(shares),
          });
        counts.questions[split]++;
        counts.pairs[split] += labelled.length;
        if (shares.filter((share) => share === Math.max(...shares)).length > 1) counts.tied++;
      }
  }

  const all = [...groups.values()];
  const total = (count: (group: OpinionGroup) => number) => all.reduce((sum, group) => sum + count(group), 0);
  return {
    splits,
    summary: {
      source: { file: survey.file, sha256: survey.sha256, rows: survey.rows },
      seed: options.seed,
      ...(options.fold && { fold: options.fold }),
      pairs: pairing,
      multiPair: options.multiPair ?? false,
      template: template.text,
      badRows,
      groups: orderedRecord(groups),
      totals: {
        rows: total((group) => group.rows),
        filtered: total((group) => Object.values(group.filtered).reduce((sum, count) => sum + count, 0)),
        duplicates: total((group) => group.duplicates),
        pairs: { train: splits.train.length, validation: splits.validation.length, test: splits.test.length },
      },
      warnings: opinionSplits.flatMap((split) => {
        const lacking = [...groups].flatMap(([name, { pairs }]) => (pairs[split] === 0 ? [name] : []));
        return lacking.length > 0 ? [`no ${split} pair of group ${listNames(lacking)}`] : [];
      }),
    },
  };
}

/** What the countries of a group were asked, after the filters of the paper's code. */
function askedOf(
  questions: readonly SurveyQuestion[],
  { countries }: CountryGroup,
  template: PromptTemplate,
  firstRow: ReadonlyMap<number, number>,
): { asked: Asked[]; counts: OpinionGroup } {
  const counts: OpinionGroup = {
    rows: 0,
    filtered: { emptyQuestion: 0, emptyOptions: 0, emptySelections: 0, zeroSum: 0, singleOption: 0 },
    duplicates: 0,
    tied: 0,
    questions: { train: 0, validation: 0, test: 0 },
    pairs: { train: 0, validation: 0, test: 0 },
  };
  // Keyed by prompt, as in the paper's code: the last of several equal questions wins.
  const asked = new Map<string, Asked>();
  for (const country of countries)
    for (const question of questions) {
      const shares = question.selections.get(country);
      if (shares === undefined) continue;
      counts.rows++;
      const reason = filterReason(question, shares);
      if (reason) {
        counts.filtered[reason]++;
        continue;
      }
      const prompt = opinionPrompt(country, question.question, question.options);
      if (asked.has(prompt)) counts.duplicates++;
      const written = opinionPrompt(country, question.question, question.options, template);
      asked.set(prompt, { prompt, written, question: present(firstRow.get(question.row)), row: question.row, shares });
    }
  return { asked: [...asked.values()], counts };
}

/** By row, the row in which the same question is asked first; capitals, punctuation and blanks are no difference. */
function firstRows({ questions }: Survey): Map<number, number> {
  const first = new Map<string, number>();
  return new Map(
    questions.map(({ row, question }) => {
      const words = question
        .normalize('NFKC')
        .toLowerCase()
        .match(/[\p{L}\p{N}]+/gu) ?? [question];
      const key = words.join(' ');
      if (!first.has(key)) first.set(key, row);
      return [row, first.get(key) ?? row];
    }),
  );
}

type Split = (group: string, asked: readonly Asked[]) => Record<OpinionSplit, readonly Asked[]>;

/** 80/10/10 of each group's prompts, drawn for each group by itself: a question may be in the training set of one and the test of another. */
function paperSplit(seed: number): Split {
  return (group, asked) => {
    const indices = splitIndices(asked.length, Random.stream(seed, 'global-opinions', 'split', group));
    const at = (split: OpinionSplit) => indices[split].map((index) => present(asked[index]));
    return { train: at('train'), validation: at('validation'), test: at('test') };
  };
}

/** Whole questions, those of all groups together: over all folds each question is tested once, and never seen in training meanwhile. */
function foldSplit(asked: readonly Asked[], { number, of }: Fold, seed: number): Split {
  const questions = [...new Set(asked.map(({ question }) => question))];
  const order = Random.stream(seed, 'global-opinions', 'folds').shuffle(questions);
  const folds = new Map(order.map((question, i) => [question, i % of]));
  const splits = new Map<number | undefined, OpinionSplit>([
    [number - 1, 'test'],
    [number % of, 'validation'],
  ]);
  return (_, ofGroup) => {
    const split = (asked: Asked) => splits.get(folds.get(asked.question)) ?? 'train';
    const at = (wanted: OpinionSplit) => ofGroup.filter((asked) => split(asked) === wanted);
    return { train: at('train'), validation: at('validation'), test: at('test') };
  };
}

function normalised(shares: readonly number[]): number[] {
  const sum = shares.reduce((total, share) => total + share, 0);
  return shares.map((share) => share / sum);
}

/** Writes train.jsonl, validation.jsonl, test.jsonl and summary.json into a folder. */
export function writeOpinionPairs(folder: string, { splits, summary }: OpinionPairs): void {
  for (const split of opinionSplits)
    writeFileSync(join(folder, `${split}.jsonl`), splits[split].map((pair) => `${JSON.stringify(pair)}\n`).join(''));
  writeFileSync(join(folder, 'summary.json'), `${JSON.stringify(summary, null, 2)}\n`);
}

function checkCountries(survey: Survey, countries: readonly string[]): void {
  const known = new Set(survey.questions.flatMap((question) => [...question.selections.keys()]));
  countries.forEach((country, i) => {
    if (countries.indexOf(country) < i)
      throw new InputError(`"${country}" is named twice`, { at: { field: '--groups' } });
    if (known.has(country)) return;
    const near = nearMatches(country, [...known]);
    throw new InputError(`"${country}" is not a country of ${survey.file}`, {
      at: { field: '--groups' },
      fix:
        near.length > 0
          ? `did you mean ${near.map((name) => `"${name}"`).join(' or ')}?`
          : `it has ${[...known].sort().slice(0, 8).join(', ')}, … (${known.size} in all)`,
    });
  });
}

/** Rows whose answers of a wanted country cannot be right. */
function contradictions(survey: Survey, countries: readonly string[]): BadRow[] {
  return survey.questions.flatMap(({ line, options, selections }) => {
    if (options.length > mostOptions)
      return [{ line, field: 'options', problem: `${options.length} options, more than there are letters` }];
    for (const country of countries) {
      const shares = selections.get(country) ?? [];
      const bad = shares.find((share) => !(Number.isFinite(share) && share >= 0));
      if (bad !== undefined)
        return [{ line, field: 'selections', problem: `the share ${bad} of "${country}" is not a number ≥ 0` }];
      if (shares.length > 0 && options.length > 0 && shares.length !== options.length)
        return [
          { line, field: 'selections', problem: `${shares.length} shares of "${country}", ${options.length} options` },
        ];
    }
    return [];
  });
}

function refuse(file: string, bad: BadRow[]): never {
  const first = present(bad[0]);
  const others = bad.slice(1, 11).map((row) => `\n  ${badRowText(row)}`);
  const more = bad.length > 11 ? `\n  … and ${bad.length - 11} more` : '';
  throw new InputError(
    `${first.problem}${bad.length > 1 ? `\n${bad.length} bad rows in all; the others:${others.join('')}${more}` : ''}`,
    {
      at: { file, [isParquet(file) ? 'row' : 'line']: first.line, field: first.field },
      fix: 'correct the rows, or leave them out with --skip-bad-rows of `group-robust data global-opinions`',
    },
  );
}

/** The row filters of the paper's code; one option gives no pair. */
function filterReason(question: SurveyQuestion, shares: number[]): FilterReason | undefined {
  if (question.question.trim() === '') return 'emptyQuestion';
  if (question.options.length === 0) return 'emptyOptions';
  if (shares.length === 0) return 'emptySelections';
  if (!(shares.reduce((sum, share) => sum + share, 0) > 0)) return 'zeroSum';
  return question.options.length === 1 ? 'singleOption' : undefined;
}

/** Two options, and the soft label of the first where it has one. */
interface Labelled {
  winner: number;
  loser: number;
  preference?: number;
}

function winnerAndLoser(shares: number[], random: Random): Labelled[] {
  const winner = shares.indexOf(Math.max(...shares));
  const loser = random.integer(shares.length - 1);
  return [{ winner, loser: loser < winner ? loser : loser + 1 }];
}

/** Four of the pairs that a ranking by share gives, or all where there are fewer. */
function rankedPairs(shares: number[], random: Random): Labelled[] {
  return random.shuffle(ranked(shares)).slice(0, 4);
}

/** All pairs, the winner being what more people chose; of two options that nobody chose none prefers either. */
function softPairs(shares: readonly number[]): Labelled[] {
  return ranked(shares).flatMap(({ winner, loser }) => {
    const [won, lost] = [present(shares[winner]), present(shares[loser])];
    return won + lost > 0 ? [{ winner, loser, preference: won / (won + lost) }] : [];
  });
}

/** Every two options, the more frequent one first; options of equal share rank in their order. */
function ranked(shares: readonly number[]): Labelled[] {
  const ranking = [...shares.entries()].sort(([, a], [, b]) => b - a).map(([option]) => option);
  return ranking.flatMap((winner, i) => ranking.slice(i + 1).map((loser) => ({ winner, loser })));
}

/** 80 % train; of the rest half test and half validation, with pandas' rounding (half to even). Indices ascend. */
export function splitIndices(count: number, random: Random): Record<OpinionSplit, number[]> {
  const order = random.shuffle(Array.from({ length: count }, (_, i) => i));
  const train = roundHalfToEven((4 * count) / 5);
  const test = roundHalfToEven((count - train) / 2);
  const ascending = (indices: number[]) => indices.sort((a, b) => a - b);
  return {
    train: ascending(order.slice(0, train)),
    test: ascending(order.slice(train, train + test)),
    validation: ascending(order.slice(train + test)),
  };
}

function roundHalfToEven(value: number): number {
  const floor = Math.floor(value);
  return value - floor === 0.5 ? floor + (floor % 2) : Math.round(value);
}
