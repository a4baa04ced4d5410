import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { detectLibc } from '../../src/native/libc.js';
import { loadNative } from '../../src/native/load.js';
import type { NativeKernelBench, NativeKernels } from '../../src/native/types.js';
import { normals } from '../policy/gemma-helpers.js';

/** The fused kernels against the formulas written out in double precision here, with values that models rarely see. */

const native = loadNative();
let bench: NativeKernelBench;
beforeAll(() => {
  bench = new native.KernelBench();
});
afterAll(() => bench.dispose());

type DType = 'float32' | 'bfloat16';

function run(
  kernel: string,
  sizes: Record<string, number>,
  inputs: ArrayLike<number>[],
  dtype: DType = 'float32',
  kernels: NativeKernels = 'fused',
) {
  const arrays = inputs.map((input) => Float64Array.from(input));
  return bench.runKernel({ kernel, sizes, dtype, device: 'cpu' }, kernels, arrays);
}

/** Each number as the type holds it, so that oracle and kernel start from the same. */
const held: Record<DType, (value: number) => number> = {
  float32: Math.fround,
  bfloat16: (value) => {
    const bits = new Uint32Array(Float32Array.of(value).buffer)[0];
    return new Float32Array(Uint32Array.of((bits + 0x7fff + ((bits >>> 16) & 1)) & 0xffff0000).buffer)[0];
  },
};
/** What errors are counted in, relative: half a unit in the last place of float32, a quarter of one of bfloat16. */
const rounding: Record<DType, number> = { float32: 2 ** -24, bfloat16: 2 ** -9 };

/** |a − b| ≤ units of the type's rounding, of b or of `floor` where b is smaller. */
function expectNear(a: ArrayLike<number>, b: ArrayLike<number>, dtype: DType, units: number, floor = 0): void {
  expect(a).toHaveLength(b.length);
  for (let i = 0; i < b.length; i++) {
    const error = Math.abs(a[i] - b[i]) / Math.max(Math.abs(b[i]), floor);
    if (!(error <= units * rounding[dtype])) expect.fail(`[${i}] is ${a[i]} instead of ${b[i]}`);
  }
}

describe.each(['float32', 'bfloat16'] as const)('geglu in %s', (dtype) => {
  const cubic = 0.044715;
  const scale = Math.sqrt(2 / Math.PI);
  const logistic = (x: number) => 1 / (1 + Math.exp(-2 * scale * (x + cubic * x ** 3)));
  const slope = (x: number) => {
    const bell = Math.exp(-Math.abs(2 * scale * (x + cubic * x ** 3)));
    return logistic(x) + (x * 2 * scale * (1 + 3 * cubic * x * x) * bell) / (1 + bell) ** 2;
  };
  const gate = Array.from({ length: 2001 }, (_, i) => held[dtype]((i - 1000) / 80));
  const up = Array.from(normals(gate.length, 1), held[dtype]);
  const dy = Array.from(normals(gate.length, 2), held[dtype]);
  const sizes = { rows: 1, columns: gate.length };

  it('has every value and gradient to a few units in the last place, in the tails too', async () => {
    const { forward, backward } = await run('geglu', sizes, [gate, up, dy], dtype);
    const value = gate.map((x) => x * logistic(x));
    const expected = [value.map((v, i) => v * up[i]), value.map((v, i) => v * dy[i])];
    for (const [n, result] of [forward[0], backward[1]].entries()) {
      expectNear(result, expected[n], dtype, 20, 1e-2);
      // e^2u turns the rounding of 2u into a relative error, up to 65 of it here.
      expectNear(result, expected[n], dtype, 150, 1e-28);
    }
    const slopes = gate.map((x, i) => dy[i] * up[i] * slope(x));
    expectNear(backward[0], slopes, dtype, 20, 1); // the slope passes through 0
  });

  it('passes NaN and infinities on, and stays finite where numbers are huge', async () => {
    const infinity = Number.POSITIVE_INFINITY;
    const gates = [Number.NaN, infinity, -infinity, 1e20, -1e20, 3e38, 1, 1, 0, -0];
    const ups = [1, 1, 1, 1, 1, 1, Number.NaN, infinity, 2, 2];
    const ones = gates.map(() => 1);
    const { forward, backward } = await run('geglu', { rows: 1, columns: gates.length }, [gates, ups, ones], dtype);
    const huge = held[dtype](1e20);
    const [y] = forward;
    expect([y[0], y[1], y[2], y[6], y[7]]).toEqual([Number.NaN, infinity, Number.NaN, Number.NaN, infinity]);
    expect([y[3], Math.abs(y[4]), y[5], Math.abs(y[8])]).toEqual([huge, 0, held[dtype](3e38), 0]);
    const [dgate] = backward;
    expect([dgate[0], dgate[6], dgate[7]]).toEqual([Number.NaN, Number.NaN, infinity]);
    expect([dgate[3], dgate[4], dgate[5], dgate[8]]).toEqual([1, 0, 1, 1]);
  });
});

