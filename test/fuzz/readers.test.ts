import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, it } from 'vitest';
import { loadPairs } from '../../src/data/pairs/dataset.js';
import { opinionPairs, readSurvey } from '../../src/data/surveys/global-opinions.js';
import { openTokenizer } from '../../src/data/text/tokenizer.js';
import { InputError } from '../../src/errors.js';
import { Random } from '../../src/numbers/random.js';
import { GemmaPolicy } from '../../src/policy/gemma.js';
import { adapterFiles } from '../../src/policy/peft.js';
import { SafetensorsFile } from '../../src/policy/safetensors.js';
import { mutate, mutateJson } from './mutate.js';

/**
 * Readers on mutated files: each must read the file or throw an InputError; anything else, a crash of the process or
 * memory without bound fails. `FUZZ_INPUTS=100000 npx vitest run test/fuzz` tries that many of each kind; input i is the
 * same in every run.
 */
const inputs = Number(process.env.FUZZ_INPUTS ?? 400);
const timeout = 60_000 + inputs * 50;
/** More than any reader here may need above what it starts with, in bytes. */
const memoryLimit = 400 * 2 ** 20;

const folder = mkdtempSync(join(tmpdir(), 'fuzz-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/**
 * @param name of the mutated file
 * @param companions what lies beside it
 * @param atOnce inputs in flight: most of the time goes into waiting for other threads
 */
async function fuzz(
  name: string,
  seeds: Buffer[],
  read: (file: string) => unknown,
  companions: Record<string, Buffer> = {},
  atOnce = 32,
): Promise<void> {
  const outcomes = { read: 0, refused: 0 };
  const started = Date.now();
  const before = process.memoryUsage().rss;
  const files = Array.from({ length: atOnce }, (_, slot) => {
    const place = join(folder, name, String(slot));
    mkdirSync(place, { recursive: true });
    for (const [other, bytes] of Object.entries(companions)) writeFileSync(join(place, other), bytes);
    return join(place, name);
  });
  for (const seed of seeds) {
    writeFileSync(files[0], seed);
    await read(files[0]);
  }
  const attempt = async (i: number) => {
    const random = Random.stream(0, 'fuzz', name, i);
    const file = files[i % atOnce];
    const change = name.endsWith('.json') && random.integer(2) === 0 ? mutateJson : mutate;
    writeFileSync(file, change(seeds[random.integer(seeds.length)], random));
    try {
      await read(file);
      outcomes.read++;
    } catch (error) {
      if (!(error instanceof InputError)) throw new Error(`input ${i} of ${name}`, { cause: error });
      outcomes.refused++;
    }
  };
  for (let first = 0; first < inputs; first += atOnce)
    await Promise.all(Array.from({ length: Math.min(atOnce, inputs - first) }, (_, i) => attempt(first + i)));
  // Linux counts the peak in KiB; macOS, in bytes, would only make this looser.
  const peak = process.resourceUsage().maxRSS * 1024;
  console.info(name, outcomes, `${(Date.now() - started) / 1000} s, ${Math.ceil((peak - before) / 2 ** 20)} MB`);
  expect(peak - before).toBeLessThan(memoryLimit);
  // Mutations so mild that all files are good, or so wild that none is, would test little.
  expect(outcomes.refused).toBeGreaterThan(inputs / 10);
  expect(outcomes.read).toBeGreaterThan(inputs / 50);
}

it('safetensors', { timeout }, async () => {
  using policy = await GemmaPolicy.open('random:tiny?layers=1&hidden=8&heads=1&head=8&mlp=8&vocab=16', { threads: 1 });
  await policy.addAdapter({ rank: 1, alpha: 1 });
  const [adapter, state] = [join(folder, 'adapter'), join(folder, 'state')];
  await policy.native.saveAdapter(adapter);
  await policy.saveState(state);
  const isState = (file: string) => readFileSync(file).includes('first_moment');
  await fuzz('file.safetensors', [readFileSync(adapter), readFileSync(state)], (file) =>
    isState(file) ? policy.loadState(file) : loadAdapter(policy, file),
  );
});

async function loadAdapter(policy: GemmaPolicy, path: string): Promise<void> {
  using file = new SafetensorsFile(path);
  await policy.native.loadAdapter(file).catch(asInputError);
}

/** What GemmaPolicy makes of the addon's errors; its own method wants a whole PEFT folder. */
function asInputError(error: Error & { code?: string }): never {
  throw error.code === 'NATIVE_INPUT' ? new InputError(error.message, { cause: error }) : error;
}

it('GlobalOpinionQA', { timeout }, async () => {
  const rows = [
    `"Is ""it"" so?","defaultdict(<class 'list'>, {'Nigeria': [0.5, 0.25, 0.25], 'Egypt': [1.0, 0.0, 0]})","['Yes', 'No', ""Don't know""]",GAS`,
    `"Which,\nthen?","{'Nigeria': [nan, 1e-3], 'India (Current national sample)': [0.1, 0.9]}","['\\xe9', 'b\\n']",WVS`,
    `Why?,"{'Nigeria': [0.2, 0.8]}","[1, 2.5]",GAS`,
  ];
  const seed = Buffer.from(`question,selections,options,source\n${rows.join('\n')}\n`);
  const good = Buffer.from(`question,selections,options,source\n${rows[0]}\n${rows[2]}\n`);
  await fuzz('survey.csv', [good, seed], async (file) =>
    opinionPairs(await readSurvey(file), { groups: ['Nigeria'], seed: 1, skipBadRows: true }),
  );
});

it('JSONL', { timeout }, async () => {
  const ids = { group: 'a', prompt_ids: [2, 17, 400], chosen_ids: [5, 1], rejected_ids: [6, 1], weight: 2 };
  const text = { group: 'b', prompt: 'Is it so?\n', chosen: 'Yes é 😀', rejected: 'No', note: [{ x: null }] };
  const lines = (...records: object[]) => Buffer.from(records.map((record) => `${JSON.stringify(record)}\n`).join(''));
  const tokenizer = openTokenizer('random:tiny');
  await fuzz('pairs.jsonl', [lines(ids), lines(text), lines(ids, text, ids)], (file) =>
    loadPairs(file, { tokenizer: () => tokenizer, vocabulary: 1024, bos: 2, maxLength: 100 }),
  );
});

const preferences = (name: string) =>
  readFileSync(fileURLToPath(new URL(`../fixtures/preferences/${name}`, import.meta.url)));

it('CSV', { timeout }, async () => {
  const tokenizer = openTokenizer('random:tiny');
  const texts = Buffer.from(
    'group,prompt,chosen,rejected,weight\na,"Is ""it"", so?\n",Yes,No,2\nb,Why?,é 😀,"a\r\nb",1\n',
  );
  await fuzz('pairs.csv', [texts, Buffer.from(`\ufeff${texts}`), preferences('ids.csv')], (file) =>
    loadPairs(file, { tokenizer: () => tokenizer, vocabulary: 1024, bos: 2, maxLength: 100 }),
  );
});

it('Parquet', { timeout }, async () => {
  const tokenizer = openTokenizer('random:tiny');
  const seeds = ['texts', 'codes', 'ids32', 'ids64'].map((name) => preferences(`${name}.parquet`));
  await fuzz(
    'pairs.parquet',
    seeds,
    async (file) => {
      const groupBy = readFileSync(file).includes('country') ? ['country', 'sex'] : undefined;
      await loadPairs(file, { tokenizer: () => tokenizer, vocabulary: 1024, bos: 2, groupBy });
    },
    {},
    2,
  );
});

/** A file whose page has a negative length, which leads its reader in a circle, and one that names 2^31 rows. */
const endless = {
  'circle.parquet': () => {
    const bytes = preferences('ids64.parquet');
    bytes[8] = 72;
    bytes[582] = 3;
    return bytes;
  },
  'rows.parquet': () => {
    const bytes = preferences('ids64.parquet');
    const at = bytes.length - 660;
    // The zigzag varint of 2^31 in place of that of 2; the metadata's length stands 8 bytes from the end.
    const more = Buffer.concat([
      bytes.subarray(0, at),
      Buffer.from([0x80, 0x80, 0x80, 0x80, 0x10]),
      bytes.subarray(at + 1),
    ]);
    more.writeUInt32LE(bytes.readUInt32LE(bytes.length - 8) + 4, more.length - 8);
    return more;
  },
};

it.each([
  ['circle.parquet', /circle\.parquet, row 1: cannot be read as Parquet: .* takes longer than 11 s\n {2}fix: /],
  [
    'rows.parquet',
    /rows\.parquet, row 1: cannot be read as Parquet: a column has fewer values than the 2147483648 rows/,
  ],
] as const)(
  'Parquet that has no end: %s',
  async (name, message) => {
    const file = join(folder, name);
    writeFileSync(file, endless[name]());
    const error = await loadPairs(file).catch((cause) => cause);
    expect(error).toBeInstanceOf(InputError);
    expect(error.message).toMatch(message);
  },
  60_000,
);

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

it('checkpoints', { timeout }, () =>
  fuzz('model.safetensors', [modelWeights], openModel, { 'config.json': modelConfig }),
);

it('configurations of checkpoints', { timeout }, () =>
  fuzz('config.json', [modelConfig], openModel, { 'model.safetensors': modelWeights }),
);

it('headers of safetensors', { timeout }, async () => {
  const length = Number(modelWeights.readBigUInt64LE());
  const data = modelWeights.subarray(8 + length);
  // Only the JSON is changed, and its length is right, so that most inputs come to the checks behind the first.
  await fuzz('header.json', [modelWeights.subarray(8, 8 + length)], (file) => {
    const header = readFileSync(file);
    const first = Buffer.alloc(8);
    first.writeBigUInt64LE(BigInt(header.length));
    writeFileSync(`${file}.whole`, Buffer.concat([first, header, data]));
    using opened = new SafetensorsFile(`${file}.whole`);
    let place = opened.dataStart;
    for (const { begin, end } of opened.entries) {
      expect(begin).toBe(place);
      place = end;
    }
    expect(place).toBe(8 + header.length + data.length);
  });
});

it('safetensors in TypeScript', { timeout }, () =>
  fuzz('merge.safetensors', [modelWeights], (file) => {
    using opened = new SafetensorsFile(file);
    for (const { begin, end } of opened.entries) opened.read(begin, end - begin);
  }),
);

it('adapter folders', { timeout }, async () => {
  using policy = await GemmaPolicy.open('random:tiny?layers=1&hidden=8&heads=1&head=8&mlp=8&vocab=16', { threads: 1 });
  await policy.addAdapter({ rank: 1, alpha: 1, targets: ['q_proj', 'down_proj'] });
  const saved = join(folder, 'saved');
  await policy.saveAdapter(saved);
  const [config, weights] = [adapterFiles.config, adapterFiles.weights].map((name) => readFileSync(join(saved, name)));
  await fuzz(adapterFiles.config, [config], (file) => policy.loadAdapter(dirname(file)), {
    [adapterFiles.weights]: weights,
  });
});

const useTokenizer = (file: string) => {
  const tokenizer = openTokenizer(dirname(file));
  tokenizer.decode(tokenizer.encode('Is it so? é 😀 <eos>'));
};
/** As the tiny tokenizer is made, with fewer merges. */
const tokenizerJson = (() => {
  const json = JSON.parse(readFileSync(openTokenizer('random:tiny').file, 'utf8'));
  json.model.merges.length = 8;
  json.model.vocab = Object.fromEntries(Object.entries(json.model.vocab).slice(0, 300));
  return Buffer.from(JSON.stringify(json));
})();
const tokenizerConfig = Buffer.from(JSON.stringify({ bos_token: '<bos>', eos_token: { content: '<eos>' } }));

it('tokenizers', { timeout }, () =>
  fuzz('tokenizer.json', [tokenizerJson], useTokenizer, { 'tokenizer_config.json': tokenizerConfig }),
);

it('configurations of tokenizers', { timeout }, () =>
  fuzz('tokenizer_config.json', [tokenizerConfig], useTokenizer, { 'tokenizer.json': tokenizerJson }),
);
