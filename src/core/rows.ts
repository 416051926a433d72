/** Planned rows, from the producer to the result file. */
import { createHash } from "node:crypto";

export const TEXT_HASH_BYTES = 32;

/** A document field that is copied to the output; null where a document lacks it. */
export interface KeptColumn {
  readonly name: string;
  readonly values: readonly (string | null)[];
}

/** Concatenated texts as UTF-8: text `i` is `bytes[offsets[i] .. offsets[i + 1])`. `offsets` has one entry more than there are texts. */
export interface Utf8Texts {
  readonly offsets: Uint32Array;
  readonly bytes: Uint8Array;
}

/** Rows of a shard, column-wise; row `i` is entry `i` of every column, longest row first. */
export interface PlannedRows {
  readonly ids: readonly string[];
  readonly chunks: Uint32Array;
  /** Start of each chunk, in UTF-16 code units of the document's text. */
  readonly charStarts: Uint32Array;
  readonly charEnds: Uint32Array;
  /** SHA-256 of the chunk's text as UTF-8: [rows * 32] */
  readonly textHashes: Uint8Array;
  /** Row `i` has the ids `tokenIds[offsets[i] .. offsets[i + 1])`, special tokens included. */
  readonly offsets: Uint32Array;
  readonly tokenIds: Int32Array;
  /** Texts of the chunks when the run keeps them. */
  readonly texts: readonly string[] | null;
  /** Kept fields; each row has the values of its document. */
  readonly kept: readonly KeptColumn[];
  /** SHA-256 of the staged bytes that the rows were read from, in hex; absent before they are staged. */
  readonly stagedSha256?: string;
}

/**
 * SHA-256 over each row's id, chunk number and text hash, in order. It is part of the plan, so that
 * `verify` can prove that a result file holds exactly the rows planned for it.
 */
export class RowDigest {
  readonly #hash = createHash("sha256");
  readonly #head = Buffer.alloc(8);

  /** @param textHash SHA-256 of the chunk's text. */
  add(id: string, chunk: number, textHash: Uint8Array): void {
    this.#head.writeUInt32LE(Buffer.byteLength(id), 0);
    this.#head.writeUInt32LE(chunk, 4);
    this.#hash.update(this.#head).update(id, "utf8").update(textHash);
  }

  hex(): string {
    return this.#hash.digest("hex");
  }
}

/** Unique key of a row within a corpus; no id contains a NUL. */
export function rowKey(id: string, chunk: number): string {
  return `${id}\u0000${chunk}`;
}

/** Rows to be written; texts are strings or already UTF-8. */
export type StagedRows = Omit<PlannedRows, "texts" | "stagedSha256"> & {
  readonly texts: readonly string[] | Utf8Texts | null;
};

export function textHashOf(rows: Pick<PlannedRows, "textHashes">, row: number): Uint8Array {
  return rows.textHashes.subarray(row * TEXT_HASH_BYTES, (row + 1) * TEXT_HASH_BYTES);
}
