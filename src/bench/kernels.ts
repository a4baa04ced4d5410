import { loadNative } from '../native/load.js';
import type { NativeDevice, NativeKernelSetting, NativePassMeasurement, NativeProductCalls } from '../native/types.js';
import { resolveDevice } from '../policy/device.js';
import { progress } from '../terminal/progress.js';
import { callsSince, type MachineRecord, machineRecord } from './measure.js';

export type KernelDType = NativeKernelSetting['dtype'];

const gemmaHeads = { heads: 8, keyValueHeads: 1, headSize: 256 };

/** Kernels and sizes measured for a model's shape. A new kernel of native/bench/kernel_table.cc gets its sizes here. */
export const kernelShapes = {
  // 96 and 332 rows: a few pairs, and a batch of four at the length of the survey's prompts.
  'gemma-2b': [
    ['rms-norm', { rows: 96, columns: 2048 }],
    ['rms-norm', { rows: 332, columns: 2048 }],
    ['rotary', { tokens: 332, heads: 8, headSize: 256 }],
    ['rotary', { tokens: 332, heads: 1, headSize: 256 }],
    ['geglu', { rows: 96, columns: 16384 }],
    ['geglu', { rows: 332, columns: 16384 }],
    // A quarter of the vocabulary: the float64 oracle's head takes 1 GB.
    ['token-log-prob', { positions: 4, vocabulary: 64000, hidden: 2048 }],
    ['token-log-prob', { positions: 16, vocabulary: 64000, hidden: 2048 }],
    ['token-log-prob', { positions: 64, vocabulary: 64000, hidden: 2048 }],
    ['token-log-prob', { positions: 400, vocabulary: 64000, hidden: 2048 }],
    ['lora-linear', { rows: 332, in: 2048, out: 16384, rank: 8 }],
    ['lora-linear', { rows: 332, in: 16384, out: 2048, rank: 8 }],
    // A batch of four pairs with answers of a word, as the survey's; and a prompt with eight answers of some sentences.
    ['tree-attention', { trees: 4, prompt: 86, responses: 2, response: 1, ...gemmaHeads }],
    ['tree-attention', { trees: 1, prompt: 128, responses: 8, response: 64, ...gemmaHeads }],
  ],
  // Odd sizes: every loop has a remainder.
  tiny: [
    ['rms-norm', { rows: 7, columns: 67 }],
    ['rotary', { tokens: 7, heads: 3, headSize: 22 }],
    ['geglu', { rows: 7, columns: 1035 }],
    ['token-log-prob', { positions: 5, vocabulary: 1235, hidden: 37 }],
    ['lora-linear', { rows: 7, in: 67, out: 35, rank: 3 }],
    ['tree-attention', { trees: 2, prompt: 67, responses: 3, response: 5, heads: 4, keyValueHeads: 2, headSize: 22 }],
  ],
} as const satisfies Record<string, readonly (readonly [kernel: string, sizes: Record<string, number>])[]>;

export type KernelShape = keyof typeof kernelShapes;

/**
 * Sizes that fill a card: of 4,096 rows, a batch of some 50 pairs, and four times as many. Without attention, which is LibTorch's flash
 * attention there.
 */
const cardShapes: Record<KernelShape, readonly (readonly [kernel: string, sizes: Record<string, number>])[]> = {
  'gemma-2b': [4096, 16384].flatMap((rows) => [
    ['rms-norm', { rows, columns: 2048 }],
    ['rotary', { tokens: rows, heads: 8, headSize: 256 }],
    ['geglu', { rows, columns: 16384 }],
    ['token-log-prob', { positions: rows / 32, vocabulary: 256000, hidden: 2048 }],
    ['lora-linear', { rows, in: 2048, out: 16384, rank: 8 }],
    ['lora-linear', { rows, in: 16384, out: 2048, rank: 8 }],
  ]),
  tiny: kernelShapes.tiny.filter(([kernel]) => kernel !== 'tree-attention'),
};

