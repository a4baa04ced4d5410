import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { InputError, present } from '../../errors.js';
import { orderedRecord } from '../../files/ordered-record.js';
import { checked } from '../../files/read.js';
import { Random } from '../../numbers/random.js';
import { readGroups } from '../pairs/groups.js';
import { People } from '../pairs/people.js';
import { checkCharacters, nameOf, type Row } from '../tables/row.js';
import { readRows } from '../tables/rows.js';
import { splitIndices } from './opinion-pairs.js';

/**
 * PRISM (Kirk et al. 2024, arXiv 2404.16019): people of many countries who scored the answers of models in conversations. `survey.jsonl` has a
 * row for each person, `conversations.jsonl` one for each conversation, with all answers that were shown in each turn.
 */

export const prismFiles = { people: 'survey.jsonl', conversations: 'conversations.jsonl' } as const;

export interface PrismSettings {
  /** Fields of the people, whose values make the groups. */
  groupBy: readonly string[];
  /** Two answers whose scores, 1 to 100, differ by no more make no pair. */
  tie: number;
  /** Groups with fewer pairs are small. */
  minPairs: number;
  /** What becomes of small groups: one group of them all, or nothing. */
  small: 'pool' | 'drop';
  /** Whether each person counts the same within the group, however many pairs they made. */
  perPerson: boolean;
  /** Decides who is in which split. */
  seed: number;
}

const splits = ['train', 'validation', 'test'] as const;
type Split = (typeof splits)[number];

interface PrismPair {
  group: string;
  user_id: string;
  conversation_id: string;
  turn: number;
  prompt: Message[];
  chosen: Message[];
  rejected: Message[];
  weight?: number;
}

type Message = { role: 'user' | 'assistant'; content: string };

export interface PrismSummary {
  people: number;
  conversations: number;
  /** By group, in the order of their size. */
  groups: Record<string, { people: number; pairs: Record<Split, number> }>;
  /** Small groups and their pairs, and the group that has them; null where they were left out. */
  small: { groups: Record<string, number>; pooled: string | null };
  /** Two answers that make no pair: scores within the tie, equal texts, or an empty text in them or in their prompt. */
  left_out: { ties: number; equal: number; empty: number };
  settings: PrismSettings;
}

const turn = z.number().int().min(0);
const historySchema = z.object({
  conversation_history: z.array(
    z.discriminatedUnion('role', [
      z.looseObject({ turn, role: z.literal('user'), content: z.string() }),
      z.looseObject({
        turn,
        role: z.literal('model'),
        content: z.string(),
        score: z.number().min(0).max(100),
        if_chosen: z.boolean(),
      }),
    ]),
  ),
});
type Answer = { content: string; score: number; if_chosen: boolean };

/**
 * Pairs of PRISM, split 80/10/10 by person within each group, so that nobody is in two splits.
 * @param folder with both files
 * @throws InputError naming file, line and field
 */
export async function prismPairs(
  folder: string,
  settings: PrismSettings,
): Promise<{ pairs: Record<Split, PrismPair[]>; summary: PrismSummary }> {
  const { groupBy, minPairs, small, seed, perPerson } = settings;
  const people = await People.read({ file: join(folder, prismFiles.people), key: 'user_id' }, groupBy);
  const strange = groupBy.find((field) => !people.has(field));
  if (strange !== undefined)
    throw new InputError(`"${strange}" is no field of the people, by which alone splits can be`, {
      at: { field: '--group-by' },
      fix: `use ${people.names.filter((name) => name !== 'user_id').join(', ')}`,
    });
  const left_out = { ties: 0, equal: 0, empty: 0 };
  const byGroup = new Map<string, PrismPair[]>();
  let conversations = 0;
  const file = join(folder, prismFiles.conversations);
  for await (const row of people.known(readRows(file, ['user_id', 'conversation_id', 'conversation_history']))) {
    conversations++;
    const [group = '', ...others] = readGroups(row, { people }, groupBy);
    if (others.length > 0)
      throw new InputError('is a list, and pairs are made of one group each', {
        at: { ...row.at, field: groupBy.join(', ') },
        fix: 'group by another field',
      });
    const pairs = pairsOf(row, group, settings.tie, left_out);
    const ofGroup = byGroup.get(group) ?? [];
    byGroup.set(group, ofGroup);
    for (const pair of pairs) ofGroup.push(pair);
  }
  const smallGroups = [...byGroup].filter(([, pairs]) => pairs.length < minPairs || pairs.length === 0);
  for (const [name] of smallGroups) byGroup.delete(name);
  const pool = smallGroups.flatMap(([, pairs]) => pairs);
  const pooled = small === 'pool' && pool.length > 0 && pool.length >= minPairs ? poolName(byGroup) : null;
  if (pooled !== null)
    byGroup.set(
      pooled,
      pool.map((pair) => ({ ...pair, group: pooled })),
    );
  if (byGroup.size === 0)
    throw new InputError(`makes no group of ${Math.max(1, minPairs)} pairs or more`, {
      at: { file },
      fix: 'lower --min-pairs or --tie, or group by another field',
    });
  const groups = [...byGroup].sort(([, a], [, b]) => b.length - a.length);
  const summary: PrismSummary = {
    people: new Set(groups.flatMap(([, pairs]) => pairs.map(({ user_id }) => user_id))).size,
    conversations,
    groups: {},
    small: { groups: orderedRecord(smallGroups.map(([name, { length }]) => [name, length])), pooled },
    left_out,
    settings,
  };
  const made: Record<Split, PrismPair[]> = { train: [], validation: [], test: [] };
  const sizes = groups.map(([name, pairs]): [string, PrismSummary['groups'][string]] => {
    const byPerson = new Map<string, PrismPair[]>();
    for (const pair of pairs) {
      const own = byPerson.get(pair.user_id) ?? [];
      byPerson.set(pair.user_id, own);
      own.push(pair);
    }
    const persons = [...byPerson.values()];
    const counts = { train: 0, validation: 0, test: 0 };
    const chosen = splitIndices(persons.length, Random.stream(seed, 'prism', name));
    for (const split of splits)
      for (const index of chosen[split]) {
        const own = present(persons[index]);
        counts[split] += own.length;
        for (const pair of own) made[split].push(perPerson ? { ...pair, weight: 1 / own.length } : pair);
      }
    return [name, { people: persons.length, pairs: counts }];
  });
  summary.groups = orderedRecord(sizes);
  return { pairs: made, summary };
}

