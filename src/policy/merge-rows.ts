import { decodeFloats, encodeFloats, type FloatType } from './float-types.js';

/** W += scale · B A, for one weight matrix. */
export interface Update {
  scale: number;
  rank: number;
  /** [rank, in] */
  a: Float32Array;
  /** [out, rank] */
  b: Float32Array;
  shape: [out: number, inputs: number];
}

/** What merging did to the entries of all weights that it changed. */
export interface MergeSizes {
  /** Largest |scale · B·A|: how far a weight moved. */
  largestChange: number;
  /** Largest difference between a merged weight and its stored value, which is rounded to the checkpoint's type. */
  largestRounding: number;
  /** Σ (scale · B·A)² */
  wanted: number;
  /** Σ (scale · B·A) · (stored merged weight − weight) */
  made: number;
}

/** Rows `first` and on of W + scale · B A in the given type; undefined where an entry is not finite. */
export function mergeRows(
  weights: Float32Array,
  first: number,
  { scale, rank, a, b, shape: [, columns] }: Update,
  dtype: FloatType,
  sizes: MergeSizes,
): Uint8Array | undefined {
  const exact = new Float64Array(weights.length);
  const change = new Float64Array(columns);
  for (let row = 0; row * columns < weights.length; row++) {
    change.fill(0);
    for (let k = 0; k < rank; k++) {
      const factor = scale * b[(first + row) * rank + k];
      for (let j = 0; j < columns; j++) change[j] += factor * a[k * columns + j];
    }
    for (let j = 0; j < columns; j++) {
      const size = Math.abs(change[j]);
      if (size > sizes.largestChange) sizes.largestChange = size;
      sizes.wanted += size * size;
      exact[row * columns + j] = weights[row * columns + j] + change[j];
    }
  }
  const bytes = encodeFloats(new Float32Array(exact), dtype);
  const stored = decodeFloats(bytes, dtype);
  for (let i = 0; i < stored.length; i++) {
    if (!Number.isFinite(stored[i])) return undefined;
    const rounding = Math.abs(stored[i] - exact[i]);
    if (rounding > sizes.largestRounding) sizes.largestRounding = rounding;
    sizes.made += (exact[i] - weights[i]) * (stored[i] - weights[i]);
  }
  return bytes;
}
