import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadNative } from '../../src/native/load.js';
import { GemmaPolicy } from '../../src/policy/gemma.js';
import { type Answer, type AnswerSettings, drawAnswers } from '../../src/sample/answers.js';
import { fixture, packedBatch } from '../policy/gemma-helpers.js';
import { askTransformers, hasTransformers } from '../policy/transformers.js';

const vocabulary = 6;
let policy: GemmaPolicy;
beforeAll(async () => {
  policy = await GemmaPolicy.open(`random:tiny?layers=1&vocab=${vocabulary}`, { threads: 1 });
});
afterAll(() => policy.dispose());

const settings: AnswerSettings = {
  temperature: 1,
  topP: 1,
  count: 3,
  seed: 7,
  maxTokens: 9,
  batch: 16,
};
const prompts = [[2, 5, 3], [2], [2, 4, 4, 0, 5]].map((ids, i) => ({
  id: `p:${i + 1}`,
  line: i + 1,
  prompt: Int32Array.from(ids),
  stops: new Set([1]),
}));

async function draw(some = prompts, changes: Partial<AnswerSettings> = {}): Promise<Answer[]> {
  const answers: Answer[] = [];
  for await (const answer of drawAnswers(policy, some, { ...settings, ...changes })) answers.push(answer);
  return answers;
}

describe('answers', () => {
  it('have the probabilities of the model', async () => {
    const [prompt] = prompts;
    // A stop, or two tokens.
    const stop = 1;
    const rest = Array.from({ length: vocabulary }, (_, token) => token).filter((token) => token !== stop);
    const outcomes = [[stop], ...rest.flatMap((first) => [...rest, stop].map((second) => [first, second]))];
    const batch = packedBatch([{ prompt: prompt.prompt, responses: outcomes }]);
    const probabilities = Array.from(await policy.logProbabilities(batch, 'policy'), Math.exp);
    expect(probabilities.reduce((a, b) => a + b)).toBeCloseTo(1, 5);
    const count = 5000;
    const answers = await draw([prompt], { count, maxTokens: 2 });
    let statistic = 0;
    outcomes.forEach((outcome, i) => {
      const drawn = answers.filter(({ tokens }) => tokens.join() === outcome.join());
      expect(drawn.every(({ logProbability }) => Math.abs(logProbability - Math.log(probabilities[i])) < 1e-5)).toBe(
        true,
      );
      statistic += (drawn.length - count * probabilities[i]) ** 2 / (count * probabilities[i]);
    });
    // The 0.9999 quantile of chi-square with 30 degrees of freedom.
    expect(statistic).toBeLessThan(67.6);
  });

  it('are the same whatever is drawn at once, and whatever other prompts and samples there are', async () => {
    const all = await draw();
    expect(all.map(({ prompt, sample }) => [prompt, sample])).toEqual(
      prompts.flatMap((_, prompt) => [0, 1, 2].map((sample) => [prompt, sample])),
    );
    expect(new Set(all.map(({ tokens }) => tokens.join())).size).toBeGreaterThan(5);
    for (const batch of [1, 2, 5]) expect(await draw(prompts, { batch })).toEqual(all);
    const last = await draw([prompts[2]], { count: 2 });
    expect(last).toEqual(all.slice(6, 8).map((answer) => ({ ...answer, prompt: 0 })));
    expect(await draw(prompts, { seed: 8 })).not.toEqual(all);
  });

  it('end with a stop token, or at the most tokens', async () => {
    const answers = await draw(prompts, { count: 40 });
    for (const { tokens, finishReason } of answers) {
      expect(tokens.slice(0, -1)).not.toContain(1);
      expect(finishReason).toBe(tokens.at(-1) === 1 ? 'stop' : 'length');
      if (finishReason === 'length') expect(tokens).toHaveLength(9);
    }
    expect(new Set(answers.map(({ finishReason }) => finishReason)).size).toBe(2);
  });

  it("end with their own prompt's stop tokens alone", async () => {
    const all = await draw(prompts, { count: 40 });
    const mixed = await draw([prompts[0], { ...prompts[1], stops: new Set() }], { count: 40 });
    expect(mixed.slice(0, 40)).toEqual(all.slice(0, 40));
    const free = mixed.slice(40);
    expect(free.every(({ tokens }) => tokens.length === 9)).toBe(true);
    expect(free.some(({ tokens }) => tokens.slice(0, -1).includes(1))).toBe(true);
  });

  it('come one by one where each ends at its first token', async () => {
    let prefills = 0;
    const counting = {
      prefill: (prompt: Int32Array) => {
        prefills++;
        return policy.prefill(prompt);
      },
      fork: policy.fork.bind(policy),
      decode: policy.decode.bind(policy),
      release: policy.release.bind(policy),
    };
    const before: number[] = [];
    for await (const _ of drawAnswers(counting, prompts, { ...settings, count: 1, maxTokens: 1 }))
      before.push(prefills);
    expect(before).toEqual([1, 2, 3]);
  });

  it('leave no keys and values behind', async () => {
    const before = loadNative().liveTensors();
    await draw();
    expect(loadNative().liveTensors()).toBe(before);
  });

  it('of a model whose logits are no numbers are an error that names the prompt', async () => {
    const broken = { ...policy, prefill: async () => ({ sequence: 1, logits: Float32Array.of(0, Number.NaN) }) };
    const drawn = drawAnswers(broken as unknown as GemmaPolicy, prompts, settings).next();
    await expect(drawn).rejects.toThrow(/a logit after p:1 and 0 tokens of an answer is not a finite number/);
  });
});

