import { copyFileSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { decodeFloats, encodeFloats, type FloatType } from '../../src/policy/float-types.js';
import { mergeAdapter } from '../../src/policy/merge.js';
import { SafetensorsFile } from '../../src/policy/safetensors.js';
import { groupRobust } from '../cli/run.js';
import { inputError } from '../data/helpers.js';
import { temporaryFolder } from '../temporary-folder.js';
import { fixture, fixtureJson, largestDifference, openPolicy, packedBatch, randomTrees } from './gemma-helpers.js';
import { askTransformers, hasTransformers } from './transformers.js';

const folder = temporaryFolder();
const at = (name: string) => join(folder, name);
const quiet = true;

describe('rounding', () => {
  const golden = fixtureJson<{ bits: number[]; BF16: number[]; F16: number[] }>('float-types/golden.json');
  const values = () => new Float32Array(Uint32Array.from(golden.bits).buffer);

  it.each(['BF16', 'F16'] as const)('to %s is as torch does it, ties to even, subnormal and infinite too', (dtype) => {
    const words = new Uint16Array(encodeFloats(values(), dtype).buffer);
    expect(Array.from(words)).toEqual(golden[dtype]);
  });

  it.each(['BF16', 'F16'] as const)('keeps every %s number', (dtype) => {
    const words = Uint16Array.from({ length: 65536 }, (_, i) => i);
    const floats = decodeFloats(new Uint8Array(words.buffer), dtype);
    const again = new Uint16Array(encodeFloats(floats, dtype).buffer);
    words.forEach((word, i) => {
      if (Number.isNaN(floats[i]))
        expect(Number.isNaN(decodeFloats(new Uint8Array(again.slice(i, i + 1).buffer), dtype)[0])).toBe(true);
      else expect(again[i]).toBe(word);
    });
  });
});

/** A checkpoint or adapter file with the same tensors in another type. */
function convert(from: string, to: string, dtype: FloatType): void {
  using source = new SafetensorsFile(from);
  const header: Record<string, object> = { __metadata__: { format: 'pt' } };
  const parts: Uint8Array[] = [];
  let place = 0;
  for (const { name, shape, begin, end } of source.entries) {
    const bytes = encodeFloats(decodeFloats(source.read(begin, end - begin), 'F32'), dtype);
    header[name] = { dtype, shape, data_offsets: [place, place + bytes.length] };
    place += bytes.length;
    parts.push(bytes);
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  writeFileSync(to, Buffer.concat([length, json, ...parts]));
}

function values(file: string): Map<string, Float32Array> {
  using source = new SafetensorsFile(file);
  return new Map(
    source.entries.map(({ name, dtype, begin, end }) => [
      name,
      decodeFloats(source.read(begin, end - begin), dtype as FloatType),
    ]),
  );
}

/** W + scale · B A by the definition, in float64. */
function expected(model: string, adapter: string): Map<string, Float64Array> {
  const config = JSON.parse(readFileSync(join(adapter, 'adapter_config.json'), 'utf8'));
  const scale = config.lora_alpha / (config.use_rslora ? Math.sqrt(config.r) : config.r);
  const factors = values(join(adapter, 'adapter_model.safetensors'));
  const merged = new Map<string, Float64Array>();
  for (const [name, weights] of values(model)) {
    const result = Float64Array.from(weights);
    const module = `base_model.model.${name.replace(/\.weight$/, '')}`;
    const a = factors.get(`${module}.lora_A.weight`);
    const b = factors.get(`${module}.lora_B.weight`);
    if (a && b) {
      const columns = a.length / config.r;
      for (let i = 0; i < result.length; i++)
        for (let k = 0; k < config.r; k++)
          result[i] += scale * b[Math.floor(i / columns) * config.r + k] * a[k * columns + (i % columns)];
    }
    merged.set(name, result);
  }
  return merged;
}

const tiny = fixture('gemma-tiny');
const odd = fixture('gemma-odd');

function halfTiny(name: string, dtype: FloatType): string {
  const model = at(name);
  mkdirSync(model);
  copyFileSync(join(tiny, 'config.json'), join(model, 'config.json'));
  convert(join(tiny, 'model.safetensors'), join(model, 'model.safetensors'), dtype);
  return model;
}

describe('merging', () => {
  it.each([
    ['F32', 2 ** -24],
    ['BF16', 2 ** -8],
    ['F16', 2 ** -11],
  ] as const)(
    'adds scale · B A to every adapted weight of %s, to half a unit in the last place',
    async (dtype, half) => {
      const model = dtype === 'F32' ? tiny : halfTiny(`base-${dtype}`, dtype);
      const out = at(`merged-${dtype}`);
      const report = await mergeAdapter(model, join(tiny, 'adapter'), out, { quiet });
      const merged = values(join(out, 'model.safetensors'));
      const before = values(join(model, 'model.safetensors'));
      let changed = 0;
      let rounding = 0;
      const change = { wanted: 0, made: 0 };
      for (const [name, exact] of expected(join(model, 'model.safetensors'), join(tiny, 'adapter'))) {
        const stored = merged.get(name)!;
        if (stored.some((value, i) => value !== exact[i])) changed++;
        exact.forEach((value, i) => {
          // Halves have subnormals of 2^-24; ties may go either way where float32 rounds before.
          expect(Math.abs(stored[i] - value)).toBeLessThanOrEqual(Math.max(1.001 * half * Math.abs(value), 2 ** -25));
          rounding = Math.max(rounding, Math.abs(stored[i] - value));
          const weight = before.get(name)![i];
          change.wanted += (value - weight) ** 2;
          change.made += (value - weight) * (stored[i] - weight);
        });
      }
      expect(changed).toBe(report.merged);
      expect(report.largestRounding).toBeCloseTo(rounding, 12);
      expect(report.kept).toBeCloseTo(change.made / change.wanted, 6);
      expect(report.largestChange).toBeGreaterThan(0);
    },
  );

  it('gives the log-probs of the adapter, for one file and for shards with an odd shape and rsLoRA', async () => {
    for (const base of [tiny, odd]) {
      const out = at(`logps-${base === tiny ? 'tiny' : 'odd'}`);
      await mergeAdapter(base, join(base, 'adapter'), out, { quiet });
      expect(readdirSync(out).sort()).toEqual(
        readdirSync(base)
          .filter((name) => /^(config|model).*(json|safetensors)$/.test(name))
          .sort(),
      );
      using merged = await openPolicy(out, { threads: 1 });
      using adapted = await openPolicy(base, { threads: 1 });
      await adapted.loadAdapter(join(base, 'adapter'));
      const batch = packedBatch(randomTrees(8, adapted.config.vocabulary));
      const difference = largestDifference(
        await merged.logProbabilities(batch, 'base'),
        await adapted.logProbabilities(batch, 'policy'),
      );
      // The odd checkpoint is bfloat16, which rounds its merged weights; the adapter moves the log-probs by 5.
      expect(difference).toBeLessThan(base === tiny ? 1e-5 : 0.1);
    }
  });

  it('is a command, and keeps the files that belong to the model', () => {
    const model = at('with-tokenizer');
    mkdirSync(model);
    for (const name of ['config.json', 'model.safetensors']) copyFileSync(join(tiny, name), join(model, name));
    for (const name of ['tokenizer.json', 'chat_template.jinja', 'README.md']) writeFileSync(join(model, name), name);
    const out = at('command');
    const flags = ['--model', model, '--adapter', join(tiny, 'adapter'), '--out', out];
    const { json, status, stderr } = groupRobust(['merge', ...flags, '--json']);
    expect(stderr + status).toMatch(/largest change[\s\S]*0$/);
    expect(json).toMatchObject({ out, merged: 14, files: 1 });
    expect(readdirSync(out).sort()).toEqual([
      'chat_template.jinja',
      'config.json',
      'model.safetensors',
      'tokenizer.json',
    ]);
    const again = groupRobust(['merge', ...flags]);
    expect([again.status, again.stderr]).toEqual([2, expect.stringContaining('already exists')]);
    const random = groupRobust(['merge', ...flags.with(1, 'random:tiny').with(5, at('none'))]);
    expect([random.status, random.stderr]).toEqual([2, expect.stringContaining('random weights')]);
  });

  it('warns where weights in bfloat16 take no notice of a small adapter', () => {
    const model = halfTiny('base-of-small', 'BF16');
    const adapter = at('small-adapter');
    cpSync(join(tiny, 'adapter'), adapter, { recursive: true });
    const config = JSON.parse(readFileSync(join(adapter, 'adapter_config.json'), 'utf8'));
    writeFileSync(join(adapter, 'adapter_config.json'), JSON.stringify({ ...config, lora_alpha: 1e-4 }));
    const flags = ['--model', model, '--adapter', adapter, '--out', at('merged-small')];
    const { json, status, stderr } = groupRobust(['merge', ...flags, '--json']);
    expect(status, stderr).toBe(0);
    expect((json as { kept: number }).kept).toBeLessThan(0.5);
    expect(stderr).toMatch(/keep [\d.e−]+ of what the adapter changes/);
  });

  it('refuses an adapter of another shape, with tensors missing or more, or not finite; nothing is written', async () => {
    const adapter = at('bad-adapter');
    const config = JSON.parse(readFileSync(join(tiny, 'adapter/adapter_config.json'), 'utf8'));
    const adapterWeights = join(tiny, 'adapter/adapter_model.safetensors');
    const attempt = async (change: object, weights = adapterWeights, model = tiny) => {
      rmSync(adapter, { recursive: true, force: true });
      mkdirSync(adapter);
      writeFileSync(join(adapter, 'adapter_config.json'), JSON.stringify({ ...config, ...change }));
      copyFileSync(weights, join(adapter, 'adapter_model.safetensors'));
      const error = await inputError(() => mergeAdapter(model, adapter, at('refused'), { quiet }));
      expect(existsSync(at('refused'))).toBe(false);
      return error;
    };
    expect((await attempt({ r: config.r + 1 })).message).toMatch(/lora_A\.weight": has shape \[.*expected \[/);
    expect((await attempt({ target_modules: ['q_proj'] })).message).toContain('is not expected');
    expect((await attempt({}, join(odd, 'adapter/adapter_model.safetensors'))).location.tensor).toContain('lora_');
    expect((await attempt({ lora_alpha: 1e300 })).message).toContain(
      '"lora_alpha": is too large for a number of 32 bits',
    );
    const half = await attempt({ lora_alpha: 1e30 }, adapterWeights, halfTiny('half', 'F16'));
    expect(half.message).toContain('not finite after merging, as F16');
  });
});

describe('a safetensors header', () => {
  const write = (header: string | object, data = 8, length?: bigint) => {
    const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
    const size = Buffer.alloc(8);
    size.writeBigUInt64LE(length ?? BigInt(json.length));
    writeFileSync(at('file.safetensors'), Buffer.concat([size, json, Buffer.alloc(data)]));
    return at('file.safetensors');
  };
  const tensor = (begin: number, end: number, shape = [(end - begin) / 4]) => ({
    dtype: 'F32',
    shape,
    data_offsets: [begin, end],
  });

  it('may hold empty tensors, metadata, and no tensor at all', () => {
    using file = new SafetensorsFile(write({ __metadata__: { a: 'b' }, x: tensor(0, 8), y: tensor(8, 8, [0, 4]) }));
    expect(file.entries.map(({ name }) => name)).toEqual(['x', 'y']);
    using none = new SafetensorsFile(write({}, 0));
    expect(none.entries).toEqual([]);
  });

  it.each([
    ['a length beyond the file', {}, 8, 2n ** 40n, undefined],
    ['a length beyond 2^63', {}, 8, 2n ** 64n - 1n, undefined],
    ['no JSON', '{"x"', 0, undefined, undefined],
    ['a list', [], 0, undefined, undefined],
    ['an unknown type', { x: { ...tensor(0, 8), dtype: 'F4' } }, 8, undefined, 'x'],
    ['a null', { x: null }, 0, undefined, 'x'],
    ['a negative size', { x: tensor(0, 8, [-2]) }, 8, undefined, 'x'],
    ['reversed offsets', { x: tensor(8, 0, [2]) }, 8, undefined, 'x'],
    ['another length than the shape', { x: tensor(0, 8, [3]) }, 8, undefined, 'x'],
    ['a shape that overflows', { x: tensor(0, 8, [2 ** 53 - 1, 2 ** 53 - 1]) }, 8, undefined, 'x'],
    ['an overlap', { x: tensor(0, 8), y: tensor(4, 8) }, 8, undefined, 'y'],
    ['a hole', { x: tensor(0, 4), y: tensor(8, 12) }, 12, undefined, 'y'],
    ['an end beyond the file', { x: tensor(0, 12) }, 8, undefined, 'x'],
    ['bytes left over', { x: tensor(0, 4) }, 8, undefined, undefined],
  ])('with %s is refused', async (_, header, data, length, name) => {
    const error = await inputError(() => new SafetensorsFile(write(header, data, length)));
    expect(error.location).toEqual({ file: at('file.safetensors'), tensor: name });
  });
});

describe.skipIf(!hasTransformers)(
  'transformers and PEFT (skipped where Python lacks them)',
  { timeout: 240_000 },
  () => {
    const trees = randomTrees(6, 97).map(({ prompt, responses }) => ({ prompt, responses: [responses[0]] }));
    const texts = trees.map(({ prompt, responses: [response] }) => [Array.from(prompt), Array.from(response)]);
    const load = 'AutoModelForCausalLM.from_pretrained(a["model"], dtype=torch.float32)';

    it('load a merged checkpoint and agree on its log-probs, PEFT merging the same', async () => {
      const out = at('for-python');
      await mergeAdapter(tiny, join(tiny, 'adapter'), out, { quiet });
      const { merged, theirs } = await askTransformers<{ merged: number[]; theirs: number[] }>(
        `
model = ${load}
peft = PeftModel.from_pretrained(model, a["adapter"]).merge_and_unload()
print(json.dumps({"merged": logps(AutoModelForCausalLM.from_pretrained(a["out"])), "theirs": logps(peft)}))`,
        { model: tiny, adapter: join(tiny, 'adapter'), out, texts },
      );
      expect(largestDifference(merged, theirs)).toBeLessThan(1e-5);
    });

    it('write an adapter (rsLoRA, few targets) that is read here, and read the one that is written here', async () => {
      const saved = at('from-peft');
      const { theirs } = await askTransformers<{ theirs: number[] }>(
        `
torch.manual_seed(0)
config = LoraConfig(r=3, lora_alpha=7, use_rslora=True, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
peft = get_peft_model(${load}, config)
peft.save_pretrained(a["saved"])
print(json.dumps({"theirs": logps(peft)}))`,
        { model: tiny, saved, texts },
      );
      using policy = await openPolicy(tiny, { threads: 1 });
      await policy.loadAdapter(saved);
      const ours = await policy.logProbabilities(packedBatch(trees), 'policy');
      expect(largestDifference(ours, theirs)).toBeLessThan(1e-5);
      const again = at('to-peft');
      await policy.saveAdapter(again, { baseModel: tiny });
      const { back } = await askTransformers<{ back: number[] }>(
        `print(json.dumps({"back": logps(PeftModel.from_pretrained(${load}, a["again"]))}))`,
        { model: tiny, again, texts },
      );
      expect(largestDifference(back, theirs)).toBeLessThan(1e-5);
    });
  },
);
