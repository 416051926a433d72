/** Rows one by one, as they are cut, and column-wise, as they are staged and sent from thread to thread. */
import { type PlannedRows, TEXT_HASH_BYTES, textHashOf } from "../../src/core/rows.ts";

/** A chunk of a document. What it has of bytes may be a view of the columns that it came in. */
export interface CutChunk {
  /** Special tokens included. */
  readonly ids: Int32Array;
  readonly charStart: number;
  readonly charEnd: number;
  readonly textHash: Uint8Array;
  /** Null when the run keeps none. */
  readonly text: string | null;
}

/** A chunk as a row of the plan. */
export interface PlanRow extends CutChunk {
  readonly id: string;
  readonly chunk: number;
  /** Fields of its document. */
  readonly kept: readonly (string | null)[];
}

export type ChunkColumns = Omit<PlannedRows, "ids" | "chunks" | "kept">;

export function toColumns(chunks: readonly CutChunk[]): ChunkColumns {
  const offsets = new Uint32Array(chunks.length + 1);
  chunks.forEach(({ ids }, i) => (offsets[i + 1] = offsets[i]! + ids.length));
  const tokenIds = new Int32Array(offsets[chunks.length]!);
  const textHashes = new Uint8Array(chunks.length * TEXT_HASH_BYTES);
  chunks.forEach(({ ids, textHash }, i) => {
    tokenIds.set(ids, offsets[i]);
    textHashes.set(textHash, i * TEXT_HASH_BYTES);
  });
  return {
    charStarts: Uint32Array.from(chunks, ({ charStart }) => charStart),
    charEnds: Uint32Array.from(chunks, ({ charEnd }) => charEnd),
    textHashes,
    offsets,
    tokenIds,
    texts: chunks[0]?.text == null ? null : chunks.map(({ text }) => text!),
  };
}

export function chunkAt(columns: ChunkColumns, i: number): CutChunk {
  return {
    ids: columns.tokenIds.subarray(columns.offsets[i], columns.offsets[i + 1]),
    charStart: columns.charStarts[i]!,
    charEnd: columns.charEnds[i]!,
    textHash: textHashOf(columns, i),
    text: columns.texts?.[i] ?? null,
  };
}

/** @param keep Names of the kept fields. */
export function toPlannedRows(rows: readonly PlanRow[], keep: readonly string[]): PlannedRows {
  return {
    ids: rows.map(({ id }) => id),
    chunks: Uint32Array.from(rows, ({ chunk }) => chunk),
    ...toColumns(rows),
    kept: keep.map((name, i) => ({ name, values: rows.map(({ kept }) => kept[i] ?? null) })),
  };
}
