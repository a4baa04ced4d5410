import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Random } from '../../src/numbers/random.js';
import { mergeAdapter } from '../../src/policy/merge.js';
import { temporaryFolder } from '../temporary-folder.js';
import { allValues, expectGradients, largestDifference, openPolicy, packedBatch, type Tree } from './gemma-helpers.js';
import { askTransformers, gemma3, hasTransformers, sizes } from './transformers.js';

/**
 * Adapters of some modules only, with ranks and scales of their own, and models that see images: what PEFT and transformers compute of
 * fresh random ones judges the reading, the training and the writing of them here.
 */
const root = temporaryFolder();

const random = Random.stream(0, 'gemma-peft');
const ids = (count: number) => Int32Array.from({ length: count }, () => random.integer(sizes.vocab_size - 3));
const trees: Tree[] = [
  { prompt: ids(3), responses: [ids(1), ids(12)] },
  { prompt: ids(40), responses: [ids(2), ids(5)] },
];
const texts = trees.flatMap(({ prompt, responses }) => responses.map((r) => [Array.from(prompt), Array.from(r)]));
const cotangents = texts.map((_, i) => Math.cos(i));
const batch = packedBatch(trees);

const all = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'];

/** Settings of PEFT's LoraConfig. It sorts the keys of patterns when it saves, and the first that matches counts. */
const adapters: Record<string, Record<string, unknown>> = {
  'ranks and alphas by ends and expressions': {
    target_modules: all,
    rank_pattern: { 'layers\\.(1|3)\\.mlp\\..*': 4, 'model.layers.0.self_attn.q_proj': 6, q_proj: 2 },
    alpha_pattern: { '(q|v)_proj': 9, 'mlp.down_proj': 0.5, proj: 100 },
  },
  'ranks under rank stabilisation': {
    target_modules: ['q_proj', 'up_proj'],
    use_rslora: true,
    rank_pattern: { '^model.layers.2.mlp.up_proj': 7 },
    alpha_pattern: { '.*4.*': 2 },
  },
  'a list of layers': { target_modules: ['v_proj', 'down_proj'], layers_to_transform: [0, 3, 9] },
  'one layer, by the name of its list': { target_modules: all, layers_to_transform: 4, layers_pattern: 'layers' },
  'layers by several expressions': {
    target_modules: ['o_proj'],
    layers_to_transform: [2],
    layers_pattern: ['blocks', 'lay.*'],
  },
  'a whole path, which no list of layers leaves out': {
    target_modules: ['model.layers.0.self_attn.q_proj', 'v_proj'],
    layers_to_transform: [1],
  },
  'modules left out by ends': { target_modules: all, exclude_modules: ['k_proj', 'layers.2.self_attn.v_proj'] },
  'modules left out by an expression': { target_modules: 'all-linear', exclude_modules: '.*layers\\.[01]\\.mlp.*' },
  'targets in some layers': { target_modules: ['layers.1.self_attn.q_proj', 'model.layers.2.mlp.up_proj'] },
  'an expression of some layers': { target_modules: '.*\\.[34]\\.(self_attn|mlp)\\.(q|o|gate)_proj' },
};

interface Theirs {
  theirs: number[];
  gradients: Record<string, number[]>;
}

const configOf = (adapter: string) => JSON.parse(readFileSync(join(adapter, 'adapter_config.json'), 'utf8'));
const load =
  'lambda: AutoModelForCausalLM.from_pretrained(a["model"], dtype=torch.float32, attn_implementation="eager")';