describe.each(['float32', 'bfloat16'] as const)('rms-norm in %s', (dtype) => {
  // A remainder in every loop, and rows of very different scale.
  const rows = 5;
  const columns = 67;
  const x = Array.from(normals(rows * columns, 3), (v, i) => held[dtype](v * 10 ** (Math.floor(i / columns) - 2)));
  const weight = Array.from(normals(columns, 4), held[dtype]);
  const dy = Array.from(normals(rows * columns, 5), held[dtype]);
  const epsilon = 1e-6;
  const row = (values: ArrayLike<number>, n: number) =>
    Array.from({ length: columns }, (_, i) => values[n * columns + i]);

  it('has every value and gradient', async () => {
    const { forward, backward } = await run('rms-norm', { rows, columns }, [x, weight, dy], dtype);
    for (let n = 0; n < rows; n++) {
      const xs = row(x, n);
      const inverse = 1 / Math.sqrt(xs.reduce((sum, v) => sum + v * v, 0) / columns + epsilon);
      const gradient = row(dy, n).map((g, i) => g * (1 + weight[i]));
      const share = (inverse ** 2 * gradient.reduce((sum, g, i) => sum + g * xs[i], 0)) / columns;
      expectNear(
        row(forward[0], n),
        xs.map((v, i) => v * inverse * (1 + weight[i])),
        dtype,
        12,
      );
      expectNear(
        row(backward[0], n),
        xs.map((v, i) => inverse * (gradient[i] - v * share)),
        dtype,
        12,
        inverse,
      );
    }
  });

  it('keeps NaN and infinity to their row', async () => {
    const odd = [...x];
    odd[columns + 3] = Number.NaN;
    odd[3 * columns + 66] = Number.POSITIVE_INFINITY;
    const clean = await run('rms-norm', { rows, columns }, [x, weight, dy], dtype);
    const { forward, backward } = await run('rms-norm', { rows, columns }, [odd, weight, dy], dtype);
    for (const [results, before] of [
      [forward[0], clean.forward[0]],
      [backward[0], clean.backward[0]],
    ]) {
      expect(row(results, 1).every(Number.isNaN)).toBe(true);
      for (const n of [0, 2, 4]) expect(row(results, n)).toEqual(row(before, n));
    }
    // As in LibTorch: ∞ / ∞ is NaN, anything finite over ∞ is 0.
    expect(row(forward[0], 3).map((v) => Math.abs(v))).toEqual([...new Array(66).fill(0), Number.NaN]);
  });

  it('gives zeros for a row of zeros, and a finite gradient', async () => {
    const { forward, backward } = await run(
      'rms-norm',
      { rows: 1, columns },
      [new Array(columns).fill(0), weight, row(dy, 0)],
      dtype,
    );
    expect(forward[0].every((v) => v === 0)).toBe(true);
    expectNear(
      backward[0],
      row(dy, 0).map((g, i) => 1e3 * g * (1 + weight[i])),
      dtype,
      12,
    );
  });
});

