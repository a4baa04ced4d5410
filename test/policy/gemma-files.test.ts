import { cpSync, existsSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { InputError } from '../../src/errors.js';
import type { GemmaPolicy } from '../../src/policy/gemma.js';
import { readAdapter } from '../../src/policy/peft.js';
import { SafetensorsFile } from '../../src/policy/safetensors.js';
import { peftNames } from '../../src/policy/weight-names.js';
import { temporaryFolder } from '../temporary-folder.js';
import {
  allGradients,
  allValues,
  fixture,
  normals,
  openPolicy,
  packedBatch,
  randomTrees,
  readSafetensors,
  responseCount,
  shakeAdapter,
} from './gemma-helpers.js';

let folder: string;
beforeEach(() => {
  folder = temporaryFolder();
});

type Header = Record<string, { dtype?: unknown; shape?: unknown; data_offsets?: unknown }>;

function split(path: string): { header: Header; data: Buffer } {
  const bytes = readFileSync(path);
  const length = Number(bytes.readBigUInt64LE());
  return { header: JSON.parse(bytes.toString('utf8', 8, 8 + length)), data: bytes.subarray(8 + length) };
}

function join64(header: string | Buffer, data: Uint8Array): Buffer {
  const bytes = Buffer.from(header);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(bytes.length));
  return Buffer.concat([length, bytes, data]);
}

/** A copy of the tiny checkpoint with its weights file changed. */
function tinyWith(change: (header: Header, data: Buffer) => void): string {
  const target = join(folder, 'tiny');
  cpSync(fixture('gemma-tiny'), target, { recursive: true });
  const path = join(target, 'model.safetensors');
  const { header, data } = split(path);
  const copy = Buffer.from(data);
  change(header, copy);
  writeFileSync(path, join64(JSON.stringify(header), copy));
  return target;
}

