/** Messages to and from a producer's threads. Bulk data is column-wise, because copying objects is slow. */
import type { S3Options } from "../../src/adapters/s3/s3-client.ts";
import type { Model } from "../../models/registry/open-model.ts";
import type { Reject } from "../../src/core/contracts.ts";
import type { Document, SourceItem } from "../../src/core/documents.ts";
import { type FaultFields, FleetError, fromFaultFields, messageOf, toFaultFields } from "../../src/core/errors.ts";
import type { ChunkingOptions, ChunkedTexts } from "../chunking/chunker.ts";
import type { PartBatch, PartEnd } from "./read-parts.ts";
import type { CorpusPart } from "./sections.ts";
import type { ReadOptions } from "../sources/read-object.ts";

export interface ThreadSetup {
  readonly model: Pick<Model, "manifest" | "tokenizerPath" | "files">;
  readonly cutting: ChunkingOptions;
  readonly reading: ReadOptions;
  readonly s3: S3Options | undefined;
}

/** `id` identifies the answer; `reading` is the id of the `read` that started it. */
export type ThreadRequest =
  | { readonly kind: "read"; readonly reading: number; readonly part: CorpusPart }
  | { readonly kind: "next"; readonly id: number; readonly reading: number }
  | { readonly kind: "close"; readonly reading: number }
  | { readonly kind: "cut"; readonly id: number; readonly texts: readonly string[] };

export type ThreadReply =
  | { readonly kind: "ready" }
  /** The next batch; null after the last. */
  | { readonly kind: "batch"; readonly id: number; readonly batch: PackedBatch | null }
  | { readonly kind: "cut"; readonly id: number; readonly cut: ChunkedTexts }
  | { readonly kind: "failed"; readonly id: number | null; readonly fault: FaultFields };

export function toMessage(error: unknown): FaultFields {
  if (error instanceof FleetError) return toFaultFields(error);
  return toFaultFields(new FleetError("producer_failed", `a producer's thread failed: ${messageOf(error)}`));
}

/** A batch of a part's documents and rejects. One array per property: objects take several times as long to copy. */
export interface PackedBatch {
  /** Ids of the documents, in order; every other column has the same number of entries. */
  readonly ids: readonly string[];
  readonly texts: readonly string[];
  /** Content hashes of 32 bytes each: [documents * 32] */
  readonly contents: Uint8Array<ArrayBuffer>;
  /** Line numbers from 1; 0 where the whole file is one document. */
  readonly lines: Uint32Array<ArrayBuffer>;
  /** Names of the files, each once per run of consecutive documents. */
  readonly files: readonly string[];
  /** Index into `files`. */
  readonly fileOf: Uint32Array<ArrayBuffer>;
  /** Kept fields; null when no document of the batch has any. */
  readonly kept: readonly Document["kept"][] | null;
  /** Numbers of characters that were replaced in the texts; null when none was. */
  readonly replaced: readonly number[] | null;
  /** Rejects, each with the number of documents before it. */
  readonly rejects: readonly { readonly before: number; readonly reject: Reject }[];
  readonly end?: { readonly lines: number; readonly fault?: FaultFields };
}

const CONTENT_BYTES = 32;

export function packBatch({ items, end }: PartBatch): PackedBatch {
  const documents = items.filter((item) => item.kind === "document");
  const contents = new Uint8Array(documents.length * CONTENT_BYTES);
  const fileOf = new Uint32Array(documents.length);
  const files: string[] = [];
  documents.forEach(({ document, content }, i) => {
    contents.set(content!, i * CONTENT_BYTES);
    if (files.at(-1) !== document.origin.file) files.push(document.origin.file);
    fileOf[i] = files.length - 1;
  });
  return {
    ids: documents.map(({ document }) => document.id),
    texts: documents.map(({ document }) => document.text),
    contents,
    lines: Uint32Array.from(documents, ({ document }) => document.origin.line ?? 0),
    files,
    fileOf,
    kept: documents.some(({ document }) => document.kept !== undefined)
      ? documents.map(({ document }) => document.kept)
      : null,
    replaced: documents.some(({ replaced }) => replaced !== undefined)
      ? documents.map(({ replaced }) => replaced ?? 0)
      : null,
    rejects: rejectsOf(items),
    ...(end !== undefined && { end: packEnd(end) }),
  };
}

/** The buffers of a batch, for transfer to another thread. */
export function batchBuffers({ contents, lines, fileOf }: PackedBatch): ArrayBuffer[] {
  return [contents.buffer, lines.buffer, fileOf.buffer];
}

export function unpackBatch(batch: PackedBatch): PartBatch {
  const items: SourceItem[] = [];
  let document = 0;
  for (const { before, reject } of batch.rejects) {
    while (document < before) items.push(documentAt(batch, document++));
    items.push({ kind: "reject", reject });
  }
  while (document < batch.ids.length) items.push(documentAt(batch, document++));
  if (batch.end === undefined) return { items };
  const { lines, fault } = batch.end;
  return { items, end: { lines, ...(fault !== undefined && { fault: fromFaultFields(fault) }) } };
}

function rejectsOf(items: readonly SourceItem[]): PackedBatch["rejects"] {
  let before = 0;
  return items.flatMap((item) => {
    if (item.kind === "reject") return [{ before, reject: item.reject }];
    before++;
    return [];
  });
}

function packEnd({ lines, fault }: PartEnd): NonNullable<PackedBatch["end"]> {
  return { lines, ...(fault !== undefined && { fault: toFaultFields(fault) }) };
}

function documentAt(batch: PackedBatch, i: number): SourceItem {
  const { ids, texts, contents, lines, files, fileOf, kept } = batch;
  const replaced = batch.replaced?.[i] ?? 0;
  const line = lines[i]!;
  const file = files[fileOf[i]!]!;
  const fields = kept?.[i];
  return {
    kind: "document",
    document: {
      id: ids[i]!,
      text: texts[i]!,
      origin: line === 0 ? { file } : { file, line },
      ...(fields !== undefined && { kept: fields }),
    },
    content: contents.subarray(i * CONTENT_BYTES, (i + 1) * CONTENT_BYTES),
    ...(replaced > 0 && { replaced }),
  };
}
