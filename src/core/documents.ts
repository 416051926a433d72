/** Documents and rejects, as a source yields them. */
import type { Reject } from "./contracts.ts";

/** Position in a corpus where a document was found. */
export interface Origin {
  /** The input as the user named it, or a path below a named folder. */
  readonly file: string;
  /** 1-based; absent where the whole file is one document. */
  readonly line?: number;
}

/** One document, as read. */
export interface Document {
  readonly id: string;
  readonly text: string;
  readonly origin: Origin;
  /** The fields to keep, in the order of the option; null where the document lacks one. */
  readonly kept?: readonly (string | null)[];
}

/** An item that a source yields: a document, or a reject in its place. */
export type SourceItem =
  | {
      readonly kind: "document";
      readonly document: Document;
      /** Digest as from `contentHash`; present where the reader of the document computed it. */
      readonly content?: Uint8Array;
      /** Number of characters that `--clean` replaced in the text; absent for none. */
      readonly replaced?: number;
    }
  | { readonly kind: "reject"; readonly reject: Reject };

export type RejectReason =
  | "not_json"
  | "not_csv"
  | "no_column"
  | "no_id"
  | "no_text"
  | "id_too_long"
  | "empty_text"
  | "duplicate_id"
  | "nul_character"
  | "lone_surrogate"
  | "invalid_utf8"
  | "too_long"
  | "unreadable"
  | "non_finite"
  | "crashed";

/** Creates the reject of an item found at `origin`. */
export function rejectAt(origin: Origin, reason: RejectReason, detail: string, id: string | null = null): Reject {
  return { id, reason, detail, ...origin };
}