describe.skipIf(!hasTransformers)('greedy answers are those of transformers (skipped where Python lacks it)', () => {
  // Windows have 8 tokens.
  const given = [
    [2, 77, 105],
    [2, 9, 33, 51, 180, 8, 14, 99, 120, 121, 5],
  ];
  const names = ['gemma-tiny', 'gemma2-tiny', 'gemma3-tiny'];
  const maxTokens = 32;
  let theirs: { answers: number[][]; ended: number[] }[];
  beforeAll(async () => {
    theirs = await askTransformers(
      `
torch.set_num_threads(1)
def answers(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    model = PeftModel.from_pretrained(model, folder + "/adapter").eval()
    def answer(prompt, stops):
        ids = torch.tensor([prompt])
        with torch.no_grad():
            out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False,
                max_new_tokens=a["most"], pad_token_id=0, eos_token_id=stops)
        return out[0, len(prompt):].tolist()
    free = [answer(prompt, None) for prompt in a["given"]]
    # One of two stops ends the second answer somewhere.
    return {"answers": free, "ended": answer(a["given"][1], [free[1][20], 191])}
print(json.dumps([answers(folder) for folder in a["folders"]]))`,
      { folders: names.map(fixture), given, most: maxTokens },
    );
  }, 240_000);

  it.each(names.map((name, i) => [name, i] as const))('%s', async (name, i) => {
    using model = await GemmaPolicy.open(fixture(name), { threads: 1 });
    await model.loadAdapter(fixture(`${name}/adapter`));
    const some = given.map((ids, line) => ({ id: `p:${line}`, line, prompt: Int32Array.from(ids) }));
    const ours = async (prompts: typeof some, stops: number[]) => {
      const greedy = { ...settings, temperature: 0, count: 1, maxTokens };
      const of = prompts.map((prompt) => ({ ...prompt, stops: new Set(stops) }));
      const answers: number[][] = [];
      for await (const { tokens } of drawAnswers(model, of, greedy)) answers.push(tokens);
      return answers;
    };
    const { answers, ended } = theirs[i];
    expect(await ours(some, [])).toEqual(answers);
    expect(await ours([some[1]], [answers[1][20], 191])).toEqual([ended]);
  });
});
