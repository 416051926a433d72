/** The interface of export formats and its input: slices of result files, small enough to be held as text. */
import type { ResultRows } from "../../arrow/results.ts";
import type { Head, RunOptions } from "../../core/contracts.ts";
import { rowUuid } from "../row-uuid.ts";

/** Here and not beside their code, which the command line's help does not need to load. */
export const EXPORT_FORMAT_NAMES = ["jsonl", "milvus", "numpy", "opensearch", "parquet", "pgvector", "qdrant"] as const;
export type ExportFormatName = (typeof EXPORT_FORMAT_NAMES)[number];

/** Some rows of one result file. */
export interface Slice {
  readonly rows: ResultRows;
  /** Row numbers, ascending. */
  readonly picked: Uint32Array;
  /** Heads to export, all of them in `rows`. */
  readonly heads: readonly Head[];
}

export interface ExportedFile {
  /** Key relative to the export's folder. */
  readonly key: string;
  readonly body: Uint8Array;
}

export interface ExportContext {
  readonly run: string;
  readonly options: RunOptions;
  readonly heads: readonly Head[];
}

export interface ExportFormat {
  /** Heads that the target supports. */
  readonly heads: readonly Head[];
  /** Maximum bytes of vectors and text in a slice. */
  readonly sliceBytes: number;
  /** Files beside the rows, which create the table or collection. */
  describe(context: ExportContext): ExportedFile[];
  /** @param part Name of the slice, unique in the export. */
  encode(slice: Slice, part: string, context: ExportContext): ExportedFile[];
}

export function uuidOf(rows: ResultRows, row: number): string {
  return rowUuid(rows.ids[row]!, rows.chunks[row]!);
}

/** A view of the row's dense vector. */
export function denseOf({ rows, heads }: Slice, row: number): Float32Array | null {
  if (rows.dense === null || !heads.includes("dense")) return null;
  return rows.dense.subarray(row * rows.dim, (row + 1) * rows.dim);
}

export function sparseOf(
  { rows, heads }: Slice,
  row: number,
): { readonly indices: Uint32Array; readonly values: Float32Array } | null {
  if (rows.sparse === null || !heads.includes("sparse")) return null;
  const start = rows.sparse.offsets[row]!;
  const end = rows.sparse.offsets[row + 1]!;
  return { indices: rows.sparse.indices.subarray(start, end), values: rows.sparse.values.subarray(start, end) };
}

/** Views of the row's ColBERT vectors, one per token. */
export function colbertOf({ rows, heads }: Slice, row: number): Float32Array[] | null {
  if (rows.colbert === null || !heads.includes("colbert")) return null;
  const { offsets, values } = rows.colbert;
  const first = offsets[row]!;
  return Array.from({ length: offsets[row + 1]! - first }, (_, i) =>
    values.subarray((first + i) * rows.dim, (first + i + 1) * rows.dim),
  );
}

/** The fields of a row other than its vectors: the columns of the result files, then the kept fields. */
export function fieldsOf({ rows }: Slice, row: number): Record<string, string | number | null> {
  return {
    id: rows.ids[row]!,
    chunk: rows.chunks[row]!,
    char_start: rows.charStarts[row]!,
    char_end: rows.charEnds[row]!,
    n_tokens: rows.tokenCounts[row]!,
    ...(rows.texts !== null && { text: rows.texts[row]! }),
    ...Object.fromEntries(rows.kept.map(({ name, values }) => [name, values[row]!])),
  };
}

/** The fewest digits that identify a float32: a third shorter than those of a double. */
export function shortNumber(value: number): number {
  return Number(value.toPrecision(9));
}

export function shortNumbers(values: Float32Array): number[] {
  return Array.from(values, shortNumber);
}

export function jsonFile(key: string, value: unknown): ExportedFile {
  return { key, body: Buffer.from(`${JSON.stringify(value, null, 2)}\n`) };
}
