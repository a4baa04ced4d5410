import { closeSync, copyFileSync, existsSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { basename, join } from 'node:path';
import { InputError, present } from '../errors.js';
import { checkUnchanged, stateOf } from '../files/opened-file.js';
import { readJson, refuseSpecial } from '../files/read.js';
import { writeFolderWhole } from '../files/write.js';
import type { NativeGemmaConfig } from '../native/types.js';
import { progress } from '../terminal/progress.js';
import { type Adaptation, type LoraTarget, projectionPath } from './adapted-modules.js';
import { checkpointCompanions, indexName } from './checkpoint-files.js';
import { decodeFloats, encodeFloats, floatSizes, isFloatType } from './float-types.js';
import { resolveGemma } from './gemma-config.js';
import { type MergeSizes, mergeRows, type Update } from './merge-rows.js';
import { adapterFiles, peftPrefix, plainPeftName, readAdapter, scoreTensor } from './peft.js';
import { SafetensorsFile, type TensorEntry } from './safetensors.js';
import { plainName } from './weight-names.js';

export interface MergeReport extends Pick<MergeSizes, 'largestChange' | 'largestRounding'> {
  /** Weight matrices that changed. */
  merged: number;
  /** Weight files written. */
  files: number;
  /**
   * How much of the change is there after rounding, 1 for all: the projection of what was done to the weights on what was to be done. A
   * bfloat16 weight stays as it is where it is to change by less than half a unit in its last place.
   */
  kept: number;
}

type Tally = MergeSizes & { merged: number };

/** Weights read and written at a time, in bytes. */
const CHUNK = 2 ** 22;

/**
 * Writes a checkpoint with an adapter merged into its weights: the same files, names and types as the base's, so that
 * whatever loads the base loads it; one with a vision model keeps that. Tensors are processed in pieces, so memory does not grow with the model. Sums are
 * made in float64, then rounded to float32 and to the type of the checkpoint. Of a reward model comes a checkpoint that transformers loads as
 * AutoModelForSequenceClassification, with one label: the head is added to the last of the files, in
 * float32.
 * @param model checkpoint folder
 * @param adapter PEFT folder
 * @throws InputError naming file and field or tensor; then nothing is written
 */
export async function mergeAdapter(
  model: string,
  adapter: string,
  out: string,
  { quiet = false, replace = false }: { quiet?: boolean; replace?: boolean } = {},
): Promise<MergeReport> {
  const source = resolveGemma(model);
  if (source.kind === 'random')
    throw new InputError('has random weights, so there is no checkpoint to merge into', {
      at: { field: '--model' },
      fix: 'name a checkpoint folder or an id of the hub',
    });
  const read = [...source.files, join(adapter, adapterFiles.weights)].map(stateOf);
  const { multimodal } = source;
  const { updates, head } = readUpdates(adapter, source.config, multimodal);
  const write = (folder: string) => {
    const tally: Tally = { merged: 0, largestChange: 0, largestRounding: 0, wanted: 0, made: 0 };
    const last = source.files.at(-1);
    for (const file of source.files)
      mergeFile(file, join(folder, basename(file)), updates, {
        head: file === last ? head : undefined,
        tally,
        multimodal,
        quiet,
      });
    const [missing] = updates.keys();
    if (missing !== undefined)
      throw new InputError('is not in the checkpoint, and the adapter changes it', {
        at: { file: model, tensor: missing },
      });
    for (const name of [indexName, ...checkpointCompanions])
      if (existsSync(join(model, name))) {
        refuseSpecial(join(model, name));
        copyFileSync(join(model, name), join(folder, name));
      }
    if (head) describeHead(folder, basename(present(last)), head.length);
    checkUnchanged(read.filter((state) => state !== undefined));
    const { merged, largestChange, largestRounding } = tally;
    const kept = tally.wanted > 0 ? tally.made / tally.wanted : 1;
    return { merged, files: source.files.length, largestChange, largestRounding, kept };
  };
  return writeFolderWhole(out, write, { replace });
}

/** The architectures with a score head, by what they are without one. */
const classifiers: Readonly<Record<string, string>> = {
  GemmaForCausalLM: 'GemmaForSequenceClassification',
  Gemma2ForCausalLM: 'Gemma2ForSequenceClassification',
  Gemma3ForCausalLM: 'Gemma3TextForSequenceClassification',
  Gemma3ForConditionalGeneration: 'Gemma3ForSequenceClassification',
};

/** Says in the copied config.json, and in the index where there is one, that weight file `file` holds a head of one label. */
function describeHead(folder: string, file: string, size: number): void {
  const config = join(folder, 'config.json');
  // In the text, as JSON's numbers here would lose their types: transformers takes a soft cap of 30.0, and none of 30.
  const text = Object.entries(classifiers).reduce(
    (all, [without, withHead]) => all.replace(JSON.stringify(without), JSON.stringify(withHead)),
    readFileSync(config, 'utf8'),
  );
  const labels = '"id2label": { "0": "LABEL_0" },\n  "label2id": { "LABEL_0": 0 }';
  writeFileSync(config, text.replace(/\s*\}\s*$/, `,\n  ${labels}\n}\n`));
  const index = join(folder, indexName);
  if (!existsSync(index)) return;
  const { metadata, weight_map, ...rest } = readJson(index) as Record<string, object | undefined>;
  const { total_size: total, ...others } = { ...metadata } as { total_size?: number };
  const changed = {
    ...rest,
    metadata: { ...others, ...(total !== undefined && { total_size: total + size * floatSizes.F32 }) },
    weight_map: { ...weight_map, [scoreTensor]: file },
  };
  writeFileSync(index, `${JSON.stringify(changed, null, 2)}\n`);
}

