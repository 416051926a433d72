/** A shard's rows while a worker holds them: token ids in, vectors out, in shared memory. */
import type { Head } from "./contracts.ts";

/**
 * All buffers are shared, so the inference thread reads ids from them and scatters its results into
 * them, and nothing is copied between threads. Row `i` has the ids
 * `ids[offsets[i] .. offsets[i + 1])`, special tokens included.
 */
export interface ShardBuffers {
  readonly rows: number;
  readonly dim: number;
  /** int32 [tokens] */
  readonly ids: Int32Array;
  /** uint32 [rows + 1] */
  readonly offsets: Uint32Array;
  /** float32 [rows, dim], unit length; null when the head was not asked for. */
  readonly dense: Float32Array | null;
  /** Row `i` owns `[offsets[i], offsets[i] + sparseCounts[i])` of both arrays, indices ascending. */
  readonly sparseIndices: Uint32Array | null;
  readonly sparseValues: Float32Array | null;
  readonly sparseCounts: Uint32Array | null;
  /** float32 [tokens - rows, dim]: `<s>` has no vector, so row `i` starts at `offsets[i] - i`. */
  readonly colbert: Float32Array | null;
  /** Why the row has no results, as one of `BROKEN`; 0 for a sound row. */
  readonly broken: Uint8Array;
}

export const BROKEN = { nonFinite: 1, crashed: 2 } as const;

/** One row of one shard. */
export interface RowRef {
  readonly shard: ShardBuffers;
  readonly row: number;
}

/** When the session worked on a batch, in milliseconds since the epoch, with fractions. */
export interface BatchReport {
  readonly startedAtMs: number;
  readonly finishedAtMs: number;
}

function shared<T>(make: new (buffer: SharedArrayBuffer) => T, length: number, bytesPerElement: number): T {
  return new make(new SharedArrayBuffer(length * bytesPerElement));
}

/** @param lengths Tokens of each row, special tokens included, in row order. */
export function allocateShard(
  params: Readonly<{ lengths: ArrayLike<number>; dim: number; heads: readonly Head[] }>,
): ShardBuffers {
  const { lengths, dim, heads } = params;
  const rows = lengths.length;
  const offsets = shared(Uint32Array, rows + 1, 4);
  for (let row = 0; row < rows; row++) offsets[row + 1] = offsets[row]! + lengths[row]!;
  const tokens = offsets[rows]!;
  const sparse = heads.includes("sparse");
  return {
    rows,
    dim,
    ids: shared(Int32Array, tokens, 4),
    offsets,
    dense: heads.includes("dense") ? shared(Float32Array, rows * dim, 4) : null,
    sparseIndices: sparse ? shared(Uint32Array, tokens, 4) : null,
    sparseValues: sparse ? shared(Float32Array, tokens, 4) : null,
    sparseCounts: sparse ? shared(Uint32Array, rows, 4) : null,
    colbert: heads.includes("colbert") ? shared(Float32Array, (tokens - rows) * dim, 4) : null,
    broken: shared(Uint8Array, rows, 1),
  };
}

/** Copies a row's results between shards of one model that were allocated for the same heads. */
export function copyRow(from: RowRef, to: RowRef): void {
  const source = from.shard;
  const target = to.shard;
  const tokens = rowLength(from);
  const start = source.offsets[from.row]!;
  const at = target.offsets[to.row]!;
  const { dim } = source;
  target.dense?.set(source.dense!.subarray(from.row * dim, (from.row + 1) * dim), to.row * dim);
  target.sparseIndices?.set(source.sparseIndices!.subarray(start, start + tokens), at);
  target.sparseValues?.set(source.sparseValues!.subarray(start, start + tokens), at);
  target.sparseCounts?.set(source.sparseCounts!.subarray(from.row, from.row + 1), to.row);
  const vectors = source.colbert?.subarray((start - from.row) * dim, (start - from.row + tokens - 1) * dim);
  if (vectors !== undefined) target.colbert?.set(vectors, (at - to.row) * dim);
  target.broken[to.row] = source.broken[from.row]!;
}

export function rowLength(ref: RowRef): number {
  return ref.shard.offsets[ref.row + 1]! - ref.shard.offsets[ref.row]!;
}