describe.skipIf(!hasTransformers)('against PEFT and transformers (skipped where Python lacks them)', () => {
  it.each([
    ['Gemma 1', { ...sizes, model_type: 'gemma' }],
    ['Gemma 3', gemma3],
  ])('adapters of parts of %s: log-probs, gradients, both ways, merged', { timeout: 240_000 }, async (name, config) => {
    const model = join(root, name);
    const place = (kind: string, adapter: string) => join(root, `${name} ${kind}`, adapter);
    const folders = Object.fromEntries(Object.keys(adapters).map((key) => [key, place('adapter', key)]));
    const theirs = await askTransformers<Record<string, Theirs>>(
      `
torch.manual_seed(0)
config = dict(a["config"])
model = AutoModelForCausalLM.from_config(AutoConfig.for_model(config.pop("model_type"), **config))
shake(model, 0.3)
model.save_pretrained(a["model"])
load = ${load}
out = {}
for name, settings in a["adapters"].items():
    lora = LoraConfig(**{"r": 3, "lora_alpha": 5, **settings}, task_type="CAUSAL_LM", init_lora_weights=False)
    peft = get_peft_model(load(), lora)
    shake(peft, 0.2, "lora")
    peft.save_pretrained(a["folders"][name])
    out[name] = {"theirs": logps(peft), "gradients": gradients(peft)}
print(json.dumps(out))`,
      { config, model, adapters, folders, texts, cotangents },
    );
    for (const [key, folder] of Object.entries(folders)) {
      using policy = await openPolicy(model, { threads: 1 });
      await policy.loadAdapter(folder);
      const largest = Math.max(...theirs[key].theirs.map(Math.abs));
      expect(largestDifference(await policy.forward(batch), theirs[key].theirs) / largest, key).toBeLessThan(1e-5);
      await policy.backward(Float64Array.from(cotangents), new Int32Array(trees.length));
      await expectGradients(policy, theirs[key].gradients);
      await policy.freezeReference();
      await policy.saveAdapter(place('again', key), { baseModel: model });
      await mergeAdapter(model, folder, place('merged', key), { quiet: true });
      // One that is as it was in all layers is written with plain names.
      const [given, written] = [configOf(folder), configOf(place('again', key))];
      for (const pattern of ['rank_pattern', 'alpha_pattern']) expect(written[pattern]).toEqual(given[pattern]);
      if (!key.startsWith('ranks'))
        for (const part of ['target_modules', 'layers_to_transform', 'layers_pattern', 'exclude_modules'])
          expect(written[part], part).toEqual(given[part]);
      const reference = await policy.logProbabilities(batch, 'reference');
      await policy.step(Float64Array.of(1), { learningRate: 1e-2 });
      expect(await policy.logProbabilities(batch, 'reference')).toEqual(reference);
      expect(largestDifference(await policy.logProbabilities(batch, 'policy'), reference)).toBeGreaterThan(1e-3);
    }
    const judged = await askTransformers<Record<string, { back: number[]; merged: number[] }>>(
      `
load = ${load}
print(json.dumps({
    name: {
        "back": logps(PeftModel.from_pretrained(load(), a["again"][name])),
        "merged": logps(AutoModelForCausalLM.from_pretrained(a["merged"][name], attn_implementation="eager")),
    }
    for name in a["again"]
}))`,
      {
        model,
        texts,
        again: Object.fromEntries(Object.keys(adapters).map((key) => [key, place('again', key)])),
        merged: Object.fromEntries(Object.keys(adapters).map((key) => [key, place('merged', key)])),
      },
    );
    for (const [key, { back, merged }] of Object.entries(judged)) {
      expect(largestDifference(back, theirs[key].theirs), key).toBeLessThan(1e-6);
      expect(largestDifference(merged, theirs[key].theirs), key).toBeLessThan(1e-4);
    }
  });

  it.each(['old', 'new'])(
    'a Gemma 3 that sees images, with %s names: its language model, adapters both ways, merged',
    { timeout: 240_000 },
    async (names) => {
      const at = (part: string) => join(root, `images ${names}`, part);
      const [model, adapter, renamed, again, own, merged] = [
        'model',
        'adapter',
        'renamed',
        'again',
        'own',
        'merged',
      ].map(at);
      const lora = {
        r: 3,
        lora_alpha: 5,
        target_modules: [...all, 'fc1', 'out_proj'],
        rank_pattern: { 'language_model.layers.1.mlp.up_proj': 2, fc1: 1 },
        alpha_pattern: { 'vision_tower.*': 3 },
        // In some layers only, so that all of it has to come back.
        exclude_modules: ['layers.3.self_attn.k_proj'],
      };
      const { base, theirs, gradients, vision } = await askTransformers<Theirs & { base: number[]; vision: number }>(
        `
import os, shutil
from safetensors.torch import load_file, save_file
from transformers import Gemma3Config, Gemma3ForConditionalGeneration
torch.manual_seed(0)
images = dict(hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=8, patch_size=4, vision_use_head=False)
config = Gemma3Config(text_config=a["text"], vision_config=images, mm_tokens_per_image=4, image_token_index=100, boi_token_index=99, eoi_token_index=98)
model = Gemma3ForConditionalGeneration(config)
shake(model, 0.3)
if a["names"] == "old":
    model.to(torch.bfloat16).save_pretrained(a["model"], max_shard_size="15KB")
else:
    # The head beside the embedding that it is tied to; with the names that the modules have.
    config.save_pretrained(a["model"])
    save_file({name: value.clone() for name, value in model.state_dict().items()}, a["model"] + "/model.safetensors", {"format": "pt"})
load = ${load}
peft = get_peft_model(load(), LoraConfig(**a["lora"], task_type="CAUSAL_LM", init_lora_weights=False))
shake(peft, 0.2, "lora")
peft.save_pretrained(a["adapter"])
# As transformers before 4.52 had them.
os.makedirs(a["renamed"])
shutil.copy(a["adapter"] + "/adapter_config.json", a["renamed"])
rename = lambda name: name.replace("model.model.language_model.", "model.language_model.model.").replace("model.model.vision_tower.", "model.vision_tower.vision_model.")
weights = load_file(a["adapter"] + "/adapter_model.safetensors")
save_file({rename(name): value for name, value in weights.items()}, a["renamed"] + "/adapter_model.safetensors")
base = logps(load())
print(json.dumps({
    "base": base,
    "theirs": logps(peft),
    "gradients": gradients(peft),
    "vision": sum("vision_tower" in name for name in weights),
}))`,
        { text: gemma3, names, model, adapter, renamed, lora, texts, cotangents },
      );
      expect(vision).toBeGreaterThan(10);
      // Only what differs from transformers' defaults, as on the hub.
      const written = JSON.parse(readFileSync(join(model, 'config.json'), 'utf8'));
      writeFileSync(join(model, 'config.json'), JSON.stringify({ ...written, text_config: gemma3 }));

      const largest = Math.max(...theirs.map(Math.abs));
      for (const folder of [adapter, renamed]) {
        using policy = await openPolicy(model, { threads: 1 });
        expect(policy.notes).toEqual([expect.stringMatching(/model: \d+ tensors \([\d.]+ MB\) of the vision model/)]);
        expect(largestDifference(await policy.logProbabilities(batch, 'base'), base) / largest).toBeLessThan(1e-5);
        await policy.loadAdapter(folder);
        expect(policy.notes[1]).toContain(`${folder}: ${vision} tensors`);
        expect(largestDifference(await policy.forward(batch), theirs) / largest).toBeLessThan(1e-5);
        await policy.backward(Float64Array.from(cotangents), new Int32Array(trees.length));
        const plain = Object.entries(gradients)
          .filter(([name]) => !name.includes('vision_tower'))
          .map(([name, values]) => [name.replace('model.language_model.', 'model.'), values]);
        await expectGradients(policy, Object.fromEntries(plain));
        if (folder === renamed) await policy.saveAdapter(again, { baseModel: model });
      }
      using policy = await openPolicy(model, { threads: 1 });
      await policy.addAdapter({ rank: 2, alpha: 3 });
      await policy.forward(batch);
      await policy.backward(Float64Array.from(cotangents), new Int32Array(trees.length));
      await policy.step(Float64Array.of(1), { learningRate: 1e-2 });
      await policy.saveAdapter(own, { baseModel: model });
      const ours = await policy.logProbabilities(batch, 'policy');
      using reloaded = await openPolicy(model, { threads: 1 });
      await reloaded.loadAdapter(own);
      expect(await allValues(reloaded)).toEqual(await allValues(policy));
      expect(await reloaded.logProbabilities(batch, 'policy')).toEqual(ours);

      const report = await mergeAdapter(model, adapter, merged, { quiet: true });
      expect(report.merged).toBe(5 * 7 - 1 + 2 * 5);
      const judged = await askTransformers<{
        back: number[];
        own: number[];
        parts: string[];
        merged: number[];
        expected: number[];
        apart: number;
      }>(
        `
load = ${load}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    own = PeftModel.from_pretrained(load(), a["own"])
expected = PeftModel.from_pretrained(load(), a["adapter"]).merge_and_unload()
merged = AutoModelForCausalLM.from_pretrained(a["merged"], dtype=torch.float32, attn_implementation="eager")
if a["names"] == "old":
    for parameter in expected.parameters():
        parameter.data = parameter.data.bfloat16().float()
print(json.dumps({
    "back": logps(PeftModel.from_pretrained(load(), a["again"])),
    "own": logps(own),
    "parts": [str(one.message) for one in caught] + [name for name, _ in own.named_parameters() if "lora" in name and "vision" in name],
    "merged": logps(merged),
    "expected": logps(expected),
    "apart": max(
        ((one - other).abs() / other.abs().clamp(min=0.01)).max().item()
        for one, other in zip(merged.parameters(), expected.parameters(), strict=True)
    ),
}))`,
        { model, adapter, own, again, merged, names, texts },
      );
      expect(largestDifference(judged.back, theirs) / largest).toBeLessThan(1e-6);
      expect(largestDifference(judged.own, ours) / largest).toBeLessThan(1e-5);
      expect(judged.parts).toEqual([]);
      // Sums of other orders round a few weights to their other neighbour.
      expect(judged.apart).toBeLessThan(names === 'old' ? 2 ** -7 : 1e-5);
      expect(largestDifference(judged.merged, judged.expected) / largest).toBeLessThan(names === 'old' ? 1e-2 : 1e-5);
    },
  );

  it('takes the defaults of transformers for what the hub’s files of 4B leave out', async () => {
    const model = join(root, 'sparse');
    const text = {
      hidden_size: 8,
      intermediate_size: 16,
      model_type: 'gemma3_text',
      num_hidden_layers: 7,
      rope_scaling: { factor: 8.0, rope_type: 'linear' },
      sliding_window: 9,
    };
    const { theirs } = await askTransformers<{ theirs: number[] }>(
      `
from transformers import Gemma3Config, Gemma3ForConditionalGeneration
torch.manual_seed(0)
images = dict(hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=8, patch_size=4, vision_use_head=False)
model = Gemma3ForConditionalGeneration(Gemma3Config(text_config=dict(a["text"]), vision_config=images, mm_tokens_per_image=4)).eval()
shake(model, 0.3)
model.save_pretrained(a["model"])
print(json.dumps({"theirs": logps(model)}))`,
      { text, model, texts: texts.slice(0, 3) },
    );
    writeFileSync(join(model, 'config.json'), JSON.stringify({ model_type: 'gemma3', text_config: text }));
    using policy = await openPolicy(model, { threads: 1 });
    const ours = (await policy.logProbabilities(batch, 'base')).slice(0, 3);
    expect(largestDifference(ours, theirs) / Math.max(...theirs.map(Math.abs))).toBeLessThan(1e-5);
  });
});