describe.each(['float32', 'bfloat16'] as const)('rotary in %s', (dtype) => {
  const sizes = { tokens: 3, heads: 2, headSize: 22 };
  const half = sizes.headSize / 2;
  const count = sizes.tokens * sizes.heads * sizes.headSize;
  const x = Array.from(normals(count, 6), held[dtype]);
  const dy = Array.from(normals(count, 7), held[dtype]);
  const angles = normals(sizes.tokens * half, 8);
  const cos = Array.from(angles, (a) => held[dtype](Math.cos(a)));
  const sin = Array.from(angles, (a) => held[dtype](Math.sin(a)));
  const oracle = (values: number[], direction: number) =>
    values.map((v, n) => {
      const i = n % sizes.headSize;
      const angle = Math.floor(n / (sizes.heads * sizes.headSize)) * half + (i % half);
      const other = i < half ? -values[n + half] : values[n - half];
      return v * cos[angle] + direction * other * sin[angle];
    });

  it('rotates each half against the other, and back', async () => {
    const { forward, backward } = await run('rotary', sizes, [x, cos, sin, dy], dtype);
    expectNear(forward[0], oracle(x, 1), dtype, 4, 1);
    expectNear(backward[0], oracle(dy, -1), dtype, 4, 1);
  });

  it('passes NaN to the pair only', async () => {
    const odd = [...x];
    odd[5] = Number.NaN;
    const { forward } = await run('rotary', sizes, [odd, cos, sin, dy], dtype);
    expect([...forward[0].keys()].filter((i) => Number.isNaN(forward[0][i]))).toEqual([5, 5 + half]);
  });
});

/** Of AVX-512, AVX2 and what every processor has; the largest only where this one has it. */
const registerSizes = [4, 8, 16] as const;
afterEach(() => native.limitRegisters(16));

