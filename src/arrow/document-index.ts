/**
 * The document index, by which a later run detects changes: the documents that a run planned. Also the list of rows that a
 * delta deletes. Both are Arrow IPC files of one batch.
 */
import { type RecordBatch, RecordBatchFileWriter } from "apache-arrow";
import { CONTENT_KEY_BYTES } from "../core/content.ts";
import { CONTRACT_VERSION } from "../core/contracts.ts";
import { type Column, fixedBinaryColumn, toRecordBatch, uint32Column, utf8Column } from "./columns.ts";
import { type BatchView, readSingleBatch } from "./read.ts";

/** Columns with one entry per document, in corpus order. */
export interface DocumentIndex {
  readonly ids: readonly string[];
  /** First 16 bytes of each `contentHash`: [documents * 16] */
  readonly contentKeys: Uint8Array;
  /** Number of rows that the document was split into. */
  readonly chunks: Uint32Array;
}

/** Reason for the deletion of a row: its document is gone, or has other content. */
export type DeleteReason = "removed" | "changed";

export interface DeletedRows {
  readonly ids: readonly string[];
  readonly chunks: Uint32Array;
  readonly reasons: readonly DeleteReason[];
}

export function encodeDocumentIndex(run: string, index: DocumentIndex): Uint8Array {
  return encode("documents", run, [
    utf8Column("id", index.ids),
    fixedBinaryColumn("content_key", index.contentKeys, CONTENT_KEY_BYTES),
    uint32Column("chunks", index.chunks),
  ]);
}

/** @throws FleetError `object_corrupt` */
export function decodeDocumentIndex(run: string, bytes: Uint8Array): DocumentIndex {
  const view = open("documents", run, bytes);
  return {
    ids: view.strings("id"),
    contentKeys: view.fixedBinary("content_key", CONTENT_KEY_BYTES),
    chunks: view.uint32("chunks"),
  };
}

export function encodeDeletes(run: string, rows: DeletedRows): Uint8Array {
  return encode("deletes", run, [
    utf8Column("id", rows.ids),
    uint32Column("chunk", rows.chunks),
    utf8Column("reason", rows.reasons),
  ]);
}

/** @throws FleetError `object_corrupt` */
export function decodeDeletes(run: string, bytes: Uint8Array): Pick<DeletedRows, "ids" | "chunks"> {
  const view = open("deletes", run, bytes);
  return { ids: view.strings("id"), chunks: view.uint32("chunk") };
}

function encode(kind: string, run: string, columns: readonly Column[]): Uint8Array {
  const batch: RecordBatch = toRecordBatch(
    columns,
    new Map([
      ["embedfleet.kind", kind],
      ["embedfleet.version", String(CONTRACT_VERSION)],
      ["embedfleet.run", run],
    ]),
  );
  const writer = new RecordBatchFileWriter();
  writer.write(batch);
  writer.finish();
  return writer.toUint8Array(true);
}

function open(kind: string, run: string, bytes: Uint8Array): BatchView {
  const view = readSingleBatch(bytes, `the ${kind} of run ${run}`);
  view.expectMetadata("embedfleet.kind", kind);
  view.expectMetadata("embedfleet.run", run);
  return view;
}
