/** Half-precision floats (IEEE 754 binary16), for which Node.js 20 has no typed array: their bits, as Uint16Array. */

const INFINITY = 0x7c00;
const NAN = 0x7e00;
/** Bits of the single-precision floats from which a half is infinite, and below which it is subnormal. */
const FIRST_INFINITE = 0x477ff000;
const FIRST_NORMAL = 0x38800000;
/** Difference of the exponent biases, 127 - 15, shifted to the exponent's position. */
const BIAS = 112 << 23;
/** Mantissa bits that a half lacks: 23 - 10. */
const DROPPED = 13;

/** Rounds to the nearest half, ties to even, as processors do. @param halves Output; new memory by default. */
export function toHalf(values: Float32Array, halves = new Uint16Array(values.length)): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < bits.length; i++) {
    const all = bits[i]!;
    const sign = (all >>> 16) & 0x8000;
    const size = all & 0x7fffffff;
    if (size >= FIRST_NORMAL && size < FIRST_INFINITE) {
      const isOdd = (size >>> DROPPED) & 1;
      halves[i] = sign | ((size - BIAS + 0xfff + isOdd) >>> DROPPED);
    } else halves[i] = sign | rareHalf(values[i]!, size);
  }
  return halves;
}

function rareHalf(value: number, size: number): number {
  if (size > 0x7f800000) return NAN;
  if (size >= FIRST_INFINITE) return INFINITY;
  // Subnormal: multiples of 2^-24. Exact in a double, so it is rounded only once.
  const steps = Math.abs(value) * 2 ** 24;
  const below = Math.floor(steps);
  const rest = steps - below;
  return rest > 0.5 || (rest === 0.5 && below % 2 === 1) ? below + 1 : below;
}

let singles: Float32Array | null = null;

/** Exact conversion: every half is a single-precision float. */
export function fromHalf(halves: Uint16Array): Float32Array {
  singles ??= Float32Array.from({ length: 2 ** 16 }, (_, half) => singleOf(half));
  const table = singles;
  const values = new Float32Array(halves.length);
  for (let i = 0; i < halves.length; i++) values[i] = table[halves[i]!]!;
  return values;
}

function singleOf(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >>> 10) & 0x1f;
  const mantissa = half & 0x3ff;
  if (exponent === 0) return sign * mantissa * 2 ** -24;
  if (exponent === 0x1f) return mantissa === 0 ? sign * Infinity : NaN;
  return sign * (1 + mantissa / 1024) * 2 ** (exponent - 15);
}

/** Exact conversion: a bfloat16 is the upper half of a single-precision float. */
export function fromBfloat16(bits: Uint16Array): Float32Array {
  return new Float32Array(Uint32Array.from(bits, (upper) => upper << 16).buffer);
}