describe.each(['float32', 'bfloat16'] as const)('token-log-prob in %s', (dtype) => {
  const oracle = (positions: number, vocabulary: number, hidden: number, inputs: ArrayLike<number>[]) => {
    const [states, head, targets, cotangents] = inputs;
    const forward: number[] = [];
    const backward = new Float64Array(positions * hidden);
    for (let p = 0; p < positions; p++) {
      const logits = Float64Array.from({ length: vocabulary }, (_, v) => {
        let sum = 0;
        for (let k = 0; k < hidden; k++) sum += states[p * hidden + k] * head[v * hidden + k];
        return sum;
      });
      const largest = logits.reduce((a, b) => Math.max(a, b));
      const total = logits.reduce((sum, x) => sum + Math.exp(x - largest), 0);
      forward.push(logits[targets[p]] - largest - Math.log(total));
      for (let v = 0; v < vocabulary; v++) {
        const g = cotangents[p] * (Number(v === targets[p]) - Math.exp(logits[v] - largest) / total);
        for (let k = 0; k < hidden; k++) backward[p * hidden + k] += g * head[v * hidden + k];
      }
    }
    return { forward, backward };
  };
  const random = (positions: number, vocabulary: number, hidden: number) => [
    Array.from(normals(positions * hidden, 9), held[dtype]),
    Array.from(normals(vocabulary * hidden, 10), (v) => held[dtype](0.5 * v)),
    // The first and the last word too.
    Array.from({ length: positions }, (_, p) => ((p * (vocabulary - 1)) % (vocabulary + 5)) % vocabulary),
    Array.from(normals(positions, 11), held[dtype]),
  ];

  // Positions in one lane, a lane and a panel, several panels; rows and columns with every remainder.
  it.each([
    [1, 1, 1],
    [5, 1235, 37],
    [16, 64, 16],
    [33, 1091, 48],
    [50, 67, 7],
  ])(
    'has every value and gradient of %i positions, %i words, hidden size %i',
    async (positions, vocabulary, hidden) => {
      const inputs = random(positions, vocabulary, hidden);
      const sizes = { positions, vocabulary, hidden };
      const expected = oracle(positions, vocabulary, hidden, inputs);
      const check = async (kernels: 'fused' | 'libtorch') => {
        const { forward, backward } = await run('token-log-prob', sizes, inputs, dtype, kernels);
        expectNear(forward[0], expected.forward, 'float32', 40, 1);
        expectNear(backward[0], expected.backward, dtype, 100, 1);
      };
      await check('libtorch');
      for (const registers of registerSizes) {
        native.limitRegisters(registers);
        await check('fused');
      }
    },
  );

  it('multiplies bfloat16 as it is where a GPU plans so, and loses no bit that float32 has', async () => {
    if (dtype === 'float32') return;
    const [positions, vocabulary, hidden] = [9, 1235, 37];
    const inputs = random(positions, vocabulary, hidden);
    const expected = oracle(positions, vocabulary, hidden, inputs);
    native.setKernels('gpu-plan');
    const { forward, backward } = await run(
      'token-log-prob',
      { positions, vocabulary, hidden },
      inputs,
      dtype,
      'libtorch',
    ).finally(() => native.setKernels('fused'));
    expectNear(forward[0], expected.forward, 'float32', 40, 1);
    const largest = expected.backward.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    // Rounded once, at the end: gradients of logits in eight bits would be off by 100 times what float32's sums are.
    for (const [i, value] of backward[0].entries())
      expect(Math.abs(value - expected.backward[i])).toBeLessThan(
        2 ** -8 * 1.001 * Math.abs(expected.backward[i]) + 1e-6 * largest,
      );
  });

  it('gives words that overflow to -∞ no probability and no gradient, and never NaN', async () => {
    const sizes = { positions: 2, vocabulary: 200, hidden: 2 };
    const [states, head, , cotangents] = random(2, 200, 2);
    states.splice(0, 4, 100, 1, 100, -1);
    for (const v of [0, 3, 64, 65, 199]) head[2 * v] = held[dtype](-3e38);
    for (const v of head.keys()) if (v % 2 === 0 && head[v] > -1e38) head[v] = 0;
    const targets = [1, 2];
    for (const kernels of ['fused', 'libtorch'] as const) {
      const { forward, backward } = await run(
        'token-log-prob',
        sizes,
        [states, head, targets, cotangents],
        dtype,
        kernels,
      );
      const finite = [...head.keys()].filter((v) => v % 2 === 0 && head[v] === 0).map((v) => head[v + 1]);
      for (const [p, sign] of [1, -1].entries()) {
        const total = finite.reduce((sum, w) => sum + Math.exp(sign * w), 0);
        const target = sign * head[2 * targets[p] + 1];
        expect(Math.abs(forward[0][p] - (target - Math.log(total)))).toBeLessThan(dtype === 'float32' ? 1e-5 : 0.02);
      }
      expect(backward[0].every(Number.isFinite)).toBe(true);
      const impossible = await run('token-log-prob', sizes, [states, head, [0, 199], cotangents], dtype, kernels);
      expect(impossible.forward[0]).toEqual(Float64Array.of(-Infinity, -Infinity));
    }
  });
});

