import { cpSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { loadNative } from '../../src/native/load.js';
import { Random } from '../../src/numbers/random.js';
import { mergeAdapter } from '../../src/policy/merge.js';
import { temporaryFolder } from '../temporary-folder.js';
import {
  allGradients,
  allValues,
  expectGradients,
  fixture,
  largestDifference,
  normals,
  openPolicy,
  packedBatch,
  randomTrees,
  readSafetensors,
  responseCount,
  shakeAdapter,
  type Tree,
} from './gemma-helpers.js';
import { askTransformers, gemma3, hasTransformers } from './transformers.js';

/** Adapters with a score head: what their scores and gradients are, and the files of them. */
const root = temporaryFolder();
afterAll(() => loadNative().setKernels('fused'));
const scoreHead = true;

describe('scores of a reward model', () => {
  it.each(['gemma-tiny', 'gemma3-tiny'])(
    '%s: with the difference of two embeddings as head they are log-odds of the next token',
    async (checkpoint) => {
      const random = Random.stream(0, 'gemma-reward');
      const { hidden_size: hidden } = JSON.parse(readFileSync(fixture(`${checkpoint}/config.json`), 'utf8'));
      const embedding = readSafetensors(fixture(`${checkpoint}/model.safetensors`)).get('model.embed_tokens.weight')!;
      const row = (token: number) => embedding.subarray(token * hidden, (token + 1) * hidden);
      const [a, b] = [17, 41];
      using policy = await openPolicy(fixture(checkpoint));
      using reward = await openPolicy(fixture(checkpoint));
      for (const one of [policy, reward])
        await one.loadAdapter(fixture(`${checkpoint}/adapter`), { scoreHead: one === reward });
      expect([policy.isReward, reward.isReward]).toEqual([false, true]);
      await reward.native.writeTrainable(
        'score.weight',
        Float64Array.from(row(a), (value, i) => value - row(b)[i]),
      );
      const trees = randomTrees(6, embedding.length / hidden, random.integer(100));
      const scores = await reward.logProbabilities(packedBatch(trees), 'policy');
      const continued = trees.flatMap(({ prompt, responses }) =>
        responses.map((response) => ({
          prompt: [...Array.from(prompt), ...Array.from(response)],
          responses: [[a], [b]],
        })),
      );
      const logps = await policy.logProbabilities(packedBatch(continued), 'policy');
      const odds = Array.from(scores, (_, i) => logps[2 * i] - logps[2 * i + 1]);
      expect(Math.max(...odds.map(Math.abs))).toBeGreaterThan(0.1);
      expect(largestDifference(scores, odds)).toBeLessThan(1e-4);
    },
  );

  it('start at 0, and the gradient of each tree goes to its accumulator', async () => {
    using policy = await openPolicy('random:tiny?layers=2', { dtype: 'float64', threads: 1 });
    await policy.addAdapter({ rank: 2, alpha: 4 }, { accumulators: 2, scoreHead });
    const trees = randomTrees(4, policy.config.vocabulary, 3);
    const responses = responseCount(trees);
    expect(await policy.logProbabilities(packedBatch(trees), 'policy')).toEqual(new Float64Array(responses));
    await shakeAdapter(policy);
    const cotangents = normals(responses, 1);
    await policy.forward(packedBatch(trees));
    await policy.backward(cotangents, Int32Array.of(1, 0, 1, 1));
    const [first, second] = [
      await allGradients(policy, Float64Array.of(1, 0)),
      await allGradients(policy, Float64Array.of(0, 1)),
    ];
    await policy.discardGradients();
    const gradientOf = async (wanted: number[]) => {
      let start = 0;
      const own: number[] = [];
      for (const [t, tree] of trees.entries()) {
        const end = start + tree.responses.length;
        if (wanted.includes(t)) own.push(...cotangents.subarray(start, end));
        start = end;
      }
      await policy.forward(packedBatch(wanted.map((t) => trees[t])));
      await policy.backward(Float64Array.from(own), new Int32Array(wanted.length));
      const gradient = await allGradients(policy, Float64Array.of(1, 0));
      await policy.discardGradients();
      return gradient;
    };
    expect(largestDifference(first, await gradientOf([1]))).toBeLessThan(1e-12);
    expect(largestDifference(second, await gradientOf([0, 2, 3]))).toBeLessThan(1e-12);
  });

  it('are computed in float32 where the model is in bfloat16', async () => {
    using policy = await openPolicy('random:tiny?layers=1', { dtype: 'bfloat16', threads: 1 });
    await policy.addAdapter({ rank: 2, alpha: 4 }, { scoreHead });
    await shakeAdapter(policy);
    const batch = packedBatch(randomTrees(3, policy.config.vocabulary, 3));
    const before = await policy.forward(batch);
    await policy.backward(
      before.map((_, i) => (i === 0 ? 1 : 0)),
      new Int32Array(3),
    );
    // The score is linear in the head, so that its gradient times the head is the score.
    const gradient = await policy.native.readGradient('score.weight', Float64Array.of(1));
    const head = await policy.native.readTrainable('score.weight');
    const product = gradient.reduce((sum, value, i) => sum + value * head[i], 0);
    expect(Math.abs(product - before[0])).toBeLessThan(1e-5 * Math.max(1, Math.abs(product)));
  });

  it('are what is trained: values and optimiser come back from a state, the head from a folder', async () => {
    using policy = await openPolicy('random:tiny?layers=1', { threads: 1 });
    await policy.addAdapter({ rank: 2, alpha: 4 }, { scoreHead });
    const trees = randomTrees(3, policy.config.vocabulary, 3);
    const batch = packedBatch(trees);
    const step = async (one: typeof policy) => {
      const scores = await one.forward(batch);
      await one.backward(
        scores.map((_, i) => (i % 2 === 0 ? -1 : 1)),
        new Int32Array(trees.length),
      );
      await one.step(Float64Array.of(1), { learningRate: 0.01 });
    };
    for (let i = 0; i < 3; i++) await step(policy);
    const state = join(root, 'state.safetensors');
    await policy.saveState(state);
    await policy.saveAdapter(join(root, 'trained'), { baseModel: 'random:tiny' });
    const config = JSON.parse(readFileSync(join(root, 'trained/adapter_config.json'), 'utf8'));
    expect(config).toMatchObject({ task_type: 'SEQ_CLS', modules_to_save: ['score'] });
    using again = await openPolicy('random:tiny?layers=1', { threads: 1 });
    await again.loadAdapter(join(root, 'trained'));
    expect(again.isReward).toBe(true);
    expect(await allValues(again)).toEqual(await allValues(policy));
    await again.loadState(state);
    for (const one of [policy, again]) await step(one);
    expect(await allValues(again)).toEqual(await allValues(policy));
    expect(await again.logProbabilities(batch, 'policy')).toEqual(await policy.logProbabilities(batch, 'policy'));
  });

  it('are refused as a reference and as what continues a prompt', async () => {
    using policy = await openPolicy('random:tiny?layers=1', { threads: 1 });
    await policy.addAdapter({ rank: 2, alpha: 4 }, { scoreHead });
    await expect(policy.freezeReference()).rejects.toThrow('a reward model cannot be the reference of a policy');
    await expect(policy.prefill(Int32Array.of(2, 3))).rejects.toThrow('a reward model scores responses');
  });

  it.each([
    [{ task_type: 'SEQ_CLS', modules_to_save: null }, /modules_to_save": must hold "score" with task_type SEQ_CLS/],
    [{ task_type: 'CAUSAL_LM', modules_to_save: ['score'] }, /modules_to_save": only LoRA weights can be loaded/],
    [{ task_type: 'SEQ_CLS', modules_to_save: ['score', 'embed_tokens'] }, /modules_to_save": only LoRA weights/],
    [
      { task_type: 'TOKEN_CLS', modules_to_save: ['score'] },
      /task_type": must be CAUSAL_LM, or SEQ_CLS for a reward model/,
    ],
    [
      { task_type: 'SEQ_CLS', modules_to_save: ['classifier', 'score'] },
      /tensor "base_model.model.score.weight": is missing, the head/,
    ],
  ])('adapter_config.json with %j is refused', async (changes, message) => {
    const folder = join(root, `refused-${JSON.stringify(changes).length}-${message.source.length}`);
    cpSync(fixture('gemma-tiny/adapter'), folder, { recursive: true });
    const file = join(folder, 'adapter_config.json');
    writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, 'utf8')), ...changes }));
    using policy = await openPolicy(fixture('gemma-tiny'));
    await expect(policy.loadAdapter(folder)).rejects.toThrow(message);
  });
});

