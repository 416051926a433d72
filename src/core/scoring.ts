/** Scores of a row for a query, by head and combined: BGE-M3's own definitions, without copies. */
import type { Head } from "./contracts.ts";

/** Vectors of many rows, column-wise, as in a result file. */
export interface RowVectors {
  readonly dim: number;
  /** float32 [rows, dim], unit length */
  readonly dense: Float32Array | null;
  /** Row `i` owns `[offsets[i], offsets[i + 1])` of both arrays, indices ascending. */
  readonly sparse: {
    readonly offsets: Uint32Array;
    readonly indices: Uint32Array;
    readonly values: Float32Array;
  } | null;
  /** offsets in vectors; values float32 [vectors, dim], unit length */
  readonly colbert: { readonly offsets: Uint32Array; readonly values: Float32Array } | null;
}

/** Weight of each head in the hybrid score. */
export type HeadWeights = Readonly<Record<Head, number>>;

/** Weights from FlagEmbedding's README for BGE-M3: dense 0.4, sparse 0.2, ColBERT 0.4. */
export const PUBLISHED_WEIGHTS: HeadWeights = { dense: 0.4, sparse: 0.2, colbert: 0.4 };

/** Score of row `q` of the queries against row `r` of the rows. Null where either has no such vectors. */
export function headScore(head: Head, queries: RowVectors, q: number, rows: RowVectors, r: number): number | null {
  if (head === "dense") {
    if (queries.dense === null || rows.dense === null) return null;
    return dot(queries.dense, q, rows.dense, r, rows.dim);
  }
  if (head === "sparse") {
    if (queries.sparse === null || rows.sparse === null) return null;
    return sparseDot(queries.sparse, q, rows.sparse, r);
  }
  if (queries.colbert === null || rows.colbert === null) return null;
  return maxSim(queries.colbert, q, rows.colbert, r, rows.dim);
}

/**
 * Weighted mean of the available scores, as in FlagEmbedding's `compute_score`. Null when no head with a weight has a
 * score.
 */
export function hybridScore(scores: Readonly<Record<Head, number | null>>, weights: HeadWeights): number | null {
  let sum = 0;
  let total = 0;
  for (const head of ["dense", "sparse", "colbert"] as const) {
    const score = scores[head];
    if (score === null || weights[head] === 0) continue;
    sum += weights[head] * score;
    total += weights[head];
  }
  return total === 0 ? null : sum / total;
}

/** Dot product of vector `i` of `a` and vector `j` of `b`; equals the cosine, because both have unit length. */
export function dot(a: Float32Array, i: number, b: Float32Array, j: number, dim: number): number {
  const left = i * dim;
  const right = j * dim;
  // Four accumulators, so that an addition need not wait for the previous one.
  let s0 = 0;
  let s1 = 0;
  let s2 = 0;
  let s3 = 0;
  let k = 0;
  for (; k + 3 < dim; k += 4) {
    s0 += a[left + k]! * b[right + k]!;
    s1 += a[left + k + 1]! * b[right + k + 1]!;
    s2 += a[left + k + 2]! * b[right + k + 2]!;
    s3 += a[left + k + 3]! * b[right + k + 3]!;
  }
  for (; k < dim; k++) s0 += a[left + k]! * b[right + k]!;
  return s0 + s1 + (s2 + s3);
}

/** Sum over shared ids of the product of their weights; ids ascend in both lists. */
export function sparseDot(
  a: NonNullable<RowVectors["sparse"]>,
  i: number,
  b: NonNullable<RowVectors["sparse"]>,
  j: number,
): number {
  let sum = 0;
  let left = a.offsets[i]!;
  let right = b.offsets[j]!;
  const leftEnd = a.offsets[i + 1]!;
  const rightEnd = b.offsets[j + 1]!;
  while (left < leftEnd && right < rightEnd) {
    const difference = a.indices[left]! - b.indices[right]!;
    if (difference === 0) sum += a.values[left++]! * b.values[right++]!;
    else if (difference < 0) left++;
    else right++;
  }
  return sum;
}

/** Mean over the query's vectors of the best match among the row's; 0 when either has none. */
export function maxSim(
  query: NonNullable<RowVectors["colbert"]>,
  q: number,
  rows: NonNullable<RowVectors["colbert"]>,
  r: number,
  dim: number,
): number {
  const first = query.offsets[q]!;
  const end = query.offsets[q + 1]!;
  const rowFirst = rows.offsets[r]!;
  const rowEnd = rows.offsets[r + 1]!;
  if (first === end || rowFirst === rowEnd) return 0;
  let sum = 0;
  for (let i = first; i < end; i++) {
    let best = -Infinity;
    for (let j = rowFirst; j < rowEnd; j++) best = Math.max(best, dot(query.values, i, rows.values, j, dim));
    sum += best;
  }
  return sum / (end - first);
}
