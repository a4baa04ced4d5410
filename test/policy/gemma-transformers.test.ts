import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadNative } from '../../src/native/load.js';
import { Random } from '../../src/numbers/random.js';
import { mergeAdapter } from '../../src/policy/merge.js';
import { temporaryFolder } from '../temporary-folder.js';
import { expectGradients, largestDifference, openPolicy, packedBatch, type Tree } from './gemma-helpers.js';
import { askTransformers, gemma3, hasTransformers, sizes } from './transformers.js';

/**
 * Fresh random checkpoints of every generation, made by transformers from the very config.json that is read here: what it computes
 * judges how the keys are understood, where they are missing, old, or by kind of layer too.
 */
const root = temporaryFolder();

const gemma2 = {
  ...sizes,
  model_type: 'gemma2',
  query_pre_attn_scalar: 7,
  attn_logit_softcapping: 1.5,
  final_logit_softcapping: 2.5,
  sliding_window: 9,
};
const byKind = {
  full_attention: { rope_type: 'linear', factor: 4, rope_theta: 5000 },
  sliding_attention: { rope_type: 'default' },
};

const configs: Record<string, object> = {
  'Gemma 1': { ...sizes, model_type: 'gemma', rope_theta: 500 },
  'Gemma 1 whose layer types are said': { ...sizes, model_type: 'gemma', layer_types: Array(5).fill('full_attention') },
  'Gemma 2': gemma2,
  'Gemma 2 without caps, one key head, a window of one': {
    ...gemma2,
    num_key_value_heads: 1,
    attn_logit_softcapping: null,
    final_logit_softcapping: null,
    sliding_window: 1,
  },
  'Gemma 2 with layers of its own order': {
    ...gemma2,
    layer_types: ['full_attention', 'full_attention', 'sliding_attention', 'full_attention', 'sliding_attention'],
  },
  'Gemma 3 with old names': {
    ...gemma3,
    rope_theta: 70_000,
    rope_local_base_freq: 300,
    rope_scaling: { rope_type: 'linear', factor: 4 },
    sliding_window_pattern: 3,
  },
  'Gemma 3 with new names, one base left out': { ...gemma3, rope_parameters: byKind },
  'Gemma 3 with defaults alone': gemma3,
  'Gemma 3 that caps its logits': { ...gemma3, final_logit_softcapping: 2.5 },
};

// Prompts shorter and longer than a window and than a tile of rows; responses that share a prompt's last tile, and that have their own.
const random = Random.stream(0, 'gemma-transformers');
const ids = (count: number) => Int32Array.from({ length: count }, () => random.integer(sizes.vocab_size));
const trees: Tree[] = [
  { prompt: ids(3), responses: [ids(1), ids(12)] },
  { prompt: ids(62), responses: [ids(2), ids(30), ids(5)] },
  { prompt: ids(90), responses: [ids(70), ids(1), ids(20)] },
  { prompt: ids(130), responses: [ids(4)] },
];
const texts = trees.flatMap(({ prompt, responses }) => responses.map((r) => [Array.from(prompt), Array.from(r)]));

/** What is shaped by windows, caps, norms of queries and keys, and both rotary bases. */
const adapted = [
  'Gemma 1',
  'Gemma 2',
  'Gemma 2 without caps, one key head, a window of one',
  'Gemma 3 with old names',
  'Gemma 3 that caps its logits',
] as const;