/**
 * The updates of an adapter, by the plain name of the weight, and the head of a reward model, [hidden]. It must have every tensor expected of
 * it and no other; of a vision model it may change any linear map.
 */
function readUpdates(
  folder: string,
  config: NativeGemmaConfig,
  multimodal: boolean,
): { updates: Map<string, Update>; head: Float32Array | undefined } {
  const { modules, scoreHead, visionModules } = readAdapter(folder, { layers: config.layers, multimodal });
  using file = new SafetensorsFile(join(folder, adapterFiles.weights));
  const entries = new Map<string, TensorEntry>();
  const refuse = (tensor: string, problem: string): never => {
    throw new InputError(problem, { at: { file: file.path, tensor } });
  };
  for (const entry of file.entries) {
    const name = plainPeftName(entry.name, multimodal);
    if (entries.has(name)) refuse(entry.name, `is there as ${entries.get(name)?.name} too`);
    entries.set(name, entry);
  }
  const take = (plain: string, shape: number[]): Float32Array => {
    const entry = entries.get(plain);
    entries.delete(plain);
    if (!entry) return refuse(plain, 'is missing');
    const { name, dtype } = entry;
    if (entry.shape.join() !== shape.join()) return refuse(name, `has shape [${entry.shape}], expected [${shape}]`);
    if (!isFloatType(dtype)) return refuse(name, `has type ${dtype}; float32, bfloat16 and float16 are read`);
    return decodeFloats(file.read(entry.begin, entry.end - entry.begin), dtype);
  };
  const updates = new Map<string, Update>();
  const add = (path: string, { rank, scale }: Adaptation, shape: [out: number, inputs: number]) => {
    const a = take(`${peftPrefix}${path}.lora_A.weight`, [rank, shape[1]]);
    const b = take(`${peftPrefix}${path}.lora_B.weight`, [shape[0], rank]);
    updates.set(`${path}.weight`, { scale, rank, a, b, shape });
  };
  for (const module of modules) add(`model.${projectionPath(module)}`, module, projectionShape(module.target, config));
  for (const [path, adaptation] of visionModules) {
    const [a, b] = ['A', 'B'].map((part) => entries.get(`${peftPrefix}${path}.lora_${part}.weight`));
    const [inputs, out] = [a?.shape[1], b?.shape[0]];
    if (a?.shape.length !== 2 || b?.shape.length !== 2 || inputs === undefined || out === undefined)
      refuse((a ?? b)?.name ?? path, 'is not of a linear map of the vision model, which alone can be merged there');
    else add(path, adaptation, [out, inputs]);
  }
  const head = scoreHead ? take(peftPrefix + scoreTensor, [1, config.hidden]) : undefined;
  const [extra] = entries.values();
  if (extra !== undefined)
    throw new InputError('is not expected', {
      at: { file: file.path, tensor: extra.name },
      fix: 'compare with adapter_config.json',
    });
  return { updates, head };
}

