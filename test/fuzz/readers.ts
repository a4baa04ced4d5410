import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadPairs } from '../../src/data/pairs/dataset.js';
import { readSurvey } from '../../src/data/surveys/global-opinions.js';
import { opinionPairs } from '../../src/data/surveys/opinion-pairs.js';
import { openTokenizer } from '../../src/data/text/tokenizer.js';
import { InputError } from '../../src/errors.js';
import { GemmaPolicy } from '../../src/policy/gemma.js';
import { adapterFiles } from '../../src/policy/peft.js';
import { SafetensorsFile } from '../../src/policy/safetensors.js';
import { fileTarget, scratchFolder, type Target } from './target.js';

/** Every reader of files, by what it reads. */

async function loadAdapter(policy: GemmaPolicy, path: string): Promise<void> {
  using file = new SafetensorsFile(path);
  await policy.native.loadAdapter(file, 'model.').catch((error) => {
    // What GemmaPolicy makes of it; its own method wants a whole PEFT folder.
    throw error.code === 'NATIVE_INPUT' ? new InputError(error.message, { cause: error }) : error;
  });
}

const smallest = 'random:tiny?layers=1&hidden=8&heads=1&head=8&mlp=8&vocab=16';
const tokenizer = () => openTokenizer('random:tiny');
const loadTexts = (file: string) => loadPairs(file, { tokenizer, vocabulary: 1024, bos: 2, maxLength: 100 });
const lines = (...records: object[]) => Buffer.from(records.map((record) => `${JSON.stringify(record)}\n`).join(''));
const preferences = (name: string) =>
  readFileSync(fileURLToPath(new URL(`../fixtures/preferences/${name}`, import.meta.url)));

/** Where what a target starts from is made. */
function workFolder(): string {
  mkdirSync(scratchFolder(), { recursive: true });
  return scratchFolder();
}

/** A safetensors file of zeros. */
function zeros(shapes: Record<string, number[]>): Buffer {
  let place = 0;
  const entries = Object.entries(shapes).map(([name, shape]) => {
    const bytes = 4 * shape.reduce((product, n) => product * n, 1);
    place += bytes;
    return [name, { dtype: 'F32', shape, data_offsets: [place - bytes, place] }];
  });
  const header = Buffer.from(JSON.stringify(Object.fromEntries(entries)));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  return Buffer.concat([length, header, Buffer.alloc(place)]);
}

const modelConfig = Buffer.from(
  JSON.stringify({
    model_type: 'gemma',
    vocab_size: 4,
    hidden_size: 8,
    intermediate_size: 8,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    head_dim: 4,
    rms_norm_eps: 1e-6,
    rope_parameters: { rope_theta: 1e4, rope_type: 'default' },
    hidden_act: 'gelu',
    bos_token_id: 2,
  }),
);
const layer = 'model.layers.0';
const modelWeights = zeros({
  'model.embed_tokens.weight': [4, 8],
  [`${layer}.input_layernorm.weight`]: [8],
  [`${layer}.post_attention_layernorm.weight`]: [8],
  [`${layer}.self_attn.q_proj.weight`]: [8, 8],
  [`${layer}.self_attn.k_proj.weight`]: [4, 8],
  [`${layer}.self_attn.v_proj.weight`]: [4, 8],
  [`${layer}.self_attn.o_proj.weight`]: [8, 8],
  [`${layer}.mlp.gate_proj.weight`]: [8, 8],
  [`${layer}.mlp.up_proj.weight`]: [8, 8],
  [`${layer}.mlp.down_proj.weight`]: [8, 8],
  'model.norm.weight': [8],
});

async function openModel(file: string): Promise<void> {
  using _ = await GemmaPolicy.open(dirname(file), { threads: 1 });
}

const useTokenizer = (file: string) => {
  const tokenizer = openTokenizer(dirname(file));
  tokenizer.decode(tokenizer.encode('Is it so? é 😀 <eos>'));
};
/** As the tiny tokenizer is made, with fewer merges. */
function tokenizerJson(): Buffer {
  const json = JSON.parse(readFileSync(openTokenizer('random:tiny').file, 'utf8'));
  json.model.merges.length = 8;
  json.model.vocab = Object.fromEntries(Object.entries(json.model.vocab).slice(0, 300));
  return Buffer.from(JSON.stringify(json));
}
const tokenizerConfig = Buffer.from(JSON.stringify({ bos_token: '<bos>', eos_token: { content: '<eos>' } }));

