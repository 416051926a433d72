/** A shard's rows in a worker: token ids in, vectors out, in shared memory. */
import { ALL_HEADS, type Head } from "./contracts.ts";

/**
 * Input and output arrays of one shard, all in one shared buffer: the model's threads read ids from it and write their
 * results to it, and the result file is built from it. Row `i` has the ids `ids[offsets[i] .. offsets[i + 1])`, special
 * tokens included.
 */
export interface ShardBuffers {
  readonly rows: number;
  readonly dim: number;
  /** int32 [tokens] */
  readonly ids: Int32Array;
  /** uint32 [rows + 1] */
  readonly offsets: Uint32Array;
  /** float32 [rows, dim], unit length; null when the head was not requested. */
  readonly dense: Float32Array | null;
  /** Row `i` owns `[offsets[i], offsets[i] + sparseCounts[i])` of both arrays, indices ascending. */
  readonly sparseIndices: Uint32Array | null;
  readonly sparseValues: Float32Array | null;
  readonly sparseCounts: Uint32Array | null;
  /** float32 [tokens - rows, dim]: `<s>` has no vector, so row `i` starts at `offsets[i] - i`. */
  readonly colbert: Float32Array | null;
  /** uint8 [rows]: one of `BROKEN`, the reason why the row has no results; 0 for a valid row. */
  readonly broken: Uint8Array;
}

export const BROKEN = { nonFinite: 1, crashed: 2 } as const;

/** One row of one shard. */
export interface RowRef {
  readonly shard: ShardBuffers;
  readonly row: number;
}

/** Time that the session spent on a batch, in milliseconds since the epoch, with fractions. */
export interface BatchReport {
  readonly startedAtMs: number;
  readonly finishedAtMs: number;
}

/**
 * @param params.lengths Number of tokens of each row, special tokens included, in row order.
 * @param params.take Allocates at least so many bytes, with any content; a new buffer by default.
 */
export function allocateShard(
  params: Readonly<{
    lengths: ArrayLike<number>;
    dim: number;
    heads: readonly Head[];
    take?: (bytes: number) => SharedArrayBuffer;
  }>,
): ShardBuffers {
  const { lengths, dim, heads, take = (bytes) => new SharedArrayBuffer(bytes) } = params;
  const rows = lengths.length;
  let tokens = 0;
  for (let row = 0; row < rows; row++) tokens += lengths[row]!;
  const dense = heads.includes("dense") ? rows * dim : null;
  const sparse = heads.includes("sparse") ? tokens : null;
  const colbert = heads.includes("colbert") ? (tokens - rows) * dim : null;
  const ofSparse = sparse === null ? [] : [sparse, sparse, rows];
  const lengthsInWords = [tokens, rows + 1, dense ?? 0, ...ofSparse, colbert ?? 0];
  const memory = take(lengthsInWords.reduce((sum, length) => sum + alignedBytes(length), 0) + rows);
  let at = 0;
  const place = (length: number): number => {
    const start = at;
    at += alignedBytes(length);
    return start;
  };
  const floats = (length: number): Float32Array => new Float32Array(memory, place(length), length);
  const counts = (length: number): Uint32Array => new Uint32Array(memory, place(length), length);
  const ids = new Int32Array(memory, place(tokens), tokens);
  const offsets = counts(rows + 1);
  offsets[0] = 0;
  for (let row = 0; row < rows; row++) offsets[row + 1] = offsets[row]! + lengths[row]!;
  return {
    rows,
    dim,
    ids,
    offsets,
    dense: dense === null ? null : floats(dense),
    sparseIndices: sparse === null ? null : counts(sparse),
    sparseValues: sparse === null ? null : floats(sparse),
    sparseCounts: sparse === null ? null : counts(rows).fill(0),
    colbert: colbert === null ? null : floats(colbert),
    broken: new Uint8Array(memory, at, rows).fill(0),
  };
}

/** V8 copies shared memory word by word, and four times slower where source and target are not word-aligned. */
function alignedBytes(lengthInWords: number): number {
  return Math.ceil(lengthInWords / 2) * 8;
}

/** Copies a row's results between two shards of one model that were allocated for the same heads. */
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

/** Whether a shard has buffers for a head; runs differ in the heads they request. */
export function wants(shard: ShardBuffers, head: Head): boolean {
  return (head === "sparse" ? shard.sparseCounts : shard[head]) !== null;
}

/** Every head that at least one row of a batch requests. */
export function wantedHeads(rows: readonly RowRef[]): Head[] {
  return ALL_HEADS.filter((head) => rows.some(({ shard }) => wants(shard, head)));
}

export function rowLength(ref: RowRef): number {
  return ref.shard.offsets[ref.row + 1]! - ref.shard.offsets[ref.row]!;
}
