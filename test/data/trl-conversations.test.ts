import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadPairs } from '../../src/data/pairs/dataset.js';
import type { ChatMessage } from '../../src/data/pairs/messages.js';
import { openTokenizer } from '../../src/data/text/tokenizer.js';
import { temporaryFolder } from '../temporary-folder.js';
import { generationFolder, generations } from './generations.js';
import { writeLines } from './helpers.js';

/** The tokens of a preference are those that TRL's own trainer makes of it, where PYTHON names an interpreter with TRL. */
const python = process.env.PYTHON ?? 'python3';
const hasTrl = spawnSync(python, ['-c', 'import trl']).status === 0;
if (!hasTrl) console.warn('TRL is not compared: set PYTHON to an interpreter with test/requirements.txt');

type Turns = string | ChatMessage[];
interface Case {
  prompt?: Turns;
  chosen: Turns;
  rejected: Turns;
}

const turn = (role: string, content: ChatMessage['content']): ChatMessage => ({ role, content });
const system = (content: ChatMessage['content']) => turn('system', content);
const user = (content: ChatMessage['content']) => turn('user', content);
const assistant = (content: ChatMessage['content']) => turn('assistant', content);
const parts = (...texts: string[]) => texts.map((text) => ({ type: 'text' as const, text }));

const cases: Record<string, Case> = {
  'one turn': {
    prompt: [user('What colour is the sky?')],
    chosen: [assistant('Blue.')],
    rejected: [assistant('日本 😀')],
  },
  'several turns': {
    prompt: [user('Q1'), assistant('A1\n\n\nand more'), user('Q2\t\tx'), assistant('A2'), user('Q3')],
    chosen: [assistant('"Yes", she said.')],
    rejected: [assistant('No\n')],
  },
  'a system turn': {
    prompt: [system('Be brief. '), user('Is it so?')],
    chosen: [assistant('Yes')],
    rejected: [assistant('No')],
  },
  'blanks around': {
    prompt: [user(' \n\t Is it so?\u00a0\u3000 \n')],
    chosen: [assistant('\n\n Yes. \n\n')],
    rejected: [assistant('  No ')],
  },
  'blanks that JavaScript and Python do not share': {
    prompt: [user('\ufeffIs it so?\u0085'), assistant('\u001c\u001dHm\u200b'), user('\u0085\u2028Well?\ufeff')],
    chosen: [assistant('\ufeffYes\u001f')],
    rejected: [assistant('\u0085 No \ufeff')],
  },
  'a list of one text': {
    prompt: [user(parts(' Is it so? '))],
    chosen: [assistant(parts('Yes'))],
    rejected: [assistant('No')],
  },
  'lists of several texts': {
    prompt: [user(parts('One, ', 'two')), assistant('Hm'), user(parts('three'))],
    chosen: [assistant(parts('Yes', ' or', ' no'))],
    rejected: [assistant(parts('No'))],
  },
  'a list in the system turn': {
    prompt: [system(parts('Be brief.')), user(parts('Is it so?'))],
    chosen: [assistant('Yes')],
    rejected: [assistant('No')],
  },
  'a common beginning': {
    chosen: [user('Q'), assistant('A'), user('R'), assistant('Yes')],
    rejected: [user('Q'), assistant('A'), user('R'), assistant('No')],
  },
  'a common beginning with a system turn': {
    chosen: [system('Be kind'), user(parts('Q')), assistant('Yes')],
    rejected: [system('Be kind'), user(parts('Q')), assistant('No')],
  },
  'turns of the user in a response': {
    prompt: [user('Q')],
    chosen: [assistant('A'), user('Really?'), assistant('Yes.')],
    rejected: [assistant('B')],
  },
  'an answer for "model"': { prompt: [user('Q')], chosen: [turn('model', 'A')], rejected: [turn('model', 'B')] },
  'plain text': { prompt: 'Is it so?\n', chosen: 'Yes', rejected: 'No, not\n\n\nat all ' },
  'plain text with its end': { prompt: 'Is it so?\n', chosen: 'Yes{eos}', rejected: 'No' },
  'turns by hand': {
    prompt: '<start_of_turn>user\nIs it so?<end_of_turn>\n<start_of_turn>model\n',
    chosen: 'Yes<end_of_turn>',
    rejected: 'No<end_of_turn>',
  },
};

