/** What a source yields. */
import type { Reject } from "./contracts.ts";

/** Where in a corpus a document was found. */
export interface Origin {
  /** The input as the user named it, or a path below a named folder. */
  readonly file: string;
  /** 1-based; absent where the whole file is one document. */
  readonly line?: number;
}

/** One document as it was read. */
export interface Document {
  readonly id: string;
  readonly text: string;
  readonly origin: Origin;
  /** The fields to keep, in the order they were asked for; null where the document lacks one. */
  readonly kept?: readonly (string | null)[];
}

/** What a source yields: a document, or a refusal in its place. */
export type SourceItem =
  | {
      readonly kind: "document";
      readonly document: Document;
      /** See `contentHash`; where it was computed by whoever read the document. */
      readonly content?: Uint8Array;
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

/** The reject of something found at `origin`. */
export function rejectAt(origin: Origin, reason: RejectReason, detail: string, id: string | null = null): Reject {
  return { id, reason, detail, ...origin };
}
