import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { InputError } from '../../src/errors.js';
import { checkpointFiles } from '../../src/policy/checkpoint-files.js';
import { parseGemmaConfig, parseRandomModel, resolveGemma } from '../../src/policy/gemma-config.js';
import { temporaryFolder } from '../temporary-folder.js';
import { fixture, fixtureJson } from './gemma-helpers.js';

const tiny = fixtureJson<Record<string, unknown>>('gemma-tiny/config.json');

/** gemma-2b's config.json as transformers 4 wrote it. */
const gemma2b = {
  architectures: ['GemmaForCausalLM'],
  attention_bias: false,
  head_dim: 256,
  hidden_act: 'gelu',
  hidden_activation: null,
  hidden_size: 2048,
  intermediate_size: 16384,
  max_position_embeddings: 8192,
  model_type: 'gemma',
  num_attention_heads: 8,
  num_hidden_layers: 18,
  num_key_value_heads: 1,
  rms_norm_eps: 1e-6,
  rope_scaling: null,
  rope_theta: 10000.0,
  vocab_size: 256000,
};

describe('config.json', () => {
  it('is read with old and new names', () => {
    expect(parseGemmaConfig(gemma2b, 'config.json')).toEqual(parseRandomModel('random:gemma-2b').config);
    expect(parseGemmaConfig(tiny, 'config.json')).toEqual({
      layers: 2,
      hidden: 48,
      heads: 4,
      keyValueHeads: 1,
      headSize: 16,
      mlp: 96,
      vocabulary: 192,
      rmsEpsilon: 1e-6,
      norms: 'before',
      queryKeyNorms: false,
      attentionScale: 1 / 4,
      attentionCap: 0,
      logitCap: 0,
      attentionKinds: [{ window: 0, ropeTheta: 10000, ropeFactor: 1 }],
      layerPattern: [0],
    });
    const ropeOf = (change: object) => parseGemmaConfig({ ...gemma2b, ...change }, '').attentionKinds[0];
    expect(ropeOf({ rope_theta: 500 })).toMatchObject({ ropeTheta: 500, ropeFactor: 1 });
    expect(ropeOf({ rope_parameters: { rope_type: 'default', rope_theta: 7 } }).ropeTheta).toBe(7);
    expect(ropeOf({ rope_scaling: { type: 'linear', factor: 2 } })).toMatchObject({ ropeTheta: 10000, ropeFactor: 2 });
  });

  it('of Gemma 2 and 3 is read with old and new names', () => {
    // As the files of google/gemma-2-2b and gemma-3-1b-pt on the hub have it.
    const gemma2 = {
      model_type: 'gemma2',
      attn_logit_softcapping: 50.0,
      final_logit_softcapping: 30.0,
      head_dim: 256,
      hidden_act: 'gelu_pytorch_tanh',
      hidden_size: 2304,
      intermediate_size: 9216,
      num_attention_heads: 8,
      num_hidden_layers: 26,
      num_key_value_heads: 4,
      query_pre_attn_scalar: 256,
      rms_norm_eps: 1e-6,
      rope_theta: 10000.0,
      sliding_window: 4096,
      vocab_size: 256000,
    };
    expect(parseGemmaConfig(gemma2, '')).toEqual(parseRandomModel('random:gemma-2-2b').config);
    expect(parseGemmaConfig(gemma2, '').layerPattern).toEqual([1, 0]);
    const gemma3 = {
      model_type: 'gemma3_text',
      attn_logit_softcapping: null,
      final_logit_softcapping: null,
      head_dim: 256,
      hidden_size: 1152,
      intermediate_size: 6912,
      num_attention_heads: 4,
      num_hidden_layers: 26,
      num_key_value_heads: 1,
      query_pre_attn_scalar: 256,
      rms_norm_eps: 1e-6,
      rope_local_base_freq: 10000,
      rope_scaling: null,
      rope_theta: 1000000,
      sliding_window: 512,
      sliding_window_pattern: 6,
      vocab_size: 262144,
    };
    expect(parseGemmaConfig(gemma3, '')).toEqual(parseRandomModel('random:gemma-3-1b').config);
    const scaled = parseRandomModel('random:gemma-3-4b').config;
    expect(scaled.attentionKinds).toEqual([
      { window: 0, ropeTheta: 1e6, ropeFactor: 8 },
      { window: 1024, ropeTheta: 1e4, ropeFactor: 1 },
    ]);
    expect(scaled.layerPattern).toEqual([1, 1, 1, 1, 1, 0]);

    const { rope_local_base_freq: _, rope_theta: __, ...newer } = gemma3;
    const rope_parameters = {
      full_attention: { rope_type: 'linear', factor: 8, rope_theta: 1e6 },
      sliding_attention: { rope_type: 'default', rope_theta: 1e4 },
    };
    expect(parseGemmaConfig({ ...newer, rope_parameters }, '').attentionKinds).toEqual([
      { window: 0, ropeTheta: 1e6, ropeFactor: 8 },
      { window: 512, ropeTheta: 1e4, ropeFactor: 1 },
    ]);
    // A base that is null is one that is left out.
    expect(parseGemmaConfig({ ...gemma3, rope_theta: null, rope_local_base_freq: null }, '')).toEqual(
      parseGemmaConfig(gemma3, ''),
    );
    const { attn_logit_softcapping: ___, ...uncapped } = gemma2;
    for (const [config, text] of [
      [uncapped, /"attn_logit_softcapping".*missing/],
      [{ ...gemma2, sliding_window: null }, /"sliding_window".*missing/],
      [{ ...gemma2, layer_types: ['full_attention'] }, /"layer_types".*1 entries for 26 layers/],
      [{ ...gemma2, layer_types: ['chunked_attention'] }, /layer_types/],
      [{ ...gemma2, sliding_window_pattern: 3 }, /"sliding_window_pattern".*must be 2/],
      [{ ...gemma3, attn_logit_softcapping: 50 }, /"attn_logit_softcapping".*another Gemma/],
      [{ ...gemma3, sliding_window_pattern: null }, /"sliding_window_pattern"/],
      [{ ...gemma2, hidden_activation: 'gelu' }, /"hidden_activation".*exact form/],
      [{ ...newer, rope_parameters: { rope_theta: 7 } }, /"rope_parameters".*"full_attention"/],
      [{ ...gemma2, rope_parameters }, /"rope_parameters".*all layers/],
      [{ ...newer, rope_parameters, rope_scaling: { rope_type: 'linear', factor: 2 } }, /"rope_scaling".*beside/],
      [
        { ...gemma3, rope_scaling: { type: 'linear', factor: 8 } },
        /"rope_scaling\.type".*some versions[\s\S]*rope_type/,
      ],
      [{ ...gemma3, use_bidirectional_attention: true }, /causal/],
      [{ ...newer, rope_parameters: { full_attention: { rope_type: 'yarn' } } }, /rope_parameters/],
    ] as const)
      expect(() => parseGemmaConfig(config, 'f')).toThrow(text);
  });

  it.each([
    ['model_type', 'gemma3n', /must be one of gemma, gemma2/],
    ['model_type', 'llama', /must be one of gemma, gemma2/],
    ['model_type', undefined, /must be one of gemma, gemma2/],
    ['sliding_window', 512, /windows/],
    ['attn_logit_softcapping', 50, /soft-capping/],
    ['final_logit_softcapping', 30, /soft-capping/],
    ['attention_bias', true, /bias/],
    ['tie_word_embeddings', false, /ties/],
    ['quantization_config', { bits: 4 }, /quantised/],
    ['hidden_act', 'silu', /gelu_pytorch_tanh/],
    ['hidden_activation', 'relu', /gelu_pytorch_tanh/],
    ['hidden_size', '2048', /must be a number/],
    ['vocab_size', undefined, /is missing/],
    ['num_hidden_layers', 0, /at least 1/],
    ['head_dim', 15.5, /whole number/],
    ['head_dim', 15, /even/],
    ['num_key_value_heads', 3, /does not divide/],
    ['rms_norm_eps', -1, /above 0/],
    ['rope_theta', 'big', /must be a number/],
  ])('with %s = %j is refused by name', (field, value, text) => {
    const parse = () => parseGemmaConfig({ ...gemma2b, [field]: value }, 'folder/config.json');
    expect(parse).toThrow(InputError);
    expect(parse).toThrow(text);
    expect(parse).toThrow(`folder/config.json, field "${field}"`);
  });

  it('of a Gemma 3 that sees images is that of its language model', () => {
    // As the file of google/gemma-3-4b-pt on the hub has it, which leaves out transformers' defaults.
    const gemma3 = {
      architectures: ['Gemma3ForConditionalGeneration'],
      boi_token_index: 255999,
      eoi_token_index: 256000,
      eos_token_id: [1, 106],
      image_token_index: 262144,
      initializer_range: 0.02,
      mm_tokens_per_image: 256,
      model_type: 'gemma3',
      text_config: {
        hidden_size: 2560,
        intermediate_size: 10240,
        model_type: 'gemma3_text',
        num_hidden_layers: 34,
        rope_scaling: { factor: 8.0, rope_type: 'linear' },
        sliding_window: 1024,
      },
      torch_dtype: 'bfloat16',
      vision_config: { hidden_size: 1152, model_type: 'siglip_vision_model', num_hidden_layers: 27 },
    };
    expect(parseGemmaConfig(gemma3, '')).toEqual(parseRandomModel('random:gemma-3-4b').config);
    const text = gemma3.text_config;
    for (const [change, field, problem] of [
      [{ text_config: undefined }, 'text_config', /is missing/],
      [{ text_config: null }, 'text_config', /is missing/],
      [{ text_config: { ...text, model_type: 'gemma3n_text' } }, 'text_config.model_type', /must be gemma3_text/],
      [{ text_config: { ...text, hidden_size: undefined } }, 'text_config.hidden_size', /is missing/],
      [{ text_config: { ...text, num_hidden_layers: undefined } }, 'text_config.num_hidden_layers', /is missing/],
      [{ text_config: { ...text, sliding_window: undefined } }, 'text_config.sliding_window', /is missing/],
      [{ text_config: { ...text, num_attention_heads: 6 } }, 'text_config.num_key_value_heads', /does not divide/],
      [{ text_config: { ...text, final_logit_softcapping: 30 } }, 'text_config.final_logit_softcapping', /another/],
      [{ text_config: { ...text, tie_word_embeddings: false } }, 'text_config.tie_word_embeddings', /ties/],
      [{ text_config: { ...text, attention_bias: true } }, 'text_config.attention_bias', /biases/],
      [{ tie_word_embeddings: false }, 'tie_word_embeddings', /ties/],
      [{ quantization_config: { bits: 4 } }, 'quantization_config', /quantised/],
    ] as const) {
      const parse = () => parseGemmaConfig({ ...gemma3, ...change }, 'config.json');
      expect(parse).toThrow(problem);
      expect(parse).toThrow(`config.json, field "${field}"`);
    }
  });

  it('of a model that classifies is refused, with what to name in its place', () => {
    const merged = { ...tiny, architectures: ['GemmaForSequenceClassification'] };
    expect(() => parseGemmaConfig(merged, 'f')).toThrow(/field "architectures": is a reward model.*--adapter/s);
  });

  it('with another rotary type or no object at all is refused', () => {
    expect(() => parseGemmaConfig({ ...tiny, rope_parameters: { rope_type: 'yarn' } }, 'f')).toThrow(/yarn/);
    expect(() => parseGemmaConfig([1], 'f')).toThrow(InputError);
    expect(() => parseGemmaConfig(null, 'f')).toThrow(InputError);
  });
});