function projectionShape(target: LoraTarget, config: NativeGemmaConfig): [out: number, inputs: number] {
  const { hidden, mlp, heads, keyValueHeads, headSize } = config;
  switch (target) {
    case 'q_proj':
      return [heads * headSize, hidden];
    case 'k_proj':
    case 'v_proj':
      return [keyValueHeads * headSize, hidden];
    case 'o_proj':
      return [hidden, heads * headSize];
    case 'gate_proj':
    case 'up_proj':
      return [mlp, hidden];
    case 'down_proj':
      return [hidden, mlp];
  }
}

/** Copies one weight file with its updates applied, and removes these from `updates`. @param options `head`: added before its tensors */
function mergeFile(
  from: string,
  to: string,
  updates: Map<string, Update>,
  {
    head,
    tally,
    multimodal,
    quiet,
  }: { head: Float32Array | undefined; tally: Tally; multimodal: boolean; quiet: boolean },
): void {
  using source = new SafetensorsFile(from);
  const target = openSync(to, 'wx');
  const total = source.entries.at(-1)?.end ?? source.dataStart;
  const bar = progress(`merging ${basename(from)} (MB)`, Math.ceil(total / 1e6), quiet);
  try {
    // Types, shapes and places stay the same, and so does the header.
    if (!head) writeAll(target, source.read(0, source.dataStart));
    else {
      writeAll(target, headerWithHead(source, head.length));
      writeAll(target, encodeFloats(head, 'F32'));
    }
    for (const entry of source.entries) {
      const name = plainName(entry.name, multimodal);
      const update = updates.get(name);
      updates.delete(name);
      const pieces = update ? mergedPieces(source, entry, update, tally) : copiedPieces(source, entry);
      for (const piece of pieces) writeAll(target, piece);
      if (update) tally.merged++;
      bar.update(Math.ceil(entry.end / 1e6), entry.name);
    }
  } finally {
    bar.stop();
    closeSync(target);
  }
}

/** The header of a weight file before whose tensors a head of so many float32 numbers comes: after them it might not lie where a number may. */
function headerWithHead(source: SafetensorsFile, size: number): Buffer {
  const { __metadata__ } = JSON.parse(source.read(8, source.dataStart - 8).toString()) as Record<string, unknown>;
  const bytesOfHead = size * floatSizes.F32;
  const moved = source.entries.map(({ name, dtype, shape, begin, end }) => {
    const offsets = [begin, end].map((place) => place - source.dataStart + bytesOfHead);
    return [name, { dtype, shape, data_offsets: offsets }] as const;
  });
  const text = JSON.stringify({
    ...(__metadata__ !== undefined && { __metadata__ }),
    [scoreTensor]: { dtype: 'F32', shape: [1, size], data_offsets: [0, bytesOfHead] },
    ...Object.fromEntries(moved),
  });
  const bytes = Buffer.from(text + ' '.repeat(-Buffer.byteLength(text) & 7));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(bytes.length));
  return Buffer.concat([length, bytes]);
}

function* copiedPieces(source: SafetensorsFile, { begin, end }: TensorEntry): Generator<Uint8Array> {
  for (let place = begin; place < end; place += CHUNK) yield source.read(place, Math.min(CHUNK, end - place));
}

function* mergedPieces(
  source: SafetensorsFile,
  entry: TensorEntry,
  update: Update,
  sizes: MergeSizes,
): Generator<Uint8Array> {
  const { dtype, shape, begin } = entry;
  const refuse = (problem: string): never => {
    throw new InputError(problem, { at: { file: source.path, tensor: entry.name } });
  };
  if (shape.join() !== update.shape.join()) refuse(`has shape [${shape}], expected [${update.shape}]`);
  if (!isFloatType(dtype)) return refuse(`has type ${dtype}; float32, bfloat16 and float16 can be merged into`);
  const [rows, columns] = update.shape;
  const rowBytes = columns * floatSizes[dtype];
  const step = Math.max(1, Math.floor(CHUNK / rowBytes));
  for (let row = 0; row < rows; row += step) {
    const count = Math.min(step, rows - row);
    const weights = decodeFloats(source.read(begin + row * rowBytes, count * rowBytes), dtype);
    yield mergeRows(weights, row, update, dtype, sizes) ?? refuse(`is not finite after merging, as ${dtype}`);
  }
}

function writeAll(descriptor: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(descriptor, bytes, done);
}
