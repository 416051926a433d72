/** Result files: one uncompressed Arrow IPC file per shard, readable without embedfleet. */
import { AsyncByteQueue, RecordBatchFileWriter } from "apache-arrow";
import type { ShardBuffers } from "../core/batch.ts";
import { CONTRACT_VERSION, type RunOptions, type ShardStats, shardStatsSchema } from "../core/contracts.ts";
import { FleetError, messageOf } from "../core/errors.ts";
import { toHalf } from "../core/half.ts";
import { runKeys } from "../core/layout.ts";
import { MemoryPool } from "../core/memory-pool.ts";
import { type KeptColumn, type PlannedRows, TEXT_HASH_BYTES } from "../core/rows.ts";
import { engineNameOf } from "../core/same-model.ts";
import type { RowVectors } from "../core/scoring.ts";
import type { ShardName } from "../core/telemetry.ts";
import {
  fixedBinaryColumn,
  optionalUtf8Column,
  sparseColumn,
  toRecordBatch,
  uint32Column,
  utf8Column,
  vectorColumn,
  vectorListColumn,
  type VectorValues,
} from "./columns.ts";
import { changedBody, CRC_KEY, CRC_UNKNOWN, sealBody } from "./body-crc.ts";
import { type BatchView, readFileMetadata, readSingleBatch } from "./read.ts";

const STATS_KEY = "embedfleet.stats";
const STAGED_KEY = "embedfleet.staged_sha256";
const ENGINE_KEY = "embedfleet.engine";
const ENGINE_VERSION_KEY = "embedfleet.engine_version";

/** Columns of a result file, in the shard's planned order of rows. */
export interface ResultRows extends RowVectors {
  readonly ids: readonly string[];
  readonly chunks: Uint32Array;
  readonly charStarts: Uint32Array;
  readonly charEnds: Uint32Array;
  readonly tokenCounts: Uint32Array;
  readonly textHashes: Uint8Array;
  readonly texts: readonly string[] | null;
  readonly kept: readonly KeptColumn[];
}

/**
 * Pairs the planned rows with their vectors, without the rows marked broken. Dense and ColBERT
 * vectors of a whole shard are passed on without a copy.
 */
export function assembleResults(rows: PlannedRows, buffers: ShardBuffers): ResultRows {
  const kept = wholeRows(buffers);
  const whole = kept.length === rows.ids.length;
  const lengths = kept.map((row) => rows.offsets[row + 1]! - rows.offsets[row]!);
  const pick = <T>(values: readonly T[]): readonly T[] => (whole ? values : Array.from(kept, (row) => values[row]!));
  return {
    ids: pick(rows.ids),
    chunks: whole ? rows.chunks : kept.map((row) => rows.chunks[row]!),
    charStarts: whole ? rows.charStarts : kept.map((row) => rows.charStarts[row]!),
    charEnds: whole ? rows.charEnds : kept.map((row) => rows.charEnds[row]!),
    tokenCounts: lengths,
    textHashes: whole ? rows.textHashes : gather(rows.textHashes, spans(kept, TEXT_HASH_BYTES)),
    dim: buffers.dim,
    dense: buffers.dense && (whole ? buffers.dense : gather(buffers.dense, spans(kept, buffers.dim))),
    sparse: assembleSparse(buffers, kept),
    colbert: assembleColbert(buffers, kept, whole),
    texts: rows.texts && pick(rows.texts),
    kept: rows.kept.map(({ name, values }) => ({ name, values: pick(values) })),
  };
}

function wholeRows({ rows, broken }: ShardBuffers): Uint32Array {
  const whole = new Uint32Array(rows);
  let count = 0;
  for (let row = 0; row < rows; row++) if (broken[row] === 0) whole[count++] = row;
  return whole.subarray(0, count);
}

type Span = readonly [start: number, end: number];

function spans(rows: Uint32Array, width: number): Span[] {
  return Array.from(rows, (row) => [row * width, (row + 1) * width]);
}

