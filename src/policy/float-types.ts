/** The floating-point types of checkpoints, to float32 and back, rounding to nearest, ties to even. */

export type FloatType = 'F32' | 'BF16' | 'F16';

export const floatSizes: Record<FloatType, number> = { F32: 4, BF16: 2, F16: 2 };

export function isFloatType(dtype: string): dtype is FloatType {
  return Object.hasOwn(floatSizes, dtype);
}

/** Little-endian values as float32, exactly. */
export function decodeFloats(bytes: Uint8Array, dtype: FloatType): Float32Array {
  const aligned = new Uint8Array(bytes).buffer;
  if (dtype === 'F32') return new Float32Array(aligned);
  const words = new Uint16Array(aligned);
  // Loops: TypedArray.from with a function made merging 13 times slower.
  const values = new Float32Array(words.length);
  if (dtype === 'F16') for (let i = 0; i < words.length; i++) values[i] = decodeHalf(words[i]);
  else {
    const bits = new Uint32Array(values.buffer);
    for (let i = 0; i < words.length; i++) bits[i] = words[i] << 16;
  }
  return values;
}

/** float32 values in the given type, little-endian; what is too large becomes infinite. */
export function encodeFloats(values: Float32Array, dtype: FloatType): Uint8Array {
  if (dtype === 'F32') return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const words = new Uint16Array(bits.length);
  if (dtype === 'F16') for (let i = 0; i < words.length; i++) words[i] = encodeHalf(bits[i]);
  else for (let i = 0; i < words.length; i++) words[i] = encodeBrain(bits[i]);
  return new Uint8Array(words.buffer);
}

function encodeBrain(bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

/** 1 sign, 5 exponent, 10 fraction bits. */
function decodeHalf(word: number): number {
  const sign = word & 0x8000 ? -1 : 1;
  const exponent = (word >>> 10) & 0x1f;
  const fraction = word & 0x3ff;
  if (exponent === 0x1f) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25));
}

function encodeHalf(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  // 65520, halfway between the largest half and what would follow it, and all above.
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude >= 0x38800000) return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
  // Below 2^-14 halves are multiples of 2^-24.
  const exponent = magnitude >>> 23;
  if (exponent < 102) return sign;
  const significand = (magnitude & 0x7fffff) | 0x800000;
  const shift = 126 - exponent;
  const floor = Math.floor(significand / 2 ** shift);
  const rest = significand - floor * 2 ** shift;
  const half = 2 ** (shift - 1);
  return sign | (floor + (rest > half || (rest === half && floor & 1) ? 1 : 0));
}