/** Every two answers of a turn whose scores differ by more than the tie, the higher first. */
function pairsOf(row: Row, group: string, tie: number, left: PrismSummary['left_out']): PrismPair[] {
  const at = { ...row.at, field: 'conversation_history' };
  const { conversation_history: history } = checked(historySchema, row.values, row.at);
  const ids = {
    user_id: present(nameOf(row.values.user_id)),
    conversation_id: nameOf(row.values.conversation_id) ?? '',
  };
  const turns = new Map<number, { asked: string[]; answers: Answer[] }>();
  for (const [i, message] of history.entries()) {
    checkCharacters(message.content, { ...row.at, field: `${at.field}[${i}].content` });
    const place = turns.get(message.turn) ?? { asked: [], answers: [] };
    turns.set(message.turn, place);
    if (message.role === 'user') place.asked.push(message.content);
    else place.answers.push(message as Answer);
  }
  const pairs: PrismPair[] = [];
  const before: Message[] = [];
  for (let number = 0; number < turns.size; number++) {
    const { asked = [], answers = [] } = turns.get(number) ?? {};
    if (asked.length !== 1)
      throw new InputError(`has ${asked.length} messages of the user in turn ${number}, not one`, { at });
    const prompt: Message[] = [...before, { role: 'user', content: present(asked[0]) }];
    const unasked = prompt.some(({ content }) => content.trim() === '');
    answers.forEach((one, i) => {
      for (const other of answers.slice(i + 1)) {
        const [chosen, rejected] = one.score >= other.score ? [one, other] : [other, one];
        if (chosen.score - rejected.score <= tie) left.ties++;
        else if (unasked || chosen.content.trim() === '' || rejected.content.trim() === '') left.empty++;
        else if (chosen.content === rejected.content) left.equal++;
        else
          pairs.push({
            group,
            ...ids,
            turn: number,
            prompt,
            chosen: [{ role: 'assistant', content: chosen.content }],
            rejected: [{ role: 'assistant', content: rejected.content }],
          });
      }
    });
    if (number === turns.size - 1) break;
    const gone = answers.filter(({ if_chosen }) => if_chosen);
    if (gone.length !== 1)
      throw new InputError(`goes on after turn ${number}, of which ${gone.length} answers are chosen, not one`, { at });
    before.push(present(prompt.at(-1)), { role: 'assistant', content: present(gone[0]).content });
  }
  return pairs;
}

/** A name that no group has. */
function poolName(groups: ReadonlyMap<string, unknown>): string {
  let name = 'other';
  while (groups.has(name)) name = `${name} (pooled)`;
  return name;
}

/** Writes train.jsonl, validation.jsonl, test.jsonl and summary.json. */
export function writePrism(folder: string, made: Awaited<ReturnType<typeof prismPairs>>): void {
  mkdirSync(folder, { recursive: true });
  for (const split of splits)
    writeFileSync(
      join(folder, `${split}.jsonl`),
      made.pairs[split].map((pair) => `${JSON.stringify(pair)}\n`).join(''),
    );
  writeFileSync(join(folder, 'summary.json'), `${JSON.stringify(made.summary, undefined, 2)}\n`);
}