describe('random models', () => {
  it('are shapes with sizes replaced', () => {
    expect(parseRandomModel('random:tiny')).toMatchObject({
      config: { layers: 2, hidden: 64, heads: 4, keyValueHeads: 1, headSize: 16, mlp: 256, vocabulary: 1024 },
      seed: 0,
      standardDeviation: 0.2,
    });
    expect(parseRandomModel('random:gemma-2b?layers=6&vocab=64000&seed=3')).toMatchObject({
      config: { layers: 6, hidden: 2048, vocabulary: 64000, mlp: 16384 },
      seed: 3,
      standardDeviation: 0.02,
    });
  });

  it.each([
    ['random:large', /random:tiny or random:gemma-2b or .*random:gemma-3-270m/],
    ['random:toString', /no random model/],
    ['random:tiny?depth=3', /--model depth.*\n.*layers, vocab/],
    ['random:tiny?layers=x', /--model layers/],
    ['random:tiny?layers=', /--model layers/],
    ['random:tiny?layers=0', /--model layers/],
    ['random:tiny?layers=2&layers=3', /twice/],
    ['random:tiny?seed=-1', /--model seed/],
    ['random:tiny?heads=4&kv=3', /--model kv/],
    ['random:tiny?head=7', /--model head/],
  ])('%s is refused', (model, text) => {
    expect(() => parseRandomModel(model)).toThrow(InputError);
    expect(() => parseRandomModel(model)).toThrow(text);
  });
});