const script = `
import json, sys, warnings
from types import SimpleNamespace
warnings.filterwarnings("ignore")
from datasets import IterableDataset, disable_progress_bars
from transformers import AutoTokenizer
from trl import DPOTrainer
disable_progress_bars()
args = SimpleNamespace(dataset_num_proc=None, max_length=None, truncation_mode="keep_start")
out = []
for folder in sys.argv[2:]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for case in json.load(open(sys.argv[1])):
        case = json.loads(json.dumps(case).replace("{eos}", tokenizer.eos_token))
        # Templates for text only would be given the notation of the list.
        reads_parts = "is string" in tokenizer.chat_template
        for turns in case.values():
            for turn in turns if isinstance(turns, list) and not reads_parts else []:
                if isinstance(turn["content"], list):
                    turn["content"] = "".join(part["text"] for part in turn["content"])
        try:
            trainer = SimpleNamespace(_tokenizer=tokenizer)
            # A Dataset would pickle the tokenizer for each row, and has no columns of texts and lists.
            rows = IterableDataset.from_generator(lambda: iter([case]))
            row = next(iter(DPOTrainer._prepare_dataset(trainer, rows, tokenizer, args, "train")))
            out.append([row["prompt_ids"], row["chosen_ids"], row["rejected_ids"]])
        except Exception as error:
            out.append(str(error))
print(json.dumps(out))
`;

describe.skipIf(!hasTrl)("TRL's tokens (skipped where Python lacks it)", { timeout: 240_000 }, () => {
  const folder = temporaryFolder();
  const made = generations().map((generation, i) => ({
    name: generation.name,
    at: generationFolder(join(folder, String(i)), generation),
  }));
  let answers: (number[][] | string)[] = [];
  it('can be asked for', () => {
    const file = join(folder, 'cases.json');
    writeFileSync(file, JSON.stringify(Object.values(cases)));
    const { stdout, stderr, status } = spawnSync(python, ['-c', script, file, ...made.map(({ at }) => at)], {
      encoding: 'utf8',
      maxBuffer: 2 ** 26,
      env: { ...process.env, HF_HUB_OFFLINE: '1' },
    });
    if (status !== 0) throw new Error(stderr);
    answers = JSON.parse(stdout.trim().split('\n').at(-1) ?? '');
  });

  describe.each(made.map((generation, i) => ({ ...generation, i })))('$name', ({ at, i }) => {
    const tokenizer = openTokenizer(at);
    it.each(Object.keys(cases).map((name, j) => [name, j] as const))('%s', async (name, j) => {
      const eos = tokenizer.decode([tokenizer.eos]);
      const pair = JSON.parse(JSON.stringify({ group: 'a', ...cases[name] }).replaceAll('{eos}', eos));
      const file = writeLines(folder, `${i}-${j}.jsonl`, [pair]);
      const answer = answers[i * Object.keys(cases).length + j];
      const loaded = loadPairs(file, { tokenizer: () => tokenizer });
      if (typeof answer === 'string') {
        // What the template refuses, it refuses there and here.
        expect([name, answer]).toEqual([expect.stringContaining('system'), 'System role not supported']);
        await expect(loaded).rejects.toThrow('System role not supported');
        return;
      }
      const { pairs } = await loaded;
      const { prompt, chosen, rejected } = pairs[0];
      expect([prompt, chosen, rejected].map((ids) => Array.from(ids))).toEqual(answer);
    });
  });
});