export const readers: Record<string, () => Promise<Target>> = {
  async safetensors() {
    const policy = await GemmaPolicy.open(smallest, { threads: 1 });
    await policy.addAdapter({ rank: 1, alpha: 1 });
    const [adapter, state] = ['adapter', 'state'].map((name) => join(workFolder(), name));
    await policy.native.saveAdapter(adapter, 'model.');
    await policy.saveState(state);
    const isState = (file: string) => readFileSync(file).includes('first_moment');
    return fileTarget('file.safetensors', [readFileSync(adapter), readFileSync(state)], (file) =>
      isState(file) ? policy.loadState(file) : loadAdapter(policy, file),
    );
  },

  GlobalOpinionQA() {
    const rows = [
      `"Is ""it"" so?","defaultdict(<class 'list'>, {'Nigeria': [0.5, 0.25, 0.25], 'Egypt': [1.0, 0.0, 0]})","['Yes', 'No', ""Don't know""]",GAS`,
      `"Which,\nthen?","{'Nigeria': [nan, 1e-3], 'India (Current national sample)': [0.1, 0.9]}","['\\xe9', 'b\\n']",WVS`,
      `Why?,"{'Nigeria': [0.2, 0.8]}","[1, 2.5]",GAS`,
    ];
    const seed = Buffer.from(`question,selections,options,source\n${rows.join('\n')}\n`);
    const good = Buffer.from(`question,selections,options,source\n${rows[0]}\n${rows[2]}\n`);
    return fileTarget('survey.csv', [good, seed], async (file) =>
      opinionPairs(await readSurvey(file), { groups: ['Nigeria'], seed: 1, skipBadRows: true }),
    );
  },

  JSONL() {
    const ids = { group: 'a', prompt_ids: [2, 17, 400], chosen_ids: [5, 1], rejected_ids: [6, 1], weight: 2 };
    const text = { group: 'b', prompt: 'Is it so?\n', chosen: 'Yes é 😀', rejected: 'No', note: [{ x: null }] };
    return fileTarget('pairs.jsonl', [lines(ids), lines(text), lines(ids, text, ids)], loadTexts);
  },

  CSV() {
    const texts = Buffer.from(
      'group,prompt,chosen,rejected,weight\na,"Is ""it"", so?\n",Yes,No,2\nb,Why?,é 😀,"a\r\nb",1\n',
    );
    return fileTarget('pairs.csv', [texts, Buffer.from(`\ufeff${texts}`), preferences('ids.csv')], loadTexts);
  },

  Parquet() {
    const seeds = ['texts', 'codes', 'ids32', 'ids64'].map((name) => preferences(`${name}.parquet`));
    return fileTarget(
      'pairs.parquet',
      seeds,
      (file) => {
        const groupBy = readFileSync(file).includes('country') ? ['country', 'sex'] : undefined;
        return loadPairs(file, { tokenizer, vocabulary: 1024, bos: 2, groupBy });
      },
      { atOnce: 2 },
    );
  },

  checkpoints: () =>
    fileTarget('model.safetensors', [modelWeights], openModel, { companions: { 'config.json': modelConfig } }),

  'configurations of checkpoints': () =>
    fileTarget('config.json', [modelConfig], openModel, { companions: { 'model.safetensors': modelWeights } }),

  'headers of safetensors': () => {
    const length = Number(modelWeights.readBigUInt64LE());
    const data = modelWeights.subarray(8 + length);
    // Only the JSON is changed, and its length is right, so that most inputs come to the checks behind the first.
    return fileTarget('header.json', [modelWeights.subarray(8, 8 + length)], (file) => {
      const header = readFileSync(file);
      const first = Buffer.alloc(8);
      first.writeBigUInt64LE(BigInt(header.length));
      writeFileSync(`${file}.whole`, Buffer.concat([first, header, data]));
      using opened = new SafetensorsFile(`${file}.whole`);
      let place = opened.dataStart;
      for (const { begin, end } of opened.entries) {
        if (begin !== place) throw new Error(`a tensor begins at ${begin}, and the one before ends at ${place}`);
        place = end;
      }
      if (place !== 8 + header.length + data.length) throw new Error('the tensors do not fill the file');
    });
  },

  'safetensors in TypeScript': () =>
    fileTarget('merge.safetensors', [modelWeights], (file) => {
      using opened = new SafetensorsFile(file);
      for (const { begin, end } of opened.entries) opened.read(begin, end - begin);
    }),

  async 'adapter folders'() {
    const policy = await GemmaPolicy.open(smallest, { threads: 1 });
    await policy.addAdapter({ rank: 1, alpha: 1, targets: ['q_proj', 'down_proj'] });
    const saved = join(workFolder(), 'saved');
    await policy.saveAdapter(saved);
    const [config, weights] = [adapterFiles.config, adapterFiles.weights].map((name) =>
      readFileSync(join(saved, name)),
    );
    return fileTarget(adapterFiles.config, [config], (file) => policy.loadAdapter(dirname(file)), {
      companions: { [adapterFiles.weights]: weights },
    });
  },

  tokenizers: () =>
    fileTarget('tokenizer.json', [tokenizerJson()], useTokenizer, {
      companions: { 'tokenizer_config.json': tokenizerConfig },
    }),

  'configurations of tokenizers': () =>
    fileTarget('tokenizer_config.json', [tokenizerConfig], useTokenizer, {
      companions: { 'tokenizer.json': tokenizerJson() },
    }),
};
