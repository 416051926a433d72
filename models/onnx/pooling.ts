/** From a row's hidden states to one vector, by sentence-transformers' rules (`Pooling`). */
import type { Pooling } from "../registry/manifest.ts";

export interface HiddenStates {
  /** float32 [batch, longest, hiddenSize] */
  readonly values: Float32Array;
  readonly batch: number;
  readonly longest: number;
  /** Real tokens of each row. */
  readonly lengths: readonly number[];
}

/** @returns [batch, poolings x hiddenSize]: one vector per pooling, side by side. */
export function poolStates(hidden: HiddenStates, poolings: readonly Pooling[], hiddenSize: number): Float32Array {
  const { batch, longest, lengths, values } = hidden;
  const width = poolings.length * hiddenSize;
  const pooled = new Float32Array(batch * width);
  for (let row = 0; row < batch; row++) {
    const start = row * longest * hiddenSize;
    const states = values.subarray(start, start + lengths[row]! * hiddenSize);
    poolings.forEach((pooling, at) => pooled.set(POOL[pooling](states, hiddenSize), row * width + at * hiddenSize));
  }
  return pooled;
}

/** @param states Of one row, [tokens, hiddenSize], without padding. */
type Pool = (states: Float32Array, hiddenSize: number) => ArrayLike<number>;

const POOL: Readonly<Record<Pooling, Pool>> = {
  cls: (states, hiddenSize) => states.subarray(0, hiddenSize),
  last: (states, hiddenSize) => states.subarray(states.length - hiddenSize),
  max: (states, hiddenSize) => {
    const max = states.slice(0, hiddenSize);
    for (let at = hiddenSize; at < states.length; at += hiddenSize)
      for (let i = 0; i < hiddenSize; i++) max[i] = Math.max(max[i]!, states[at + i]!);
    return max;
  },
  mean: (states, hiddenSize) =>
    weightedSum(
      states,
      hiddenSize,
      () => 1,
      (weights) => weights,
    ),
  mean_sqrt_len: (states, hiddenSize) => weightedSum(states, hiddenSize, () => 1, Math.sqrt),
  weightedmean: (states, hiddenSize) =>
    weightedSum(
      states,
      hiddenSize,
      (token) => token + 1,
      (weights) => weights,
    ),
};

/** Summed in float64, so that the error does not grow with the row's length. */
function weightedSum(
  states: Float32Array,
  hiddenSize: number,
  weightOf: (token: number) => number,
  divisorOf: (weights: number) => number,
): Float64Array {
  const sum = new Float64Array(hiddenSize);
  let weights = 0;
  for (let token = 0; token * hiddenSize < states.length; token++) {
    const weight = weightOf(token);
    const at = token * hiddenSize;
    weights += weight;
    for (let i = 0; i < hiddenSize; i++) sum[i]! += weight * states[at + i]!;
  }
  const divisor = divisorOf(weights);
  for (let i = 0; i < hiddenSize; i++) sum[i]! /= divisor;
  return sum;
}