async function openingFails(model: string, text: RegExp): Promise<void> {
  const error = await openPolicy(model, { threads: 1 }).then(
    (policy) => policy.dispose(),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(InputError);
  expect((error as Error).message).toMatch(text);
}

const NORM = 'model.norm.weight';
const QUERY = 'model.layers.1.self_attn.q_proj.weight';

describe('a bad weights file is refused by file and tensor', () => {
  it.each<[string, (header: Header, data: Buffer) => void, RegExp]>([
    [
      'missing tensor',
      (h) => {
        h['model.norm.gone'] = h[NORM];
        delete h[NORM];
      },
      /"model\.norm\.gone": not part of this Gemma/,
    ],
    [
      'wrong shape',
      (h) => {
        h[QUERY].shape = [48, 64];
      },
      /"model\.layers\.1\.self_attn\.q_proj\.weight": has shape \[48, 64\], but .* \[64, 48\]/,
    ],
    [
      'size unlike shape',
      (h) => {
        h[QUERY].shape = [64, 47];
      },
      /tensor "model.*q_proj.*": has 12288 bytes where shape \[64, 47\] of F32 needs 12032/,
    ],
    [
      'unknown dtype',
      (h) => {
        Object.assign(h[NORM], { dtype: 'I64', shape: [24] });
      },
      /model\.norm\.weight.*"I64" is not supported/,
    ],
    [
      'offset past the end',
      (h) => {
        h[NORM].data_offsets = [209664, 309856];
      },
      /model\.norm\.weight.*do not lie in/,
    ],
    [
      'reversed offsets',
      (h) => {
        h[NORM].data_offsets = [209856, 209664];
      },
      /model\.norm\.weight.*do not lie in/,
    ],
    [
      'overlap',
      (h) => {
        h['model.layers.0.input_layernorm.weight'].data_offsets = [0, 192];
      },
      /overlaps another/,
    ],
    [
      'hole',
      (h) => {
        h[NORM] = { dtype: 'F32', shape: [0], data_offsets: [209856, 209856] };
      },
      /model\.norm\.weight": begins at byte 209856 of the data, not at 209664; there is a hole/,
    ],
    [
      'negative offset',
      (h) => {
        h[NORM].data_offsets = [-4, 188];
      },
      /model\.norm\.weight": has data_offsets that are not two whole numbers/,
    ],
    [
      'huge shape',
      (h) => {
        h[NORM].shape = [2 ** 40, 2 ** 40];
      },
      /model\.norm\.weight": has 192 bytes where shape \[\d.*\] of F32 needs \d/,
    ],
    [
      'overflowing shape',
      (h) => {
        h[NORM].shape = Array(8).fill(2 ** 32);
      },
      /model\.norm\.weight": has 192 bytes where shape \[\d.*\] of F32 needs \d/,
    ],
    [
      'field of the wrong type',
      (h) => {
        h[NORM].shape = '48';
      },
      /model\.norm\.weight": has a shape that is not a list of whole numbers/,
    ],
    [
      'missing field',
      (h) => {
        delete h[NORM].dtype;
      },
      /model\.norm\.weight": has no dtype in the header/,
    ],
    [
      'NaN',
      (h, data) => data.writeFloatLE(Number.NaN, (h[QUERY].data_offsets as number[])[0] + 40),
      /q_proj\.weight": holds NaN/,
    ],
    [
      'infinity',
      (h, data) => data.writeFloatLE(Number.POSITIVE_INFINITY, (h[NORM].data_offsets as number[])[0]),
      /norm\.weight": holds NaN or infinity/,
    ],
  ])('%s', async (_, change, text) => {
    await openingFails(tinyWith(change), text);
  });

  it('missing and truncated', async () => {
    const target = tinyWith(() => {});
    const path = join(target, 'model.safetensors');
    const size = readFileSync(path).length;
    for (const keep of [size - 1, size - 4096, 1000, 8, 3, 0]) {
      truncateSync(path, keep);
      await openingFails(target, /model\.safetensors[:,] /);
    }
    rmSync(path);
    await openingFails(target, /neither model\.safetensors/);
  });

  it('a header that lies about its length costs no memory', async () => {
    const target = tinyWith(() => {});
    const path = join(target, 'model.safetensors');
    const bytes = readFileSync(path);
    for (const length of [2n ** 40n, 2n ** 64n - 1n, BigInt(bytes.length)]) {
      bytes.writeBigUInt64LE(length);
      writeFileSync(path, bytes);
      await openingFails(target, /says its header has \d+ bytes where \d+ are left/);
    }
  });

  it('a header that JSON.parse would make a hundred times as large costs no memory', async () => {
    const target = tinyWith(() => {});
    const path = join(target, 'model.safetensors');
    writeFileSync(path, join64('{"a":'.repeat(2e6), Buffer.alloc(0)));
    const before = process.memoryUsage().rss;
    await openingFails(target, /nested more than 3 levels deep/);
    // The text takes 10 MB, in bytes and as a string; parsed it took 230.
    expect(process.memoryUsage().rss - before).toBeLessThan(100e6);
  });

  it('a header that is not JSON of the right form', async () => {
    const target = tinyWith(() => {});
    const entry = '"dtype":"F32","shape":[],"data_offsets":[0,4]';
    for (const [header, message] of [
      ['', /bad header: Unexpected end/],
      ['[]', /its header is not a JSON object/],
      ['{', /bad header: /],
      ['{}x', /bad header: /],
      ['{"a"', /bad header: /],
      ['{"a":1}', /tensor "a": is not a JSON object/],
      ['{"a\\q":{}}', /bad header: /],
      ['{"__metadata__":{"x":1}}', /__metadata__ values are not all text/],
      ['{"__metadata__":["x"]}', /__metadata__ values are not all text/],
      ['{"__metadata__":{},"__metadata__":{}}', /tensor "__metadata__": is there twice/],
      ['{"\\ud800":{}}', /has no dtype/],
      [`{"a":{${entry},"shape":[]}}`, /tensor "a": has shape twice/],
      [`{"a":{${entry}},"b":{${entry}},"\\u0061":{${entry}}}`, /tensor "a": is there twice/],
      [`{"a":{${entry},"note":{"x\\"":"[[[[","y":1}}}`, /tensor "a": has the unknown key "note"/],
      [`{"a":{${entry.replace('4]', '4,8]')}}}`, /tensor "a": has data_offsets that are not two/],
      ['\ufeff{}', /bad header: /],
      ['{"a":{"shape":[0],"x', /bad header: /],
      ['{"a":{"shape":[0],"x\\', /bad header: /],
      [Buffer.from('{"\xff":{}}', 'latin1'), /its header is not UTF-8/],
      ['{"a":{"b":{"c":[', /nested more than 3 levels deep/],
    ] as const) {
      writeFileSync(join(target, 'model.safetensors'), join64(header, Buffer.alloc(0)));
      await openingFails(target, message);
      expect(() => new SafetensorsFile(join(target, 'model.safetensors'))).toThrow(message);
    }
  });

  it('tensors twice, or in two shards', async () => {
    const target = join(folder, 'odd');
    cpSync(fixture('gemma-odd'), target, { recursive: true });
    const first = join(target, 'model-00001-of-00003.safetensors');
    const { header, data } = split(first);
    const twice = JSON.stringify(header).replace(
      /^\{/,
      '{"model.embed_tokens.weight":{"dtype":"BF16","shape":[131,37],"data_offsets":[0,9694]},',
    );
    writeFileSync(first, join64(twice, data));
    await openingFails(target, /model-00001.*, tensor "model\.embed_tokens\.weight": is there twice/);
    const third = join(target, 'model-00003-of-00003.safetensors');
    const last = split(third);
    const size = last.data.length;
    last.header['model.embed_tokens.weight'] = { dtype: 'BF16', shape: [131, 37], data_offsets: [size, size + 9694] };
    writeFileSync(third, join64(JSON.stringify(last.header), Buffer.concat([last.data, Buffer.alloc(9694)])));
    writeFileSync(first, join64(JSON.stringify(header), data));
    await openingFails(target, /model-0000[13].*embed_tokens\.weight": is in .*model-0000[13]/);
  });

  it('a missing tensor in a file without it', async () => {
    const target = tinyWith(() => {});
    const path = join(target, 'model.safetensors');
    const { header, data } = split(path);
    // The final norm is last in the file, so it can be cut off whole.
    const [begin] = header[NORM].data_offsets as number[];
    delete header[NORM];
    writeFileSync(path, join64(JSON.stringify(header), data.subarray(0, begin)));
    await openingFails(target, /tensor "model\.norm\.weight": missing/);
  });
});

describe('lm_head.weight', () => {
  const withHead = (change: (head: Buffer) => void) => {
    const target = join(folder, 'tiny');
    cpSync(fixture('gemma-tiny'), target, { recursive: true });
    const path = join(target, 'model.safetensors');
    const { header, data } = split(path);
    const [begin, end] = header['model.embed_tokens.weight'].data_offsets as number[];
    const head = Buffer.from(data.subarray(begin, end));
    change(head);
    header['lm_head.weight'] = {
      dtype: 'F32',
      shape: [192, 48],
      data_offsets: [data.length, data.length + head.length],
    };
    writeFileSync(path, join64(JSON.stringify(header), Buffer.concat([data, head])));
    return target;
  };

  it('is accepted where it equals the embedding, refused where not', async () => {
    (
      await openPolicy(
        withHead(() => {}),
        { threads: 1 },
      )
    ).dispose();
    await openingFails(
      withHead((head) => head.writeFloatLE(3, 0)),
      /"lm_head\.weight": differs from model\.embed_tokens/,
    );
  });
});

describe('an adapter', () => {
  it('comes back from disk as it was, in PEFT’s names, and is written whole', async () => {
    const trees = packedBatch(randomTrees(3, 192));
    const saved = join(folder, 'out', 'adapter');
    using policy = await openPolicy(fixture('gemma-tiny'), { threads: 1 });
    await policy.addAdapter({ rank: 3, alpha: 7, targets: ['v_proj', 'q_proj'], rankStabilised: true });
    await shakeAdapter(policy);
    await policy.saveAdapter(saved, { baseModel: 'google/gemma-2b' });
    expect(readdirSync(join(folder, 'out'))).toEqual(['adapter']);

    using again = await openPolicy(fixture('gemma-tiny'), { threads: 1 });
    await again.loadAdapter(saved);
    expect(await allValues(again)).toEqual(await allValues(policy));
    expect(await again.logProbabilities(trees, 'policy')).toEqual(await policy.logProbabilities(trees, 'policy'));

    const tensors = readSafetensors(join(saved, 'adapter_model.safetensors'));
    expect([...tensors.keys()].sort()).toEqual(
      [0, 1].flatMap((n) =>
        ['q_proj', 'v_proj'].flatMap((p) =>
          ['A', 'B'].map((x) => `base_model.model.model.layers.${n}.self_attn.${p}.lora_${x}.weight`),
        ),
      ),
    );
    expect(JSON.parse(readFileSync(join(saved, 'adapter_config.json'), 'utf8'))).toMatchObject({
      peft_type: 'LORA',
      task_type: 'CAUSAL_LM',
      base_model_name_or_path: 'google/gemma-2b',
      r: 3,
      lora_alpha: 7,
      use_rslora: true,
      target_modules: ['v_proj', 'q_proj'],
    });
    await expect(policy.saveAdapter(saved)).rejects.toThrow(/already exists/);
  });

  it('leaves nothing behind when it cannot be saved', async () => {
    using policy = await openPolicy('random:tiny?layers=1', { threads: 1 });
    await expect(policy.saveAdapter(join(folder, 'none'))).rejects.toThrow(InputError);
    expect(existsSync(join(folder, 'none'))).toBe(false);
  });

  const model = { layers: 2, multimodal: false };
  const withConfig = (change: Record<string, unknown>) => {
    const target = join(folder, 'adapter');
    cpSync(fixture('gemma-tiny/adapter'), target, { recursive: true });
    const path = join(target, 'adapter_config.json');
    writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, 'utf8')), ...change }));
    return target;
  };

  it('has its targets as a list, a pattern over paths, or all-linear', () => {
    const all = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'];
    expect(readAdapter(fixture('gemma-tiny/adapter'), model).settings).toEqual({
      rank: 4,
      alpha: 8,
      targets: all,
      rankStabilised: false,
    });
    const targets = (wanted: unknown) => readAdapter(withConfig({ target_modules: wanted }), model).settings.targets;
    expect(targets('all-linear')).toEqual(all);
    expect(targets(['v_proj', 'self_attn.q_proj'])).toEqual(['q_proj', 'v_proj']);
    // How PEFT saves all-linear.
    expect(targets([0, 1].map((n) => `model.layers.${n}.self_attn.q_proj`))).toEqual(['q_proj']);
    expect(targets('.*\\.(q|v)_proj')).toEqual(['q_proj', 'v_proj']);
    expect(targets('model\\.layers\\.\\d+\\.mlp\\..*')).toEqual(['gate_proj', 'up_proj', 'down_proj']);
  });

  it.each<[string, unknown, RegExp]>([
    ['peft_type', 'IA3', /only LORA/],
    ['task_type', 'TOKEN_CLS', /CAUSAL_LM/],
    ['r', 0, /must be at least 1, not 0/],
    ['r', '4', /must be a number, not "4"/],
    ['lora_alpha', null, /must be a number, not null/],
    ['target_modules', ['q_porj'], /unknown target "q_porj"; valid are q_proj, k_proj/],
    ['target_modules', [], /empty/],
    ['target_modules', ['lm_head'], /ties/],
    ['target_modules', ['embed_tokens'], /ties/],
    ['target_modules', '.*', /ties/],
    ['target_modules', 'x(', /regular expression/],
    ['target_modules', 'nothing', /unknown target "nothing"/],
    ['bias', 'all', /"none"/],
    ['use_dora', true, /DoRA/],
    ['lora_bias', true, /biases/],
    ['modules_to_save', ['lm_head'], /whole modules/],
    ['target_modules', '(?P<a>q)_proj', /regular expression/],
    ['target_modules', '.*q_proj\\Z', /regular expression/],
    ['rank_pattern', { q_proj: 0 }, /at least 1/],
    ['rank_pattern', { 'q(': 8 }, /regular expression/],
    ['alpha_pattern', { q_proj: '8' }, /must be a number/],
    ['layers_to_transform', [-1], /at least 0/],
    ['layers_pattern', 'layers', /needs layers_to_transform/],
    ['fan_in_fan_out', true, /transposed/],
    ['exclude_modules', 7, /exclude_modules/],
    ['init_lora_weights', 'pissa', /base weights/],
    ['a_future_option', 3, /not known/],
  ])('whose config has %s = %j is refused by name', (field, value, text) => {
    const read = () => readAdapter(withConfig({ [field]: value }), model);
    expect(read).toThrow(InputError);
    expect(read).toThrow(text);
    // Within a list or an object it is the entry.
    expect(read).toThrow(`field "${field}`);
  });

  it('that adapts nothing, or that PEFT itself would not read, is refused by name', () => {
    const read = (change: Record<string, unknown>) => () => readAdapter(withConfig(change), model);
    expect(read({ layers_to_transform: [2] })).toThrow(/"target_modules".*nothing would be adapted/);
    expect(read({ exclude_modules: '.*' })).toThrow(/"target_modules".*nothing would be adapted/);
    expect(read({ target_modules: '.*_proj', layers_to_transform: 0 })).toThrow(/"layers_to_transform".*as in PEFT/);
    expect(read({ layers_to_transform: 0, layers_pattern: '(layers' })).toThrow(/"layers_pattern".*expression/);
    // Of one that sees images: PEFT would read these and do nothing with them.
    const seeing = (change: Record<string, unknown>) => () =>
      readAdapter(withConfig(change), { layers: 2, multimodal: true });
    for (const old of ['language_model\\.model\\.layers.*', 'vision_tower.vision_model.encoder.layers.0.mlp.fc1'])
      for (const field of ['rank_pattern', 'alpha_pattern'])
        expect(seeing({ [field]: { [old]: 4 } })).toThrow(new RegExp(`"${field}".*older transformers`));
    expect(seeing({ alpha_pattern: { 'model.language_model.layers.0.self_attn.q_proj': 4 } })).not.toThrow();
  });

  it('whose weights do not fit is refused by file and tensor, with both shapes', async () => {
    using policy = await openPolicy(fixture('gemma-tiny'), { threads: 1 });
    await expect(policy.loadAdapter(withConfig({ r: 8 }))).rejects.toThrow(
      /adapter_model\.safetensors[:,] tensor "base_model\.model\.model\.layers\.0\.self_attn\.q_proj\.lora_A\.weight": has shape \[4, 48\], but .* \[8, 48\]/,
    );
    const before = process.resourceUsage().maxRSS;
    await expect(policy.loadAdapter(withConfig({ r: 65536 }))).rejects.toThrow(/\[65536, 48\]/);
    // In KiB: an adapter of that rank would take 400 MB and more.
    expect(process.resourceUsage().maxRSS - before).toBeLessThan(100_000);
    await expect(policy.loadAdapter(withConfig({ target_modules: ['q_proj'] }))).rejects.toThrow(
      /not part of this adapter/,
    );

    const swapped = withConfig({});
    const path = join(swapped, 'adapter_model.safetensors');
    const { header, data } = split(path);
    const name = 'base_model.model.model.layers.1.mlp.up_proj.lora_B.weight';
    header[name].shape = [4, 96];
    writeFileSync(path, join64(JSON.stringify(header), data));
    await expect(policy.loadAdapter(swapped)).rejects.toThrow(
      /up_proj\.lora_B\.weight": has shape \[4, 96\], but .* \[96, 4\]/,
    );
    rmSync(path);
    await expect(policy.loadAdapter(swapped)).rejects.toThrow(/adapter_model\.safetensors: no such file/);
  });
});