const random = Random.stream(0, 'gemma-reward transformers');
const ids = (count: number) => Int32Array.from({ length: count }, () => 1 + random.integer(90));
const trees: Tree[] = [
  { prompt: ids(3), responses: [ids(1), ids(12)] },
  { prompt: ids(20), responses: [ids(2), ids(9), ids(5)] },
];
const texts = trees.flatMap(({ prompt, responses }) => responses.map((r) => [Array.from(prompt), Array.from(r)]));
const cotangents = texts.map((_, i) => Math.cos(i));
const batch = packedBatch(trees);

/** Scores of single texts, and of all in one batch, padded on the right. */
const helpers = `
from transformers import AutoModelForSequenceClassification
load = lambda folder: AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, dtype=torch.float32, attn_implementation="eager").eval()
def scores(model):
    with torch.no_grad():
        return [model(torch.tensor([prompt + response])).logits.item() for prompt, response in a["texts"]]
`;

describe.skipIf(!hasTransformers)('reward models of transformers and PEFT (skipped where Python lacks them)', () => {
  it.each(['gemma-tiny', 'gemma2-tiny', 'gemma3-tiny'])(
    '%s: scores, gradients, adapters both ways, merged',
    { timeout: 240_000 },
    async (checkpoint) => {
      const at = (part: string) => join(root, checkpoint, part);
      const places = { model: fixture(checkpoint), adapter: at('adapter'), again: at('again'), merged: at('merged') };
      const { theirs, gradients } = await askTransformers<{ theirs: number[]; gradients: Record<string, number[]> }>(
        `${helpers}
torch.manual_seed(0)
peft = get_peft_model(load(a["model"]), LoraConfig(r=3, lora_alpha=5, target_modules="all-linear", task_type="SEQ_CLS", init_lora_weights=False)).eval()
shake(peft, 0.2, "lora")
shake(peft, 0.2, "score.modules_to_save")
peft.save_pretrained(a["adapter"])
total = sum(c * peft(torch.tensor([prompt + response])).logits[0, 0] for (prompt, response), c in zip(a["texts"], a["cotangents"]))
total.backward()
print(json.dumps({"theirs": scores(peft), "gradients": {
    name.replace("base_model.model.", "").replace(".default", "").replace(".modules_to_save", ""): parameter.grad.flatten().tolist()
    for name, parameter in peft.named_parameters() if parameter.grad is not None
}}))`,
        { ...places, texts, cotangents },
      );
      for (const kernels of ['libtorch', 'fused', 'gpu-plan'] as const) {
        loadNative().setKernels(kernels);
        using policy = await openPolicy(places.model, { threads: 1 });
        await policy.loadAdapter(places.adapter);
        expect(policy.isReward).toBe(true);
        const ours = await policy.forward(batch);
        expect(largestDifference(ours, theirs), kernels).toBeLessThan(1e-5);
        await policy.backward(Float64Array.from(cotangents), new Int32Array(trees.length));
        await expectGradients(policy, gradients);
        if (kernels === 'fused') await policy.saveAdapter(places.again, { baseModel: places.model });
      }
      loadNative().setKernels('fused');
      await mergeAdapter(places.model, places.adapter, places.merged, { quiet: true });
      const judged = await askTransformers<{ back: number[]; merged: number[]; batched: number[]; kind: string }>(
        `${helpers}
merged = AutoModelForSequenceClassification.from_pretrained(a["merged"], dtype=torch.float32, attn_implementation="eager").eval()
rows = [prompt + response for prompt, response in a["texts"]]
longest = max(map(len, rows))
pad = merged.config.get_text_config().pad_token_id
padded = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
with torch.no_grad():
    batched = merged(padded, attention_mask=(padded != pad).long()).logits.flatten().tolist()
print(json.dumps({
    "back": scores(PeftModel.from_pretrained(load(a["model"]), a["again"]).eval()),
    "merged": scores(merged),
    "batched": batched,
    "kind": merged.config.architectures[0],
}))`,
        { ...places, texts },
      );
      expect(largestDifference(judged.back, theirs)).toBeLessThan(1e-6);
      expect(largestDifference(judged.merged, theirs)).toBeLessThan(1e-5);
      expect(largestDifference(judged.batched, theirs)).toBeLessThan(1e-5);
      expect(judged.kind).toMatch(/^Gemma.*ForSequenceClassification$/);
    },
  );

  it('a Gemma 3 that sees images, in bfloat16 shards', { timeout: 240_000 }, async () => {
    const at = (part: string) => join(root, 'images', part);
    const places = { model: at('model'), adapter: at('adapter'), again: at('again'), merged: at('merged') };
    const { theirs } = await askTransformers<{ theirs: number[] }>(
      `${helpers}
from transformers import Gemma3Config, Gemma3ForConditionalGeneration
torch.manual_seed(0)
images = dict(hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=8, patch_size=4, vision_use_head=False)
config = Gemma3Config(text_config=a["text"], vision_config=images, mm_tokens_per_image=4, image_token_index=100, boi_token_index=99, eoi_token_index=98)
model = Gemma3ForConditionalGeneration(config)
shake(model, 0.3)
model.to(torch.bfloat16).save_pretrained(a["model"], max_shard_size="15KB")
peft = get_peft_model(load(a["model"]), LoraConfig(r=3, lora_alpha=5, target_modules=["q_proj", "down_proj"], exclude_modules=".*vision_tower.*", task_type="SEQ_CLS", init_lora_weights=False)).eval()
shake(peft, 0.2, "lora")
shake(peft, 0.2, "score.modules_to_save")
peft.save_pretrained(a["adapter"])
print(json.dumps({"theirs": scores(peft)}))`,
      { text: gemma3, ...places, texts },
    );
    using policy = await openPolicy(places.model, { threads: 1 });
    await policy.loadAdapter(places.adapter);
    const largest = Math.max(...theirs.map(Math.abs));
    expect(largestDifference(await policy.forward(batch), theirs) / largest).toBeLessThan(1e-5);
    await policy.saveAdapter(places.again, { baseModel: places.model });
    await mergeAdapter(places.model, places.adapter, places.merged, { quiet: true });
    expect(existsSync(join(places.merged, 'model.safetensors.index.json'))).toBe(true);
    const { back, merged, expected } = await askTransformers<Record<'back' | 'merged' | 'expected', number[]>>(
      `${helpers}
rounded = PeftModel.from_pretrained(load(a["model"]), a["adapter"]).merge_and_unload().eval()
for name, parameter in rounded.named_parameters():
    if not name.startswith("score"):
        parameter.data = parameter.data.bfloat16().float()
print(json.dumps({
    "back": scores(PeftModel.from_pretrained(load(a["model"]), a["again"]).eval()),
    "merged": scores(load(a["merged"])),
    "expected": scores(rounded),
}))`,
      { ...places, texts },
    );
    expect(largestDifference(back, theirs) / largest).toBeLessThan(1e-6);
    // Sums of other orders round a few weights to their other neighbour.
    expect(largestDifference(merged, expected) / largest).toBeLessThan(1e-2);
  });
});