function gather<T extends Uint8Array | Uint32Array | Float32Array>(source: T, pieces: readonly Span[]): T {
  const length = pieces.reduce((sum, [start, end]) => sum + end - start, 0);
  const out = new (source.constructor as new (length: number) => T)(length);
  let at = 0;
  for (const [start, end] of pieces) {
    out.set(source.subarray(start, end), at);
    at += end - start;
  }
  return out;
}

function toOffsets(counts: Uint32Array): Uint32Array {
  const offsets = new Uint32Array(counts.length + 1);
  for (let i = 0; i < counts.length; i++) offsets[i + 1] = offsets[i]! + counts[i]!;
  return offsets;
}

function assembleSparse(buffers: ShardBuffers, kept: Uint32Array): ResultRows["sparse"] {
  const { sparseIndices, sparseValues, sparseCounts, offsets } = buffers;
  if (sparseIndices === null || sparseValues === null || sparseCounts === null) return null;
  const pieces = Array.from(kept, (row): Span => [offsets[row]!, offsets[row]! + sparseCounts[row]!]);
  return {
    offsets: toOffsets(kept.map((row) => sparseCounts[row]!)),
    indices: gather(sparseIndices, pieces),
    values: gather(sparseValues, pieces),
  };
}

function assembleColbert(buffers: ShardBuffers, kept: Uint32Array, whole: boolean): ResultRows["colbert"] {
  const { colbert, offsets, dim } = buffers;
  if (colbert === null) return null;
  const vectorCounts = kept.map((row) => offsets[row + 1]! - offsets[row]! - 1);
  const pieces = (): Span[] =>
    Array.from(kept, (row): Span => [(offsets[row]! - row) * dim, (offsets[row + 1]! - row - 1) * dim]);
  return { offsets: toOffsets(vectorCounts), values: whole ? colbert : gather(colbert, pieces()) };
}

export interface ResultMeta {
  readonly run: string;
  readonly shard: string;
  readonly options: RunOptions;
  readonly stats: ShardStats;
  /** Key of this attempt's rejects, or null when every planned row is in the file. */
  readonly rejectsKey: string | null;
  /** SHA-256 of the staged rows that the vectors were computed from; absent where they were copied from other result files. */
  readonly stagedSha256?: string | undefined;
  /** Version of the engine that computed the vectors; absent where they were copied from other result files. */
  readonly engineVersion?: string | undefined;
}

/**
 * @param files Allocator of the file's memory, new memory by default. The caller returns it.
 * @returns The bytes of one Arrow IPC file with one record batch.
 */
export function encodeResults(
  rows: ResultRows,
  meta: ResultMeta,
  files = new MemoryPool({ allocate: (bytes) => new ArrayBuffer(bytes) }),
): Uint8Array<ArrayBuffer> {
  const halves: ArrayBuffer[] = [];
  const asWritten = (values: Float32Array): VectorValues => {
    if (meta.options.vectors === "float32") return values;
    const memory = files.take(values.length * Uint16Array.BYTES_PER_ELEMENT);
    halves.push(memory);
    return toHalf(values, new Uint16Array(memory, 0, values.length));
  };
  const columns = [
    utf8Column("id", rows.ids),
    uint32Column("chunk", rows.chunks),
    uint32Column("char_start", rows.charStarts),
    uint32Column("char_end", rows.charEnds),
    uint32Column("n_tokens", rows.tokenCounts),
    fixedBinaryColumn("text_hash", rows.textHashes, TEXT_HASH_BYTES),
  ];
  if (rows.dense) columns.push(vectorColumn("dense", asWritten(rows.dense), rows.dim));
  if (rows.sparse) columns.push(sparseColumn("sparse", rows.sparse.offsets, rows.sparse.indices, rows.sparse.values));
  if (rows.colbert) {
    columns.push(vectorListColumn("colbert", rows.colbert.offsets, asWritten(rows.colbert.values), rows.dim));
  }
  if (rows.texts) columns.push(utf8Column("text", rows.texts));
  for (const { name, values } of rows.kept) columns.push(optionalUtf8Column(name, values));
  // apache-arrow 21 silently drops a batch whose schema differs from the first batch's, so there is
  // never a second batch: one writer, one batch, one file.
  const pieces = new Pieces();
  const writer = new RecordBatchFileWriter().reset(pieces);
  writer.write(toRecordBatch(columns, resultMetadata(meta)));
  writer.finish();
  const file = pieces.join(files);
  sealBody(file);
  for (const memory of halves) files.give(memory);
  return file;
}

