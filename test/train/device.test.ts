import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { parse } from 'yaml';
import { loadNative } from '../../src/native/load.js';
import { resolveConfig } from '../../src/train/config.js';
import { runTraining } from '../../src/train/run.js';
import { groupRobust } from '../cli/run.js';
import { pretendCards } from '../policy/pretend-cards.js';
import { temporaryFolder } from '../temporary-folder.js';
import { writeIdPairs } from './id-pairs.js';

/** Where a run is computed: what it is told, what it records, and what of that may change when it goes on. */

const folder = temporaryFolder();
const at = (...path: string[]) => join(folder, ...path);
const pairs = writeIdPairs(at('pairs.jsonl'), 7, (i) => ({ group: ['x', 'y'][i % 2] }));
const { cudaBuilt, cudaDevices } = loadNative().nativeInfo();

afterEach(() => {
  vi.restoreAllMocks();
});

const settings = {
  model: 'random:tiny?layers=1',
  threads: 1,
  data: { train: pairs },
  objective: { loss: 'ipo', beta: 0.1 },
  lora: { rank: 2 },
  batch: { size: 3 },
  steps: 2,
};

async function run(output: string, changes: object = {}, resume = false): Promise<string[]> {
  const lines: string[] = [];
  const config = resolveConfig({ ...settings, output: at(output), ...changes });
  await runTraining(config, { quiet: true, log: (line) => lines.push(line) }, { resume });
  return lines;
}

const record = (output: string) => JSON.parse(readFileSync(at(output, 'run.json'), 'utf8'));
const configOf = (output: string) => parse(readFileSync(at(output, 'config.yaml'), 'utf8'));
describe('a run', () => {
  it('says at its start where it is computed, records that, and the type of numbers that follows from it', async () => {
    const opened = pretendCards(1);
    for (const [output, changes, device, dtype] of [
      ['auto', {}, 'cuda:0', 'bfloat16'],
      ['cpu', { device: 'cpu' }, 'cpu', 'float32'],
      ['float32', { device: 'cuda:0', dtype: 'float32' }, 'cuda:0', 'float32'],
    ] as const) {
      const lines = await run(output, changes);
      expect(lines[0]).toBe(`device: ${device}, ${dtype}`);
      expect(lines.filter((line) => line.includes('device'))).toHaveLength(1);
      expect(record(output).device).toBe(device);
      expect(record(output).processor).toBe(device === 'cpu' ? cpus()[0].model.trim() : `pretended ${device}`);
      expect(configOf(output)).toMatchObject({ dtype });
      expect(opened.at(-1)).toMatchObject({ device, dtype });
    }
    expect(configOf('auto').device).toBe('auto');
  });

  it('refuses another type of base weights than that of the device', async () => {
    pretendCards(1);
    const refused = run('base', { baseDtype: 'float32' });
    await expect(refused).rejects.toThrow(/field "baseDtype": must be bfloat16, or dtype \(bfloat16\)/);
    await run('base-cpu', { baseDtype: 'float32', device: 'cpu' });
  });

  it('that is resumed on another device goes on in its type of numbers, and is told once what that means', async () => {
    await run('moved', { device: 'cpu' });
    pretendCards(1);
    const [first, ...others] = await run('moved', { steps: 3 }, true);
    expect(first).toBe('device: cuda:0, float32');
    const notes = others.filter((line) => line.includes('last bits'));
    expect(notes).toEqual([
      expect.stringMatching(
        /^warning: the run began with .*"device":"cpu".* and goes on with .*"device":"cuda:0".*: its/,
      ),
    ]);
    expect(record('moved')).toMatchObject({ device: 'cpu', resumed: [{ step: 2, device: 'cuda:0' }] });
    expect(configOf('moved').dtype).toBe('float32');
    expect((await run('moved', { steps: 4 }, true)).join('\n')).not.toContain('last bits');
    const back = await run('moved', { steps: 5, device: 'cpu' }, true);
    expect(back.filter((line) => line.includes('last bits'))).toHaveLength(1);
  });

  it('of bfloat16 from a GPU goes on so on a CPU; with another type it would be another run', async () => {
    pretendCards(1);
    await run('from-gpu');
    vi.restoreAllMocks();
    expect((await run('from-gpu', { steps: 3, device: 'cpu' }, true))[0]).toBe('device: cpu, bfloat16');
    const other = run('from-gpu', { steps: 4, device: 'cpu', dtype: 'float32' }, true);
    await expect(other).rejects.toThrow(/field "dtype": is "float32", but was "bfloat16" when the run began/);
  });

  it('from before devices were recorded was on a CPU, and goes on there without a word', async () => {
    await run('old', { device: 'cpu' });
    const { device, ...before } = configOf('old');
    expect(device).toBe('cpu');
    writeFileSync(at('old', 'config.yaml'), JSON.stringify(before));
    const file = (name: string) => at('old', 'checkpoints', 'step-00000002', name);
    const digest = () =>
      createHash('sha256')
        .update(readFileSync(file('checkpoint.json')))
        .digest('hex');
    const sums = readFileSync(file('SHA256SUMS'), 'utf8');
    const now = digest();
    const { made, ...others } = JSON.parse(readFileSync(file('checkpoint.json'), 'utf8'));
    expect(Object.keys(made)).toEqual(['versions', 'threads', 'device', 'processor']);
    delete made.device;
    delete made.processor;
    writeFileSync(file('checkpoint.json'), JSON.stringify({ made, ...others }));
    writeFileSync(file('SHA256SUMS'), sums.replace(now, digest()));
    expect((await run('old', { steps: 3, device: 'cpu' }, true)).join('\n')).not.toContain('warning');
  });
});

