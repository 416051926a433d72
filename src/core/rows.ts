/** Planned rows as a shard carries them from the producer to its result file. */
import { createHash } from "node:crypto";

export const TEXT_HASH_BYTES = 32;

/** A field of the documents that is carried to the output; null where a document lacks it. */
export interface KeptColumn {
  readonly name: string;
  readonly values: readonly (string | null)[];
}

/** Texts as UTF-8, one behind the other: text `i` is `bytes[offsets[i] .. offsets[i + 1])`. `offsets` has one entry more than there are texts. */
export interface Utf8Texts {
  readonly offsets: Uint32Array;
  readonly bytes: Uint8Array;
}

/** Column-wise; row `i` is the i-th of every column, longest row first. */
export interface PlannedRows {
  readonly ids: readonly string[];
  readonly chunks: Uint32Array;
  /** UTF-16 code units of the document's text. */
  readonly charStarts: Uint32Array;
  readonly charEnds: Uint32Array;
  /** SHA-256 of the chunk's text as UTF-8: [rows * 32] */
  readonly textHashes: Uint8Array;
  /** Row `i` has the ids `tokenIds[offsets[i] .. offsets[i + 1])`, special tokens included. */
  readonly offsets: Uint32Array;
  readonly tokenIds: Int32Array;
  /** The chunks' texts when the run keeps them. */
  readonly texts: readonly string[] | null;
  /** Each row has those of its document. */
  readonly kept: readonly KeptColumn[];
  /** SHA-256 of the staged bytes that they were read from, in hex; absent before they are staged. */
  readonly stagedSha256?: string;
}

/**
 * SHA-256 over each row's id, chunk number and text hash, in order. Written into the plan, so that
 * `verify` can prove a result file to hold exactly the rows that were planned for it.
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

/** What a row is called wherever rows are compared: no id has a NUL in it. */
export function rowKey(id: string, chunk: number): string {
  return `${id}\u0000${chunk}`;
}

/** Rows as they are written: texts are strings or already UTF-8. */
export type StagedRows = Omit<PlannedRows, "texts" | "stagedSha256"> & {
  readonly texts: readonly string[] | Utf8Texts | null;
};

export function textHashOf(rows: Pick<PlannedRows, "textHashes">, row: number): Uint8Array {
  return rows.textHashes.subarray(row * TEXT_HASH_BYTES, (row + 1) * TEXT_HASH_BYTES);
}