describe('a state file', () => {
  const trees = randomTrees(3, 97);
  const open = async (rank = 3, dtype: 'float32' | 'float64' = 'float32') => {
    const policy = await openPolicy('random:tiny?layers=1&vocab=97', { threads: 1, dtype });
    await policy.addAdapter({ rank, alpha: 7 }, { optimizer: { betas: [0.9, 0.99], epsilon: 1e-8, weightDecay: 0.1 } });
    return policy;
  };
  const steps = async (policy: GemmaPolicy, from: number, to: number) => {
    for (let i = from; i < to; i++) {
      await policy.forward(packedBatch(trees));
      await policy.backward(normals(responseCount(trees), i), new Int32Array(3));
      await policy.step(Float64Array.of(1), { learningRate: 1e-2 });
    }
  };

  it.each(['float32', 'float64'] as const)('continues AdamW bit for bit, gradients discarded (%s)', async (dtype) => {
    const file = join(folder, 'state.safetensors');
    using straight = await open(3, dtype);
    await steps(straight, 0, 3);
    await straight.saveState(file);
    await steps(straight, 3, 6);
    using resumed = await open(3, dtype);
    await resumed.forward(packedBatch(trees));
    await resumed.backward(normals(responseCount(trees)), new Int32Array(3));
    await resumed.loadState(file);
    await steps(resumed, 3, 6);
    expect(await allValues(resumed)).toEqual(await allValues(straight));
  });

  it('keeps the mean of the adapters after each step, as it is in their place while it is used', async () => {
    const file = join(folder, 'state.safetensors');
    using policy = await open(3, 'float64');
    const seen: number[][] = [];
    const average = async (of: GemmaPolicy, from: number, to: number) => {
      for (let i = from; i < to; i++) {
        await of.forward(packedBatch(trees));
        await of.backward(normals(responseCount(trees), i), new Int32Array(3));
        await of.step(Float64Array.of(1), { learningRate: 1e-2, average: i >= 2 });
        if (of === policy) seen.push([...(await allValues(of))]);
      }
    };
    await average(policy, 0, 2);
    // There is none yet.
    expect(await policy.averaged(() => allValues(policy))).toEqual(await allValues(policy));
    await average(policy, 2, 5);
    await policy.saveState(file);
    await average(policy, 5, 8);
    const last = await allValues(policy);
    expect([...last]).toEqual(seen.at(-1));
    const score = () => policy.logProbabilities(packedBatch(trees), 'policy');
    const [mean, scores] = await policy.averaged(async () => [await allValues(policy), await score()]);
    const kept = seen.slice(2);
    const expected = last.map((_, i) => kept.reduce((sum, values) => sum + values[i], 0) / kept.length);
    const distance = (from: Float64Array) => Math.max(...mean.map((value, i) => Math.abs(value - from[i])));
    expect(distance(expected)).toBeLessThan(1e-15);
    expect(distance(last)).toBeGreaterThan(1e-3);
    expect(await allValues(policy)).toEqual(last);
    expect(await score()).not.toEqual(scores);

    await expect(policy.averaged(() => policy.saveState(file))).rejects.toThrow('the average stands in the place of');
    const taken = policy.averaged(() => policy.step(Float64Array.of(1), { learningRate: 1 }) as Promise<never>);
    await expect(taken).rejects.toThrow('the average stands in the place of');
    // What is thrown in between leaves the adapter as it was.
    expect(await allValues(policy)).toEqual(last);

    using resumed = await open(3, 'float64');
    await resumed.loadState(file);
    await average(resumed, 5, 8);
    expect(await allValues(resumed)).toEqual(last);
    expect(await resumed.averaged(() => allValues(resumed))).toEqual(mean);
    await resumed.averaged(() => resumed.saveAdapter(join(folder, 'mean')));
    using loaded = await openPolicy('random:tiny?layers=1&vocab=97', { threads: 1, dtype: 'float64' });
    await loaded.loadAdapter(join(folder, 'mean'));
    expect(await allValues(loaded)).toEqual(mean.map(Math.fround));
  });

  it('of another shape or type, or cut short, is refused and changes nothing', async () => {
    const file = join(folder, 'state.safetensors');
    using small = await open(2);
    await small.saveState(file);
    using policy = await open(3);
    await steps(policy, 0, 1);
    const before = await allValues(policy);
    await expect(policy.loadState(file)).rejects.toThrow(/state\.safetensors: tensor "values": is not of this/);
    using double = await open(3, 'float64');
    await double.saveState(file);
    await expect(policy.loadState(file)).rejects.toThrow(InputError);
    truncateSync(file, 1000);
    await expect(policy.loadState(file)).rejects.toThrow(/state\.safetensors/);
    expect(await allValues(policy)).toEqual(before);
    await expect(policy.saveState(join(folder, 'none', 'state'))).rejects.toThrow(InputError);
  });

  it('discardGradients empties the accumulators and moves nothing', async () => {
    using policy = await open();
    const before = await allValues(policy);
    await policy.forward(packedBatch(trees));
    await policy.backward(normals(responseCount(trees)), new Int32Array(3));
    await policy.discardGradients();
    expect((await allGradients(policy, Float64Array.of(1))).every((g) => g === 0)).toBe(true);
    expect(await allValues(policy)).toEqual(before);
  });
});

