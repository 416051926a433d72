/** Staged rows: one self-contained Arrow IPC stream per shard, so that one ranged read loads a job. */
import { hash } from "node:crypto";
import { type RecordBatch, RecordBatchStreamWriter } from "apache-arrow";
import { CONTRACT_VERSION } from "../core/contracts.ts";
import { FleetError } from "../core/errors.ts";
import { windowOfShard } from "../core/layout.ts";
import { type KeptColumn, type PlannedRows, type StagedRows, TEXT_HASH_BYTES, type Utf8Texts } from "../core/rows.ts";
import {
  fixedBinaryColumn,
  int32ListColumn,
  optionalUtf8Column,
  toRecordBatch,
  uint32Column,
  utf8Column,
} from "./columns.ts";
import { type BatchView, readSingleBatch } from "./read.ts";

/** One shard's rows as an Arrow IPC stream of one batch. Deterministic for the same rows. */
export function encodeStagedShard(params: Readonly<{ run: string; shard: string; rows: StagedRows }>): Uint8Array {
  const { run, shard, rows } = params;
  const columns = [
    utf8Column("id", rows.ids),
    uint32Column("chunk", rows.chunks),
    uint32Column("char_start", rows.charStarts),
    uint32Column("char_end", rows.charEnds),
    fixedBinaryColumn("text_hash", rows.textHashes, TEXT_HASH_BYTES),
    int32ListColumn("tokens", rows.offsets, rows.tokenIds),
  ];
  if (rows.texts !== null) columns.push(utf8Column("text", rows.texts));
  for (const { name, values } of rows.kept) columns.push(optionalUtf8Column(keptName(name), values));
  return streamBytes(toRecordBatch(columns, stagedMetadata(run, shard)));
}

/** Staged bytes of a shard, and their size from the plan or a piece's header. */
interface StagedParams {
  readonly run: string;
  readonly shard: string;
  readonly rows: number;
  /** Number of tokens, special tokens included. */
  readonly tokens: number;
  readonly bytes: Uint8Array;
}

/**
 * Reads a shard's rows back and proves that they are those of the job.
 * @param params.stagedSha256 SHA-256 of the bytes, in hex, where the plan has it.
 * @throws FleetError `object_corrupt`
 */
export function decodeStagedShard(params: StagedParams & { readonly stagedSha256?: string | undefined }): PlannedRows {
  const { run, shard } = params;
  const stagedSha256 = hash("sha256", params.bytes, "hex");
  if (params.stagedSha256 !== undefined && params.stagedSha256 !== stagedSha256) {
    const found = `the staged rows of shard ${shard} of run ${run} have sha256 ${stagedSha256}; ${params.stagedSha256} was planned`;
    throw new FleetError("object_corrupt", found, {
      cure: `remove plan/${windowOfShard(shard)}.arrows of the run, repeat its \`enqueue\` command, then \`embedfleet resume ${run}\``,
    });
  }
  const view = openStaged(params);
  return {
    ids: view.strings("id"),
    chunks: view.uint32("chunk"),
    ...numbersOf(view, params),
    texts: view.has("text") ? view.strings("text") : null,
    kept: keptOf(view),
    stagedSha256,
  };
}

/** A batch of rows without ids, as views of the bytes that they were read from. */
export type StagedColumns = Omit<StagedRows, "ids" | "chunks" | "texts"> & { readonly texts: Utf8Texts | null };

/**
 * Reads staged rows back for a caller that has their documents' ids: only kept fields are copied or decoded.
 * @throws FleetError `object_corrupt`
 */
export function decodeStagedColumns(params: StagedParams): StagedColumns {
  const view = openStaged(params);
  return { ...numbersOf(view, params), texts: view.has("text") ? view.utf8("text") : null, kept: keptOf(view) };
}

function openStaged({ run, shard, bytes }: StagedParams): BatchView {
  const view = readSingleBatch(bytes, `the staged rows of shard ${shard} of run ${run}`);
  for (const [key, value] of stagedMetadata(run, shard)) view.expectMetadata(key, value);
  return view;
}

type NumberColumns = Pick<PlannedRows, "charStarts" | "charEnds" | "textHashes" | "offsets" | "tokenIds">;

function numbersOf(view: BatchView, { rows, tokens }: StagedParams): NumberColumns {
  const { offsets, values } = view.int32List("tokens");
  if (view.rows !== rows || values.length !== tokens) {
    throw new FleetError(
      "object_corrupt",
      `${view.what} are ${view.rows} rows of ${values.length} tokens; the job expects ${rows} rows of ${tokens}`,
    );
  }
  return {
    charStarts: view.uint32("char_start"),
    charEnds: view.uint32("char_end"),
    textHashes: view.fixedBinary("text_hash", TEXT_HASH_BYTES),
    offsets,
    tokenIds: values,
  };
}

function keptOf(view: BatchView): KeptColumn[] {
  return view.names
    .filter((name) => name.startsWith(KEPT_PREFIX))
    .map((name) => ({ name: name.slice(KEPT_PREFIX.length), values: view.optionalStrings(name) }));
}

/** Prefix that separates kept fields, whatever their names, from the columns of the staging itself. */
const KEPT_PREFIX = "keep:";

function keptName(name: string): string {
  return KEPT_PREFIX + name;
}

function stagedMetadata(run: string, shard: string): Map<string, string> {
  return new Map([
    ["embedfleet.kind", "staged"],
    ["embedfleet.version", String(CONTRACT_VERSION)],
    ["embedfleet.run", run],
    ["embedfleet.shard", shard],
  ]);
}

function streamBytes(batch: RecordBatch): Uint8Array {
  const writer = new RecordBatchStreamWriter();
  writer.write(batch);
  writer.finish();
  return writer.toUint8Array(true);
}
