import { expect, it } from 'vitest';
import { errorLimit, type KernelBenchmark, kernelShapes } from '../../src/bench/kernels.js';
import { describeKernels } from '../../src/cli/bench.js';
import { loadNative } from '../../src/native/load.js';
import { groupRobust } from '../cli/run.js';

const baseRow = {
  kernel: 'rms-norm',
  pass: 'forward',
  size: '1x1',
  dtype: 'float32',
  error: 0,
  torch_error: 0,
  first_quartile_seconds: 0.9,
  median_seconds: 1,
  third_quartile_seconds: 1.25,
  rate: 1,
  torch_median_seconds: 1,
  ok: true,
};

it('shows how far it is, and says why a rate can be above its limit', () => {
  const shown = groupRobust(['bench', 'kernels', '--shape', 'tiny', '--seconds', '0.001', '--quiet']);
  expect(shown.stderr).toBe('');
  const row = { ...baseRow, unit: 'GB/s' };
  const machine = {
    cpu: 'x',
    cores: 1,
    node: '',
    load: 0,
    torch: '2',
    threads: 1,
    device_name: '',
    copy_gb_per_second: 1,
    gemm_gflops: 1,
  };
  const product_calls = { onednn: 3, libtorch: 0 };
  const table = (fraction_of_limit: number) =>
    describeKernels({
      machine,
      product_calls,
      rows: [{ ...row, fraction_of_limit }],
      ok: true,
    } as unknown as KernelBenchmark);
  expect(table(0.9)).not.toContain('above 100 %');
  expect(table(1.3)).toMatch(/130 % \*.*\n\* above 100 %: .*caches/s);
  // Half of the times lie between the quartiles; each unit is told what its limit is.
  expect(table(0.9)).toMatch(/median µs +quartiles .*\n.*\n.* 1000000 +900000 1250000 /);
  expect(table(0.9)).toMatch(/\nGB\/s: .* the rate of a copy/);
  expect(table(0.9)).not.toContain('\nGFLOP/s: ');
  expect(table(0.9)).toContain("\nmatrix products: 3 by LibTorch's private entry to oneDNN\n");
});

it('prints a row for each pass of each kernel, checked', () => {
  const result = groupRobust([
    'bench',
    'kernels',
    '--shape',
    'tiny',
    '--dtype',
    'bfloat16',
    '--seconds',
    '0.001',
    '--json',
  ]);
  expect([result.status, result.stderr]).toEqual([0, expect.stringMatching(/threads, load .* GB\/s/)]);
  const { machine, rows, ok, product_calls } = result.json;
  expect(ok).toBe(true);
  // In bfloat16 no product is oneDNN's.
  expect(product_calls).toEqual({ onednn: 0, libtorch: expect.any(Number) });
  expect(product_calls.libtorch).toBeGreaterThan(0);
  expect(machine).toMatchObject({ cores: expect.any(Number), load: expect.any(Number), device_name: '' });
  for (const limit of [machine.copy_gb_per_second, machine.gemm_gflops, machine.threads])
    expect(limit).toBeGreaterThan(0);
  const expected = kernelShapes.tiny.flatMap(([kernel, sizes]) =>
    ['forward', 'backward'].map((pass) => `${kernel} ${pass} ${Object.values(sizes).join('x')}`),
  );
  expect(rows.map((row: Record<string, string>) => `${row.kernel} ${row.pass} ${row.size}`)).toEqual(expected);
  for (const row of rows) {
    const [unit, limit] =
      row.kernel === 'lora-linear' || row.kernel === 'tree-attention'
        ? ['GFLOP/s', machine.gemm_gflops]
        : ['GB/s', machine.copy_gb_per_second];
    expect(row).toMatchObject({ dtype: 'bfloat16', device: 'cpu', unit, ok: true, repeatable: true });
    for (const key of ['error', 'rate', 'fraction_of_limit']) expect(row[key], key).toBeGreaterThan(0);
    for (const whose of ['', 'torch_']) {
      const times = ['first_quartile', 'median', 'third_quartile'].map((part) => row[`${whose}${part}_seconds`]);
      expect(times[0]).toBeGreaterThan(0);
      expect(times).toEqual([...times].sort((a, b) => a - b));
    }
    expect(row.fraction_of_limit).toBeCloseTo(row.rate / limit, 9);
  }
});

it.each([
  [['--shape', 'gemma-7b'], /gemma-2b, tiny/],
  [['--dtype', 'float64'], /float32, bfloat16/],
  [['--seconds', '0'], /--seconds/],
])('refuses %j', (flags, message) => {
  const { status, stderr } = groupRobust(['bench', 'kernels', ...flags]);
  expect([status, stderr]).toEqual([2, expect.stringMatching(message)]);
});

it('allows rounding and twice what LibTorch loses, never NaN', () => {
  expect(errorLimit('float32', 0)).toBe(2 ** -20);
  expect(errorLimit('float32', 1e-6)).toBe(2e-6);
  expect(errorLimit('bfloat16', 0)).toBe(2 ** -7);
  expect(errorLimit('float32', Number.NaN)).toBeNaN();
});

it('counts for attention only positions that see each other, with two products forward and four backward', async () => {
  const bench = new (loadNative().KernelBench)();
  try {
    // A prompt of 3 rows, seen by itself in 1 + 2 + 3 pairs, and two responses of 2 in 2 (3 + 1) + 1 each.
    const sizes = { trees: 5, prompt: 3, responses: 2, response: 2, heads: 2, keyValueHeads: 1, headSize: 4 };
    const setting = { kernel: 'tree-attention', sizes, dtype: 'float32', device: 'cpu', seconds: 0.001 } as const;
    const { forward, backward } = await bench.measureKernel(setting);
    const pairs = 5 * (6 + 2 * (4 + 5));
    expect([forward.flops, backward.flops]).toEqual([2 * 2 * pairs * 8, 4 * 2 * pairs * 8]);
    expect([forward.bytes, backward.bytes]).toEqual([0, 0]);
  } finally {
    bench.dispose();
  }
});