describe.each(['float32', 'bfloat16'] as const)('tree-attention in %s', (dtype) => {
  // Tiles of 64 rows: a prompt of two and responses that share tiles or fill more than one; several key heads, and one.
  it.each([
    { trees: 2, prompt: 67, responses: 3, response: 5, heads: 4, keyValueHeads: 2, headSize: 6 },
    { trees: 1, prompt: 3, responses: 2, response: 70, heads: 3, keyValueHeads: 1, headSize: 4 },
    { trees: 3, prompt: 1, responses: 1, response: 1, heads: 2, keyValueHeads: 2, headSize: 2 },
  ])('has every value and gradient of %o', async (sizes) => {
    const { trees, prompt, responses, response, heads, keyValueHeads, headSize } = sizes;
    const length = prompt + responses * response;
    const rows = trees * length;
    const input = (count: number, seed: number) => Array.from(normals(count * headSize, seed), held[dtype]);
    const [q, k, v] = [input(rows * heads, 12), input(rows * keyValueHeads, 13), input(rows * keyValueHeads, 14)];
    const dy = input(rows * heads, 15);
    /** Rows of its tree that a row sees: the prompt's and its own response's, up to itself. */
    const seen = (row: number) => {
      const [start, own] = [row - (row % length), row % length];
      const mine = own < prompt ? 0 : own - ((own - prompt) % response);
      return Array.from({ length: own + 1 }, (_, i) => i)
        .filter((i) => i < prompt || i >= mine)
        .map((i) => start + i);
    };
    const y = q.map(() => 0);
    const [dq, dk, dv] = [q, k, v].map((list) => list.map(() => 0));
    for (let row = 0; row < rows; row++)
      for (let head = 0; head < heads; head++) {
        const at = (row * heads + head) * headSize;
        const columns = seen(row);
        const place = columns.map(
          (column) => (column * keyValueHeads + Math.floor((head * keyValueHeads) / heads)) * headSize,
        );
        const each = Array.from({ length: headSize }, (_, i) => i);
        const dot = (a: number[], b: number[], b0: number) => each.reduce((sum, i) => sum + a[at + i] * b[b0 + i], 0);
        const exps = place.map((p) => Math.exp(dot(q, k, p) / Math.sqrt(headSize)));
        const total = exps.reduce((a, b) => a + b);
        const weights = exps.map((e) => e / total);
        const slopes = place.map((p) => dot(dy, v, p));
        const mean = weights.reduce((sum, w, n) => sum + w * slopes[n], 0);
        for (const [n, p] of place.entries()) {
          const slope = (weights[n] * (slopes[n] - mean)) / Math.sqrt(headSize);
          for (const i of each) {
            y[at + i] += weights[n] * v[p + i];
            dq[at + i] += slope * k[p + i];
            dk[p + i] += slope * q[at + i];
            dv[p + i] += weights[n] * dy[at + i];
          }
        }
      }
    const { forward, backward } = await run('tree-attention', sizes, [q, k, v, dy], dtype);
    expectNear(forward[0], y, dtype, 20, 1);
    for (const [n, expected] of [dq, dk, dv].entries()) expectNear(backward[n], expected, dtype, 40, 1);
  });

  it('is refused where key heads do not divide the heads', async () => {
    const sizes = { trees: 1, prompt: 1, responses: 1, response: 1, heads: 3, keyValueHeads: 2, headSize: 2 };
    await expect(run('tree-attention', sizes, [])).rejects.toThrow(/sizes\.keyValueHeads: expected a divisor of heads/);
  });
});

describe.each([
  ['rms-norm', { rows: 83, columns: 2048 }],
  ['rotary', { tokens: 83, heads: 8, headSize: 256 }],
  ['geglu', { rows: 83, columns: 2049 }],
  ['token-log-prob', { positions: 13, vocabulary: 20011, hidden: 130 }],
])('%s of many threads', (kernel, sizes) => {
  it.each(['float32', 'bfloat16'] as const)('is right and repeats to the bit in %s', async (dtype) => {
    const passes = await bench.measureKernel({ kernel, sizes, dtype, device: 'cpu', seconds: 0.001 });
    for (const pass of [passes.forward, passes.backward]) {
      expect(pass.error).toBeLessThan(16 * rounding[dtype]);
      expect(pass.error).toBeLessThan(2 * pass.torchError + 4 * rounding[dtype]);
      expect(pass.repeatable).toBe(true);
      for (const { first, median, third } of [pass.seconds, pass.torchSeconds]) {
        expect(first).toBeGreaterThan(0);
        expect(first <= median && median <= third).toBe(true);
      }
      expect(pass.bytes).toBeGreaterThan(0);
    }
  });
});