/** Sink of an Arrow writer that keeps the written pieces by reference. */
class Pieces extends AsyncByteQueue {
  readonly #all: Uint8Array[] = [];

  override write(piece: Uint8Array): void {
    this.#all.push(piece);
  }

  join(files: MemoryPool<ArrayBuffer>): Uint8Array<ArrayBuffer> {
    const bytes = this.#all.reduce((sum, piece) => sum + piece.byteLength, 0);
    const file = new Uint8Array(files.take(bytes), 0, bytes);
    let at = 0;
    for (const piece of this.#all) {
      file.set(piece, at);
      at += piece.byteLength;
    }
    return file;
  }
}

function resultMetadata(meta: ResultMeta): Map<string, string> {
  const { model, precision, heads, vectors } = meta.options;
  return new Map([
    ["embedfleet.kind", "results"],
    ["embedfleet.version", String(CONTRACT_VERSION)],
    ["embedfleet.run", meta.run],
    ["embedfleet.shard", meta.shard],
    ["embedfleet.model", model.id],
    ["embedfleet.revision", model.revision],
    ["embedfleet.sha256", model.sha256],
    ["embedfleet.dim", String(model.dim)],
    ["embedfleet.precision", precision],
    [ENGINE_KEY, engineNameOf(meta.options)],
    ["embedfleet.vectors", vectors],
    ["embedfleet.heads", heads.join(",")],
    ["embedfleet.keep", JSON.stringify(meta.options.keep)],
    ["embedfleet.options", JSON.stringify(meta.options)],
    [STATS_KEY, JSON.stringify(meta.stats)],
    [CRC_KEY, CRC_UNKNOWN],
    ...(meta.rejectsKey === null ? [] : [["embedfleet.rejects", meta.rejectsKey] as const]),
    ...(meta.stagedSha256 === undefined ? [] : [[STAGED_KEY, meta.stagedSha256] as const]),
    ...(meta.engineVersion === undefined ? [] : [[ENGINE_VERSION_KEY, meta.engineVersion] as const]),
  ]);
}

export interface ResultFile {
  readonly rows: ResultRows;
  readonly stats: ShardStats;
  readonly rejectsKey: string | null;
  /** SHA-256 of the staged rows that the worker embedded, in hex; null where the file has none. */
  readonly stagedSha256: string | null;
  /** Version of the engine that computed the vectors; null where the file has none. */
  readonly engineVersion: string | null;
}

/** @throws FleetError `object_corrupt` unless the bytes are a whole result file of this run and shard. */
export function decodeResults(
  params: Readonly<{ run: string; shard: string; options: RunOptions; bytes: Uint8Array }>,
): ResultFile {
  const { run, shard, options, bytes } = params;
  const what = `the results of shard ${shard} of run ${run}`;
  assertWholeFile(bytes, what);
  const view = readSingleBatch(bytes, what);
  view.expectMetadata("embedfleet.kind", "results");
  view.expectMetadata("embedfleet.run", run);
  view.expectMetadata("embedfleet.shard", shard);
  view.expectMetadata("embedfleet.sha256", options.model.sha256);
  // Files of earlier versions do not name their engine: there was one.
  if (view.metadata.has(ENGINE_KEY)) view.expectMetadata(ENGINE_KEY, engineNameOf(options));
  assertUnchanged(view, bytes, { run, shard });
  return {
    rows: resultRows(view, options),
    stats: parseStats(view),
    rejectsKey: view.metadata.get("embedfleet.rejects") ?? null,
    stagedSha256: view.metadata.get(STAGED_KEY) ?? null,
    engineVersion: view.metadata.get(ENGINE_VERSION_KEY) ?? null,
  };
}