export interface KernelRow {
  kernel: string;
  pass: 'forward' | 'backward';
  /** The kernel's sizes in their order, such as rows × columns: "332x2048". */
  size: string;
  dtype: KernelDType;
  device: NativeDevice;
  /** Largest absolute difference from LibTorch in float64 on the same inputs, over the largest value there. */
  error: number;
  /** The same of LibTorch's composition in `dtype`. */
  torch_error: number;
  /** A second run gave the same bits, and on the CPU one with a single thread, unless LibTorch's products do the sums. */
  repeatable: boolean;
  /** Repeatable, and `error` is within {@link errorLimit}. */
  ok: boolean;
  first_quartile_seconds: number;
  median_seconds: number;
  third_quartile_seconds: number;
  /** At the median, in `unit`: of the bytes the kernel must move at least, or of its arithmetic. */
  rate: number;
  unit: 'GB/s' | 'GFLOP/s';
  /** `rate` over the machine's copy bandwidth or matrix product rate. Above 1 where the caches hold the data. */
  fraction_of_limit: number;
  torch_first_quartile_seconds: number;
  torch_median_seconds: number;
  torch_third_quartile_seconds: number;
}

export interface KernelBenchmark {
  machine: MachineRecord & {
    torch: string;
    threads: number;
    /** The card's name; empty for the CPU. */
    device_name: string;
    copy_gb_per_second: number;
    gemm_gflops: number;
  };
  /** What made the products of `lora-linear`. */
  product_calls: NativeProductCalls;
  rows: KernelRow[];
  /** Every row is ok. */
  ok: boolean;
}

export interface KernelBenchmarkSettings {
  shape?: KernelShape;
  device?: NativeDevice;
  dtype?: KernelDType;
  /** Time for each pass of each kernel. */
  seconds?: number;
  /** No progress; default true. */
  quiet?: boolean;
}

/**
 * Checks every kernel, forward and backward, against LibTorch in float64, then times it and LibTorch's composition in turn.
 * @throws InputError where there is no such device
 */
export async function benchmarkKernels(settings: KernelBenchmarkSettings = {}): Promise<KernelBenchmark> {
  const { shape = 'gemma-2b', device = 'cpu', dtype = 'float32', seconds = 1, quiet = true } = settings;
  const native = loadNative();
  const info = native.nativeInfo();
  resolveDevice(device, '--device');
  const bench = new native.KernelBench();
  const table = device === 'cpu' ? kernelShapes[shape] : cardShapes[shape];
  const bar = progress('kernels', table.length, quiet);
  try {
    const record = machineRecord();
    const limits = await bench.measureMachine({ dtype, device, seconds });
    const before = native.productCalls();
    const rows: KernelRow[] = [];
    for (const [done, [kernel, sizes]] of table.entries()) {
      bar.update(done, kernel);
      const passes = await bench.measureKernel({ kernel, sizes, dtype, device, seconds });
      for (const pass of ['forward', 'backward'] as const) {
        const measured = passes[pass];
        const { rate, unit, limit } = achieved(measured, limits.copyBytesPerSecond, limits.gemmFlopsPerSecond);
        rows.push({
          kernel,
          pass,
          size: Object.values(sizes).join('x'),
          dtype,
          device,
          error: measured.error,
          torch_error: measured.torchError,
          repeatable: measured.repeatable,
          ok: measured.repeatable && measured.error <= errorLimit(dtype, measured.torchError),
          first_quartile_seconds: measured.seconds.first,
          median_seconds: measured.seconds.median,
          third_quartile_seconds: measured.seconds.third,
          rate: rate / 1e9,
          unit,
          fraction_of_limit: rate / limit,
          torch_first_quartile_seconds: measured.torchSeconds.first,
          torch_median_seconds: measured.torchSeconds.median,
          torch_third_quartile_seconds: measured.torchSeconds.third,
        });
      }
    }
    bar.update(table.length);
    return {
      machine: {
        ...record,
        torch: info.torchVersion,
        threads: info.threads,
        device_name: device === 'cpu' ? '' : native.cardName(device),
        copy_gb_per_second: limits.copyBytesPerSecond / 1e9,
        gemm_gflops: limits.gemmFlopsPerSecond / 1e9,
      },
      product_calls: callsSince(native, before),
      rows,
      ok: rows.every((row) => row.ok),
    };
  } finally {
    bar.stop();
    bench.dispose();
  }
}

/**
 * Twice LibTorch's own error; or, where that is more, sixteen roundings of float32, in which all kernels sum up to thousands
 * of products, or two of bfloat16.
 */
export function errorLimit(dtype: KernelDType, torchError: number): number {
  return Math.max(2 * torchError, dtype === 'float32' ? 16 * 2 ** -24 : 2 * 2 ** -8);
}

function achieved(pass: NativePassMeasurement, copyRate: number, gemmRate: number) {
  return pass.flops > 0
    ? { rate: pass.flops / pass.seconds.median, unit: 'GFLOP/s' as const, limit: gemmRate }
    : { rate: pass.bytes / pass.seconds.median, unit: 'GB/s' as const, limit: copyRate };
}
