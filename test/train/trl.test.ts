import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';
import { InputError } from '../../src/errors.js';
import { resolveConfig } from '../../src/train/config.js';
import { loadConfig } from '../../src/train/config-file.js';
import { runTraining } from '../../src/train/run.js';
import { temporaryFolder } from '../temporary-folder.js';

/**
 * Someone comes with a configuration of TRL and does what the errors say, to the letter. What comes out is the same training:
 * where PYTHON names an interpreter with trl, five steps are held against its own trainer.
 */
type Values = Record<string, unknown>;

/** Writes every foreign key as its error says, until there is none. */
function follow(foreign: Values, own: Values) {
  const config: Values = structuredClone(own);
  const set = (path: string, value: unknown) => {
    const keys = path.split('.');
    let node = config;
    for (const key of keys.slice(0, -1)) {
      node[key] ??= {};
      node = node[key] as Values;
    }
    node[keys.at(-1) as string] = value;
  };
  let message = '';
  try {
    resolveConfig({ ...config, ...foreign });
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    ({ message } = error);
  }
  for (const [key, value] of Object.entries(foreign)) {
    const advice = new RegExp(`field "${key}": unknown key\n {2}fix: (.*)`).exec(message)?.[1] ?? '';
    const called = /^\S+ is called (\S+) here$/.exec(advice);
    if (called) set(called[1], value);
    else if (advice.startsWith('write '))
      for (const [, path, text] of advice.matchAll(/(?:write|and) ([\w.]+): (\[.*?\]|[\w.+-]+)/g))
        set(path, parse(text));
    else if (!advice.startsWith('leave it out')) throw new Error(`no advice to follow for ${key}: ${advice}`);
  }
  return resolveConfig(config);
}

const own = { model: 'random:tiny', output: 'run', data: { train: 'x' }, objective: { beta: 0.1 } };

describe('the advice for keys of TRL', () => {
  it('makes the pairs of an optimiser step of what one device scores at once', () => {
    const batch = (values: Values) => follow({ loss_type: 'sigmoid', max_steps: 5, ...values }, own).batch;
    expect(batch({ per_device_train_batch_size: 4, gradient_accumulation_steps: 8 })).toMatchObject({
      size: 32,
      micro: 4,
    });
    expect(batch({ per_device_train_batch_size: 4 })).toMatchObject({ size: 4 });
    // TRL's default of the one that is not there.
    expect(batch({ gradient_accumulation_steps: 2 })).toMatchObject({ size: 16, micro: 8 });
  });

  it.each<[Values, Values]>([
    [{ loss_type: 'sigmoid' }, { loss: 'dpo', reduction: 'sum' }],
    [{ loss_type: ['sigmoid_norm'] }, { loss: 'dpo', reduction: 'mean' }],
    [{ loss_type: 'ipo' }, { loss: 'ipo', reduction: 'mean' }],
    [{ loss_type: ['hinge'] }, { loss: 'hinge', reduction: 'sum' }],
    [{ loss_type: 'sigmoid', label_smoothing: 0.1 }, { loss: 'dpo' }],
  ])('%j is %j', (values, objective) => {
    const resolved = follow({ ...values, max_steps: 1 }, own).objective;
    expect(resolved).toMatchObject(objective);
    expect(resolved).not.toHaveProperty('labelSmoothing');
  });

  it.each<[Values, Values]>([
    [{ warmup_ratio: 0.1 }, { warmupRatio: 0.1 }],
    [{ warmup_steps: 0.1 }, { warmupRatio: 0.1 }],
    [{ warmup_steps: 3 }, { warmupSteps: 3 }],
    [{ adam_beta1: 0.8 }, { betas: [0.8, 0.999] }],
    [{ max_grad_norm: 0 }, { maxGradNorm: 1e9 }],
    [
      { lr_scheduler_type: 'linear', learning_rate: 1e-6 },
      { schedule: 'linear', learningRate: 1e-6 },
    ],
  ])('%j is optimizer %j', (values, optimizer) =>
    expect(follow({ loss_type: 'sigmoid', max_steps: 1, ...values }, own).optimizer).toMatchObject(optimizer),
  );

  it('knows that max_steps overrides epochs, and -1 is none', () => {
    const epochs = follow({ loss_type: 'sigmoid', num_train_epochs: 3, max_steps: -1 }, own);
    expect([epochs.epochs, epochs.steps]).toEqual([3, undefined]);
    const steps = follow({ loss_type: 'sigmoid', num_train_epochs: 3, max_steps: 5 }, own);
    expect([steps.epochs, steps.steps]).toEqual([undefined, 5]);
  });
});