it.runIf(detectLibc().startsWith('glibc') && process.arch === 'x64')(
  'reuses large blocks without a page fault',
  async () => {
    // 22 MB a tensor: without the pool each would come fresh from the kernel, 5,312 pages at every call.
    const setting = { kernel: 'geglu', sizes: { rows: 332, columns: 16384 }, dtype: 'float32', device: 'cpu' } as const;
    const faults = async (seconds: number) => {
      const before = process.resourceUsage().minorPageFault;
      await bench.measureKernel({ ...setting, seconds });
      return process.resourceUsage().minorPageFault - before;
    };
    await faults(0.001);
    const few = await faults(0.001); // the checks before, and three calls of everything
    const many = await faults(0.5);
    expect(many - few).toBeLessThan(5312);
  },
);

describe('an adapted product in bfloat16', () => {
  /** Of each entry of the product of [n, inner] and [inner, m] the sum, and the sum of the terms' absolute values. */
  const product = (
    n: number,
    m: number,
    inner: number,
    a: (i: number, k: number) => number,
    b: (k: number, j: number) => number,
  ) =>
    Array.from({ length: n * m }, (_, at) => {
      const sum = { value: 0, size: 0 };
      for (let k = 0; k < inner; k++) {
        const term = a(Math.floor(at / m), k) * b(k, at % m);
        sum.value += term;
        sum.size += Math.abs(term);
      }
      return sum;
    });
  /** Half a unit in the last place. */
  const half = (value: number) => 2 ** (Math.floor(Math.log2(Math.abs(value))) - 8);
  const { bfloat16 } = held;

  it.each(([16, 8] as const).flatMap((registers) => [2e-5, 1e-4].map((small) => ({ registers, small }))))(
    'is rounded once, forward and backward, however small the adapter ($registers registers, B of $small)',
    async ({ registers, small }) => {
      native.limitRegisters(registers);
      for (const sizes of [
        { rows: 7, in: 67, out: 35, rank: 3 },
        { rows: 64, in: 256, out: 128, rank: 8 },
      ]) {
        const { rows, in: into, out, rank } = sizes;
        const draw = (n: number, scale: number, seed: number) =>
          normals(n, seed).map((value) => bfloat16(scale * value));
        const [x, a, b] = [draw(rows * into, 1, 1), draw(rank * into, 0.1, 2), draw(out * rank, small, 3)];
        const [w, dy] = [draw(out * into, 0.05, 4), draw(rows * out, 1, 5)];
        const { forward, backward } = await run('lora-linear', sizes, [x, a, b, w, dy], 'bfloat16');
        /** Of the result the frozen part and the adapter's, which is rounded to bfloat16 after each of its two products. */
        const check = (found: Float64Array, frozen: ReturnType<typeof product>, low: ReturnType<typeof product>) => {
          const bound = frozen.map(
            ({ value, size }, i) => half(value + 4 * low[i].value) + 2 * 2 ** -8 * 4 * low[i].size + 2 ** -22 * size,
          );
          const isWithin = (result: number, i: number) =>
            Math.abs(result - (frozen[i].value + 4 * low[i].value)) <= bound[i];
          for (const [i, result] of found.entries())
            if (!isWithin(result, i)) expect.fail(`[${i}] is ${result}, not ${frozen[i].value + 4 * low[i].value}`);
          const twice = frozen.filter(({ value }, i) => !isWithin(bfloat16(bfloat16(value) + 4 * low[i].value), i));
          expect(twice.length, 'that rounding twice would not do').toBeGreaterThan(0.05 * frozen.length);
        };
        /** `frozen`, `first` and `second` by row and column, of what the input [rows, inner] is multiplied with. */
        const verify = (
          found: Float64Array,
          input: Float64Array,
          [inner, outer]: [number, number],
          frozen: (k: number, j: number) => number,
          first: (k: number, r: number) => number,
          second: (r: number, j: number) => number,
        ) => {
          const from = (i: number, k: number) => input[i * inner + k];
          const low = product(rows, rank, inner, from, first);
          const between = (i: number, r: number) => low[i * rank + r].value;
          check(found, product(rows, outer, inner, from, frozen), product(rows, outer, rank, between, second));
        };
        const [aAt, bAt] = [(r: number, k: number) => a[r * into + k], (j: number, r: number) => b[j * rank + r]];
        const wAt = (j: number, k: number) => w[j * into + k];
        const swapped = (at: (i: number, j: number) => number) => (i: number, j: number) => at(j, i);
        verify(forward[0], x, [into, out], swapped(wAt), swapped(aAt), swapped(bAt));
        verify(backward[0], dy, [out, into], wAt, bAt, aAt);
      }
    },
  );
});

