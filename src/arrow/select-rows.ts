/** Combination of rows of several result files, in any order. */
import { TEXT_HASH_BYTES } from "../core/rows.ts";
import type { ResultRows } from "./results.ts";

/** Reference to row `row` of `from`. */
export interface PickedRow {
  readonly from: ResultRows;
  readonly row: number;
}

/** @param picked At least one row; all files have the same columns. Everything is copied. */
export function selectRows(picked: readonly PickedRow[]): ResultRows {
  const { dim, texts, sparse, colbert, dense, kept } = picked[0]!.from;
  const uint32 = (of: (rows: ResultRows) => Uint32Array): Uint32Array =>
    Uint32Array.from(picked, ({ from, row }) => of(from)[row]!);
  return {
    ids: picked.map(({ from, row }) => from.ids[row]!),
    chunks: uint32((rows) => rows.chunks),
    charStarts: uint32((rows) => rows.charStarts),
    charEnds: uint32((rows) => rows.charEnds),
    tokenCounts: uint32((rows) => rows.tokenCounts),
    textHashes: fixed(picked, new Uint8Array(picked.length * TEXT_HASH_BYTES), (rows) => rows.textHashes),
    dim,
    dense: dense && fixed(picked, new Float32Array(picked.length * dim), (rows) => rows.dense!),
    sparse: sparse && selectSparse(picked),
    colbert: colbert && selectColbert(picked, dim),
    texts: texts && picked.map(({ from, row }) => from.texts![row]!),
    kept: kept.map(({ name }, i) => ({ name, values: picked.map(({ from, row }) => from.kept[i]!.values[row]!) })),
  };
}

function fixed<T extends Uint8Array | Float32Array>(
  picked: readonly PickedRow[],
  out: T,
  of: (rows: ResultRows) => T,
): T {
  const width = out.length / picked.length;
  picked.forEach(({ from, row }, i) => out.set(of(from).subarray(row * width, (row + 1) * width), i * width));
  return out;
}

/** Offsets of each picked row's entries in a list column. */
function offsetsOf(picked: readonly PickedRow[], of: (rows: ResultRows) => Uint32Array): Uint32Array {
  const offsets = new Uint32Array(picked.length + 1);
  picked.forEach(({ from, row }, i) => (offsets[i + 1] = offsets[i]! + of(from)[row + 1]! - of(from)[row]!));
  return offsets;
}

function selectSparse(picked: readonly PickedRow[]): NonNullable<ResultRows["sparse"]> {
  const offsets = offsetsOf(picked, (rows) => rows.sparse!.offsets);
  const indices = new Uint32Array(offsets.at(-1)!);
  const values = new Float32Array(offsets.at(-1)!);
  picked.forEach(({ from, row }, i) => {
    const [start, end] = [from.sparse!.offsets[row], from.sparse!.offsets[row + 1]];
    indices.set(from.sparse!.indices.subarray(start, end), offsets[i]);
    values.set(from.sparse!.values.subarray(start, end), offsets[i]);
  });
  return { offsets, indices, values };
}

function selectColbert(picked: readonly PickedRow[], dim: number): NonNullable<ResultRows["colbert"]> {
  const offsets = offsetsOf(picked, (rows) => rows.colbert!.offsets);
  const values = new Float32Array(offsets.at(-1)! * dim);
  picked.forEach(({ from, row }, i) => {
    const [start, end] = [from.colbert!.offsets[row]! * dim, from.colbert!.offsets[row + 1]! * dim];
    values.set(from.colbert!.values.subarray(start, end), offsets[i]! * dim);
  });
  return { offsets, values };
}