describe('a checkpoint folder', () => {
  let folder: string;
  beforeEach(() => {
    folder = temporaryFolder();
  });

  const copyOdd = () => {
    const target = join(folder, 'odd');
    cpSync(fixture('gemma-odd'), target, { recursive: true });
    return target;
  };

  it('gives its files, whole or in shards', () => {
    expect(resolveGemma(fixture('gemma-tiny'))).toMatchObject({
      kind: 'checkpoint',
      files: [fixture('gemma-tiny/model.safetensors')],
    });
    expect(checkpointFiles(fixture('gemma-odd'))).toHaveLength(3);
  });

  it('that is not there, or has no weights or broken JSON, is refused with what to do', () => {
    expect(() => resolveGemma(join(folder, 'nowhere'))).toThrow(
      /nowhere.config\.json: no such file\n.*model\.safetensors.*hub such as google\/gemma-2b/,
    );
    mkdirSync(join(folder, 'empty'));
    writeFileSync(join(folder, 'empty', 'config.json'), JSON.stringify(gemma2b));
    expect(() => resolveGemma(join(folder, 'empty'))).toThrow(/neither model\.safetensors nor/);
    writeFileSync(join(folder, 'empty', 'config.json'), '{"model_type": ');
    expect(() => resolveGemma(join(folder, 'empty'))).toThrow(/config\.json: is not JSON/);
  });

  it('whose shard is missing is refused with its name', () => {
    const odd = copyOdd();
    rmSync(join(odd, 'model-00002-of-00003.safetensors'));
    expect(() => checkpointFiles(odd)).toThrow(/index\.json.*missing: model-00002-of-00003\.safetensors/);
  });

  it('whose index has a tensor in the wrong shard, or a file elsewhere, is refused', () => {
    const odd = copyOdd();
    const file = join(odd, 'model.safetensors.index.json');
    const index = JSON.parse(readFileSync(file, 'utf8'));
    const moved = { ...index.weight_map, 'model.norm.weight': 'model-00001-of-00003.safetensors' };
    writeFileSync(file, JSON.stringify({ ...index, weight_map: moved }));
    expect(() => checkpointFiles(odd)).toThrow(/model-00001.*tensor "model\.norm\.weight".*not in this file/);
    writeFileSync(file, JSON.stringify({ weight_map: { 'model.norm.weight': '../model.safetensors' } }));
    expect(() => checkpointFiles(odd)).toThrow(/not the name of a safetensors file/);
    writeFileSync(file, JSON.stringify({ weight_map: {} }));
    expect(() => checkpointFiles(odd)).toThrow(/weight_map/);
    writeFileSync(file, JSON.stringify({ weights: {} }));
    expect(() => checkpointFiles(odd)).toThrow(/field "weight_map"/);
  });
});