describe('a bad argument is an InputError that names it', () => {
  it('batches', async () => {
    using policy = await openPolicy('random:tiny?layers=1&vocab=50', { threads: 1 });
    const score = (batch: Parameters<typeof policy.forward>[0]) => policy.logProbabilities(batch, 'policy');
    const good = packedBatch([{ prompt: [1, 2], responses: [[3], [4]] }]);
    await expect(score({ ...good, tokens: Int32Array.of(1, 2, 3, 50) })).rejects.toThrow(
      /tokens\[3\] is 50, outside the vocabulary of 50/,
    );
    await expect(score({ ...good, tokens: Int32Array.of(1, -2, 3, 4) })).rejects.toThrow(/tokens\[1\] is -2/);
    await expect(score({ ...good, tokens: Int32Array.of(1, 2, 3) })).rejects.toThrow(
      /tokens has 3 entries, but the lengths add up to 4/,
    );
    await expect(score({ ...good, responseLengths: Int32Array.of(2, 0) })).rejects.toThrow(/responseLengths\[1\]/);
    await expect(score({ ...good, promptLengths: Int32Array.of(0) })).rejects.toThrow(/promptLengths\[0\]/);
    await expect(score({ ...good, responseCounts: Int32Array.of(0) })).rejects.toThrow(/responseCounts\[0\]/);
    await expect(score(packedBatch([]))).rejects.toThrow(/no trees/);
    await expect(score(good)).resolves.toHaveLength(2);
  });

  it('calls out of order, and arrays of the wrong length', async () => {
    using policy = await openPolicy('random:tiny?layers=1&vocab=50', { threads: 1 });
    const batch = packedBatch([{ prompt: [1, 2], responses: [[3], [4]] }]);
    await expect(policy.forward(batch)).rejects.toThrow(/addAdapter first/);
    await expect(policy.freezeReference()).rejects.toThrow(/addAdapter first/);
    await expect(policy.addAdapter({ rank: 2, alpha: 2, targets: ['q'] })).rejects.toThrow(
      /field "lora\.targets": unknown target "q"; valid are q_proj/,
    );
    await policy.addAdapter({ rank: 2, alpha: 2 });
    await expect(policy.backward(new Float64Array(2), new Int32Array(1))).rejects.toThrow(/forward pass/);
    await policy.forward(batch);
    await expect(policy.backward(new Float64Array(3), new Int32Array(1))).rejects.toThrow(/3 entries for 2 responses/);
    await expect(policy.backward(new Float64Array(2), new Int32Array(2))).rejects.toThrow(/2 entries for 1 trees/);
    await expect(policy.backward(new Float64Array(2), Int32Array.of(1))).rejects.toThrow(
      /accumulator 1 does not exist/,
    );
    await policy.backward(new Float64Array(2), new Int32Array(1));
    await expect(policy.step(new Float64Array(2), { learningRate: 1 })).rejects.toThrow(/2 entries for 1 accumulators/);
    await expect(policy.step(new Float64Array(1), { learningRate: Number.NaN })).rejects.toThrow(/learningRate/);
    await expect(policy.native.load('x' as unknown as [], peftNames(false))).rejects.toThrow(
      /files: expected an array/,
    );
  });
});