describe.skipIf(!hasTransformers)('random checkpoints of transformers (skipped where Python lacks it)', () => {
  it.each(Object.entries(configs))('%s', { timeout: 240_000 }, async (name, config) => {
    const folder = join(root, name);
    mkdirSync(folder);
    const { theirs } = await askTransformers<{ theirs: number[] }>(
      `
torch.manual_seed(0)
config = dict(a["config"])
config = AutoConfig.for_model(config.pop("model_type"), **config)
model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
shake(model, 0.3)
model.save_pretrained(a["folder"])
print(json.dumps({"theirs": logps(model)}))`,
      { config, folder, texts },
    );
    // Not as transformers has written it, but as it was given.
    writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
    for (const kernels of ['fused', 'libtorch'] as const) {
      loadNative().setKernels(kernels);
      using policy = await openPolicy(folder, { threads: 1 });
      const ours = await policy.logProbabilities(packedBatch(trees), 'base');
      const largest = Math.max(...theirs.map(Math.abs));
      expect(largestDifference(ours, theirs) / largest, kernels).toBeLessThan(1e-5);
    }
    loadNative().setKernels('fused');
  });

  it.each(adapted)(
    '%s: bfloat16 in shards, adapters both ways, LoRA gradients and merged',
    { timeout: 240_000 },
    async (name) => {
      const at = (part: string) => join(root, `adapted-${name}`, part);
      const [folder, adapter, again, merged] = ['model', 'adapter', 'again', 'merged'].map(at);
      mkdirSync(folder, { recursive: true });
      const cotangents = texts.map((_, i) => Math.cos(i));
      interface Theirs {
        shards: number;
        theirs: number[];
        gradients: Record<string, number[]>;
      }
      const { shards, theirs, gradients } = await askTransformers<Theirs>(
        `
import glob
torch.manual_seed(0)
config = dict(a["config"])
config = AutoConfig.for_model(config.pop("model_type"), **config)
model = AutoModelForCausalLM.from_config(config)
shake(model, 0.3)
model.to(torch.bfloat16).save_pretrained(a["folder"], max_shard_size="15KB")
model = AutoModelForCausalLM.from_pretrained(a["folder"], dtype=torch.float32, attn_implementation="eager")
targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
peft = get_peft_model(model, LoraConfig(r=3, lora_alpha=5, target_modules=targets, task_type="CAUSAL_LM", init_lora_weights=False))
shake(peft, 0.2, "lora")
peft.save_pretrained(a["adapter"])
print(json.dumps({"shards": len(glob.glob(a["folder"] + "/*.safetensors")), "theirs": logps(peft), "gradients": gradients(peft)}))`,
        { config: configs[name], folder, adapter, texts, cotangents },
      );
      expect(shards).toBeGreaterThan(2);
      const largest = Math.max(...theirs.map(Math.abs));
      for (const kernels of ['fused', 'libtorch'] as const) {
        loadNative().setKernels(kernels);
        using policy = await openPolicy(folder, { threads: 1 });
        await policy.loadAdapter(adapter);
        const batch = packedBatch(trees);
        expect(largestDifference(await policy.forward(batch), theirs) / largest, kernels).toBeLessThan(1e-5);
        await policy.backward(Float64Array.from(cotangents), new Int32Array(trees.length));
        await expectGradients(policy, gradients);
        if (kernels === 'fused') await policy.saveAdapter(again, { baseModel: folder });
      }
      loadNative().setKernels('fused');
      await mergeAdapter(folder, adapter, merged, { quiet: true });
      const { back, whole, expected } = await askTransformers<{ back: number[]; whole: number[]; expected: number[] }>(
        `
load = lambda folder: AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
# What PEFT merges, rounded as the checkpoint is; rotary frequencies are no parameters.
rounded = PeftModel.from_pretrained(load(a["folder"]), a["adapter"]).merge_and_unload()
for parameter in rounded.parameters():
    parameter.data = parameter.data.bfloat16().float()
print(json.dumps({
    "back": logps(PeftModel.from_pretrained(load(a["folder"]), a["again"])),
    "whole": logps(load(a["merged"])),
    "expected": logps(rounded),
}))`,
        { folder, adapter, again, merged, texts },
      );
      expect(largestDifference(back, theirs) / largest).toBeLessThan(1e-6);
      // Sums of other orders round a few weights to their other neighbour, which is little beside what rounding all of them costs.
      expect(largestDifference(whole, expected)).toBeLessThan(0.2 * largestDifference(expected, theirs));
    },
  );
});