describe('arguments', () => {
  const setting = { kernel: 'geglu', sizes: { rows: 1, columns: 2 }, dtype: 'float32', device: 'cpu' } as const;
  const measured = { ...setting, seconds: 0.001 };

  it.each([
    [{ ...measured, kernel: 'gelu' }, /kernel: expected one of rms-norm, rotary, geglu.*, not gelu/],
    [{ ...measured, sizes: { rows: 1 } }, /sizes\.columns/],
    [{ ...measured, sizes: { rows: 0, columns: 2 } }, /sizes\.rows: expected at least 1/],
    [{ ...measured, dtype: 'float64' }, /dtype/],
    [{ ...measured, device: 'tpu' }, /device: expected cpu, cuda or cuda:N/],
  ])('refuses %o', async (wrong, message) => {
    await expect(async () => bench.measureKernel(wrong as typeof measured)).rejects.toThrow(message);
  });

  it('refuses inputs that do not fit, a wrong switch, and use after dispose', async () => {
    await expect(run('geglu', setting.sizes, [[1, 2]])).rejects.toThrow(/inputs: expected 3 arrays/);
    await expect(run('geglu', setting.sizes, [[1, 2], [1], [1, 2]])).rejects.toThrow(/inputs\[1\]: expected 2 numbers/);
    expect(() => native.setKernels('fast' as NativeKernels)).toThrow(/kernels: expected fused, libtorch or gpu-plan/);
    const other = new native.KernelBench();
    other.dispose();
    await expect(other.measureKernel(measured)).rejects.toMatchObject({ code: 'DISPOSED' });
  });
});

describe('products', () => {
  const call = async (kernel: string, sizes: Record<string, number>, dtype: DType) => {
    const before = native.productCalls();
    await bench.measureKernel({ kernel, sizes, dtype, device: 'cpu', seconds: 0.001 });
    const after = native.productCalls();
    return { onednn: after.onednn - before.onednn, libtorch: after.libtorch - before.libtorch };
  };

  it('are counted by what made them: large ones of float32 by the entry that nativeInfo names', async () => {
    const large = { rows: 8, in: 1024, out: 1024, rank: 2 };
    const way = native.nativeInfo().products;
    expect((await call('lora-linear', large, 'float32'))[way]).toBeGreaterThan(0);
    if (native.nativeInfo().bfloat16Products)
      expect(await call('lora-linear', large, 'bfloat16')).toEqual({ onednn: 0, libtorch: expect.any(Number) });
    expect((await call('lora-linear', { rows: 8, in: 64, out: 64, rank: 2 }, 'float32')).onednn).toBe(0);
    expect(await call('geglu', { rows: 1, columns: 1 }, 'float32')).toEqual({ onednn: 0, libtorch: 0 });
  });

  it('of bfloat16 are taken in float32 where the processor has no instruction for them', async () => {
    const sizes = { rows: 8, in: 1024, out: 1024, rank: 2 };
    native.limitRegisters(8);
    expect(native.nativeInfo().bfloat16Products).toBe(false);
    expect((await call('lora-linear', sizes, 'bfloat16'))[native.nativeInfo().products]).toBeGreaterThan(0);
    const setting = { kernel: 'lora-linear', sizes, dtype: 'bfloat16', device: 'cpu', seconds: 0.001 } as const;
    for (const pass of Object.values(await bench.measureKernel(setting))) {
      expect(pass.error).toBeLessThan(16 * rounding.bfloat16);
      expect(pass.repeatable).toBe(true);
    }
  });
});