describe('the commands', () => {
  const model = ['--model', 'random:tiny?layers=1', '--pairs', pairs, '--quiet'];
  const config = at('config.yaml');
  writeFileSync(config, JSON.stringify({ ...settings, output: at('by-command') }));
  /** @param out what is written, each time anew */
  const commands = (out: string): [name: string, args: string[]][] => [
    ['train', ['train', config, '--quiet', '--set', `output=${at(out)}`]],
    ['eval', ['eval', ...model]],
    ['logprobs', ['logprobs', ...model, '--out', at(`${out}-scores.jsonl`)]],
    ['sample', ['sample', ...model, '--out', at(`${out}-samples.jsonl`), '--max-tokens', '1']],
    ['bench train-step', ['bench', 'train-step', '--shape', 'tiny', '--layers', '1', '--vocab', '256', '--steps', '1']],
  ];

  it.each(commands('on-cpu'))('%s says at its start where it computes', (_, args) => {
    const { status, stdout, stderr } = groupRobust([...args, '--device', 'cpu']);
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout.split('\n', 1)).toEqual(['device: cpu, float32']);
  });

  it('logprobs and sample keep that out of what they write to stdout', () => {
    for (const [command, ...more] of [['logprobs'], ['sample', '--max-tokens', '1']]) {
      const { status, stdout } = groupRobust([command, ...model, '--out', '-', ...more]);
      expect(status).toBe(0);
      for (const line of stdout.trim().split('\n')) expect(line).toMatch(/^\{.*\}$/);
    }
  });

  it('train --device counts more than the configuration and --set, and is a key of it', () => {
    const { stdout } = groupRobust(['train', config, '--set', 'device=cuda', '--device', 'cpu', '--print-config']);
    expect(parse(stdout)).toMatchObject({ device: 'cpu' });
    expect(parse(stdout)).not.toHaveProperty('dtype');
  });

  it.skipIf(cudaDevices > 0)('auto is the CPU on a machine without a GPU', () => {
    const { status, stdout } = groupRobust(['eval', ...model, '--device', 'auto']);
    expect(status).toBe(0);
    expect(stdout).toMatch(/^device: cpu, float32\n/);
  });

  it
    .skipIf(cudaBuilt)
    .each([...commands('on-gpu'), ['reproduce', ['reproduce', '--quiet', '--out', at('reproduced')]]])(
    '%s --device cuda says that the build is missing, and what to run',
    (name, args) => {
      const { status, stdout, stderr } = groupRobust([...args, '--device', 'cuda']);
      expect(stderr).toMatch(/^error: field "(--)?device": cuda cannot be had: the addon is not built for CUDA/);
      expect(stderr).toMatch(/\n {2}fix: run GROUP_ROBUST_CUDA=1 npm run build, .*; or use cpu\n$/);
      expect([status, stdout]).toEqual([2, '']);
      expect(stderr.includes('"--device"')).toBe(name !== 'train');
    },
  );

  it('reproduce --paper computes no model', () => {
    const { status, stderr } = groupRobust(['reproduce', '--paper', '--device', 'cpu']);
    expect([status, stderr]).toEqual([2, expect.stringContaining("'--paper'")]);
  });
});