const folder = temporaryFolder();
const python = process.env.PYTHON ?? 'python3';
const present = spawnSync(python, ['-c', 'import trl']).status === 0;
if (!present) console.warn('TRL is not compared: set PYTHON to an interpreter with test/requirements.txt');

describe.skipIf(!present)('TRL’s own trainer (skipped where Python lacks it)', { timeout: 240_000 }, () => {
  const model = resolve('test/fixtures/gemma-tiny');
  const golden = JSON.parse(readFileSync(join(model, 'golden.json'), 'utf8')) as {
    pairs: { prompt: number[]; chosen: number[]; rejected: number[] }[];
  };
  // All pairs are one optimiser step, so that the order in which either draws them does not matter.
  const pairs = golden.pairs.slice(0, 8).map(({ prompt, chosen, rejected }) => ({
    prompt_ids: prompt,
    chosen_ids: chosen,
    rejected_ids: rejected,
  }));
  const data = join(folder, 'pairs.jsonl');
  writeFileSync(data, pairs.map((pair) => JSON.stringify({ group: 'g', ...pair })).join('\n'));

  const script = `
import json, sys, warnings
warnings.filterwarnings("ignore")
from datasets import Dataset
from peft import PeftModel
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer
a = json.loads(sys.argv[1])
words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(192)}, unk_token="w3"))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w0", eos_token="w1", bos_token="w2")
class Trainer(DPOTrainer):
    def _prepare_dataset(self, dataset, *rest):
        return dataset
    def compute_loss(self, *args, **more):
        loss = super().compute_loss(*args, **more)
        losses.append(loss.item())
        return loss
means = {}
for name, trl in a["cases"].items():
    losses = []
    base = AutoModelForCausalLM.from_pretrained(a["model"])
    model = PeftModel.from_pretrained(base, a["model"] + "/adapter", is_trainable=True)
    config = DPOConfig(output_dir=a["output"], bf16=False, use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True,
                       gradient_checkpointing=False, logging_steps=1, **trl)
    Trainer(model=model, args=config, train_dataset=Dataset.from_list(a["pairs"]), processing_class=tokenizer).train()
    each = config.gradient_accumulation_steps
    means[name] = [sum(losses[i:i + each]) / each for i in range(0, len(losses), each)]
print(json.dumps(means))
`;

  const common: Values = {
    beta: 0.1,
    learning_rate: 0.005,
    lr_scheduler_type: 'constant',
    max_grad_norm: 1.0,
    weight_decay: 0.01,
    adam_beta2: 0.99,
    max_length: 64,
    max_steps: 5,
    per_device_train_batch_size: 8,
  };
  const cases: Record<string, Values> = {
    'sigmoid, accumulated': {
      ...common,
      loss_type: 'sigmoid',
      per_device_train_batch_size: 2,
      gradient_accumulation_steps: 4,
    },
    ipo: { ...common, loss_type: 'ipo', lr_scheduler_type: 'linear' },
    'sigmoid_norm, cosine': { ...common, loss_type: ['sigmoid_norm'], lr_scheduler_type: 'cosine' },
    'hinge, clipped': { ...common, loss_type: 'hinge', max_grad_norm: 0.5 },
  };
  let losses: Record<string, number[]> = {};
  // One process for all: most of its time goes into imports.
  it('trains', () => {
    const { status, stdout, stderr } = spawnSync(
      python,
      ['-c', script, JSON.stringify({ model, output: join(folder, 'trl'), cases, pairs })],
      { encoding: 'utf8', env: { ...process.env, HF_HUB_OFFLINE: '1' } },
    );
    expect(status, stderr).toBe(0);
    losses = JSON.parse(stdout.trim().split('\n').at(-1) as string);
  });

  it.each(Object.entries(cases))('%s: five losses are the same', async (name, trl) => {
    const expected = losses[name];
    const output = join(folder, name);
    const config = follow(trl, { model, adapter: join(model, 'adapter'), output, data: { train: data } });
    writeFileSync(`${output}.yaml`, stringify(config));
    await runTraining(loadConfig(`${output}.yaml`), { quiet: true, log: () => {} });
    const lines = readFileSync(join(output, 'metrics.jsonl'), 'utf8').trim().split('\n');
    const own = lines.slice(1).map((line) => JSON.parse(line).loss as number);
    expect(expected).toHaveLength(5);
    for (const [i, loss] of own.entries())
      expect(Math.abs(loss / expected[i] - 1), `step ${i + 1}: ${own} ${expected}`).toBeLessThan(1e-4);
    // And something was learnt.
    expect(own[4]).toBeLessThan(0.99 * own[0]);
  });
});
