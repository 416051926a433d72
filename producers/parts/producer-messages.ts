/** What a producer's threads are asked and answer. Column-wise where there is much, because objects cost time to copy. */
import type { S3Options } from "../../src/adapters/s3/s3-client.ts";
import type { Model } from "../../models/registry/open-model.ts";
import type { SourceItem } from "../../src/core/documents.ts";
import { type FaultFields, FleetError, fromFaultFields, messageOf, toFaultFields } from "../../src/core/errors.ts";
import type { ChunkingOptions, ChunkedTexts } from "../chunking/chunker.ts";
import type { PartBatch } from "./read-parts.ts";
import type { CorpusPart } from "./sections.ts";
import type { ReadOptions } from "../sources/read-object.ts";

export interface ThreadSetup {
  readonly model: Pick<Model, "manifest" | "tokenizerPath" | "files">;
  readonly cutting: ChunkingOptions;
  readonly reading: ReadOptions;
  readonly s3: S3Options | undefined;
}

/** `id` names the answer; `reading` is the id of the `read` that began it. */
export type ThreadRequest =
  | { readonly kind: "read"; readonly reading: number; readonly part: CorpusPart }
  | { readonly kind: "next"; readonly id: number; readonly reading: number }
  | { readonly kind: "close"; readonly reading: number }
  | { readonly kind: "cut"; readonly id: number; readonly texts: readonly string[] };

export type ThreadReply =
  | { readonly kind: "ready" }
  /** Null after the last. */
  | { readonly kind: "batch"; readonly id: number; readonly batch: PackedBatch | null }
  | { readonly kind: "cut"; readonly id: number; readonly cut: ChunkedTexts }
  | { readonly kind: "failed"; readonly id: number | null; readonly fault: FaultFields };

export function toMessage(error: unknown): FaultFields {
  if (error instanceof FleetError) return toFaultFields(error);
  return toFaultFields(new FleetError("producer_failed", `a producer's thread failed: ${messageOf(error)}`));
}

export interface PackedBatch {
  readonly items: readonly SourceItem[];
  /** Of the documents, in order: [documents * 32] */
  readonly contents: Uint8Array<ArrayBuffer>;
  readonly end?: { readonly lines: number; readonly fault?: FaultFields };
}

const CONTENT_BYTES = 32;

export function packBatch({ items, end }: PartBatch): PackedBatch {
  const contents = items.flatMap((item) => (item.kind === "document" ? [item.content!] : []));
  const packed = new Uint8Array(contents.length * CONTENT_BYTES);
  contents.forEach((content, i) => packed.set(content, i * CONTENT_BYTES));
  const bare = items.map((item) => (item.kind === "document" ? { kind: item.kind, document: item.document } : item));
  if (end === undefined) return { items: bare, contents: packed };
  const { lines, fault } = end;
  return { items: bare, contents: packed, end: { lines, ...(fault !== undefined && { fault: toFaultFields(fault) }) } };
}

export function unpackBatch({ items, contents, end }: PackedBatch): PartBatch {
  let at = 0;
  const whole = items.map((item) =>
    item.kind === "document" ? { ...item, content: contents.subarray(at, (at += CONTENT_BYTES)) } : item,
  );
  if (end === undefined) return { items: whole };
  const { lines, fault } = end;
  return { items: whole, end: { lines, ...(fault !== undefined && { fault: fromFaultFields(fault) }) } };
}