/** Checks the end of the file first, because a truncated file still starts well. */
function assertWholeFile(bytes: Uint8Array, what: string): void {
  const tail = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).subarray(-6).toString("latin1");
  if (tail !== "ARROW1")
    throw new FleetError("object_corrupt", `${what} (${bytes.length} bytes) do not end like an Arrow file`);
}

/** Checks the CRC-32; files of earlier versions without one are accepted. */
function assertUnchanged(view: BatchView, bytes: Uint8Array, { run, shard }: ShardName): void {
  const written = view.metadata.get(CRC_KEY);
  const found = findChange(view, bytes, written);
  if (found === null) return;
  throw new FleetError("object_corrupt", `${view.what} have the CRC-32 ${found}, but ${written} was written`, {
    cure: `the store has changed them: delete ${runKeys(run).data(shard)}, then \`embedfleet resume ${run}\`: the shard is computed again`,
  });
}

function findChange(view: BatchView, bytes: Uint8Array, written: string | undefined): string | null {
  try {
    return changedBody(bytes, written);
  } catch (error) {
    return view.corrupt(`cannot be checked: ${messageOf(error)}`);
  }
}

function resultRows(view: BatchView, options: RunOptions): ResultRows {
  const has = (head: RunOptions["heads"][number]): boolean => options.heads.includes(head);
  const dense = has("dense") ? view.vectors("dense", options.vectors) : null;
  const colbert = has("colbert") ? view.vectorLists("colbert", options.vectors) : null;
  for (const dim of [dense?.dim, colbert?.dim]) {
    if (dim !== undefined && dim !== options.model.dim)
      view.corrupt(`have vectors of width ${dim}, not ${options.model.dim}`);
  }
  return {
    ids: view.strings("id"),
    chunks: view.uint32("chunk"),
    charStarts: view.uint32("char_start"),
    charEnds: view.uint32("char_end"),
    tokenCounts: view.uint32("n_tokens"),
    textHashes: view.fixedBinary("text_hash", TEXT_HASH_BYTES),
    dim: options.model.dim,
    dense: dense?.values ?? null,
    sparse: has("sparse") ? view.sparse("sparse") : null,
    colbert,
    texts: options.keepText ? view.strings("text") : null,
    kept: options.keep.map((name) => ({ name, values: view.optionalStrings(name) })),
  };
}

function parseStats(view: BatchView): ShardStats {
  return parseStatsText(view.metadata.get(STATS_KEY), view.what);
}

function parseStatsText(text: string | undefined, what: string): ShardStats {
  try {
    return shardStatsSchema.parse(JSON.parse(text ?? "null"));
  } catch {
    throw new FleetError("object_corrupt", `${what} carry no valid ${STATS_KEY}`);
  }
}

/** Enough for the footer of a result file, whose options are a few kilobytes. */
export const RESULT_END_BYTES = 64 * 1024;

/** Stats of a shard, from the last bytes of its file. @throws FleetError `object_corrupt` */
export function decodeResultStats(params: Readonly<{ run: string; shard: string; end: Uint8Array }>): ShardStats {
  const { run, shard, end } = params;
  const what = `the results of shard ${shard} of run ${run}`;
  assertWholeFile(end, what);
  const metadata = readFileMetadata(end, what);
  if (metadata.get("embedfleet.run") !== run || metadata.get("embedfleet.shard") !== shard)
    throw new FleetError("object_corrupt", `${what} belong to another shard`);
  return parseStatsText(metadata.get(STATS_KEY), what);
}
