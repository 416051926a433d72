/** How far a run is: from the store, which has the truth, and the queue, which knows what moves. */
import type { RunRecord, Totals } from "../core/contracts.ts";
import { runKeys } from "../core/layout.ts";
import type { ObjectStore, QueueCounts } from "../core/ports.ts";
import { listData, readClosed, readRun, readWindows } from "./read-plan.ts";
import { countDeletes, readManifest } from "./seal.ts";

export type RunState = "planning" | "embedding" | "complete" | "sealed";

/** The object that `run --json` and `status --json` end with. */
export interface RunReport {
  readonly run: string;
  readonly state: RunState;
  /** Of a delta: the run whose rows it completes. */
  readonly base?: string;
  readonly documents: number;
  /** Of a delta: documents that the base holds as they are. */
  readonly unchanged?: number;
  /** Of a delta, once its corpus is read: rows of the base that it takes away. */
  readonly deletes?: number;
  /** Rows whose result is in the store. */
  readonly rows: number;
  readonly plannedRows: number;
  readonly rejects: number;
  /** Shards whose file is in the store, of those planned so far. */
  readonly shards: number;
  readonly plannedShards: number;
  readonly files: number;
  readonly bytes: number;
  /** Known once sealed; null before. */
  readonly batches: number | null;
  readonly realTokens: number;
  readonly plannedTokens: number;
  readonly paddedTokens: number | null;
  readonly seconds: number;
  readonly tokensPerSecond: number;
  readonly deviceBusyRatio: number | null;
  /** Null when no queue was asked. */
  readonly queue: QueueCounts | null;
}

/** @throws FleetError `run_unknown` */
export async function readProgress(
  params: Readonly<{ store: ObjectStore; run: string; queue: QueueCounts | null }>,
): Promise<RunReport> {
  const { store, run, queue } = params;
  const record = await readRun(store, run);
  const manifest = await readManifest(store, run);
  if (manifest !== null) return sealedReport(record, manifest.totals, manifest.sealedAt, queue);
  const [closed, data] = await Promise.all([readClosed(store, run), listData(store, run)]);
  const sums = {
    documents: 0,
    plannedRows: 0,
    plannedTokens: 0,
    plannedShards: 0,
    rows: 0,
    realTokens: 0,
    shards: 0,
    rejects: 0,
    bytes: 0,
  };
  let unchanged = 0;
  for await (const window of readWindows(store, run)) {
    sums.documents += window.documents;
    sums.rejects += window.rejects;
    unchanged += window.unchanged ?? 0;
    for (const shard of window.shards) {
      sums.plannedShards++;
      sums.plannedRows += shard.rows;
      sums.plannedTokens += shard.tokens;
      const bytes = data.get(runKeys(run).data(shard.shard));
      if (bytes === undefined) continue;
      sums.shards++;
      sums.rows += shard.rows;
      sums.realTokens += shard.tokens;
      sums.bytes += bytes;
    }
  }
  const seconds = (Date.now() - Date.parse(record.createdAt)) / 1000;
  const isComplete = closed !== null && sums.shards === sums.plannedShards;
  return {
    run,
    state: closed === null ? "planning" : isComplete ? "complete" : "embedding",
    ...deltaFigures(record, { unchanged, deletes: closed === null ? undefined : countDeletes(closed.deletes) }),
    ...sums,
    files: sums.shards,
    batches: null,
    paddedTokens: null,
    seconds: round(seconds),
    tokensPerSecond: round(sums.realTokens / seconds),
    deviceBusyRatio: null,
    queue,
  };
}

function sealedReport(record: RunRecord, totals: Totals, sealedAt: string, queue: QueueCounts | null): RunReport {
  const seconds = Math.max((Date.parse(sealedAt) - Date.parse(record.createdAt)) / 1000, 0.001);
  const workMs = totals.deviceMs + totals.idleMs;
  return {
    run: record.run,
    state: "sealed",
    ...deltaFigures(record, totals),
    documents: totals.documents,
    rows: totals.rows,
    plannedRows: totals.rows,
    rejects: totals.rejects,
    shards: totals.shards,
    plannedShards: totals.shards,
    files: totals.files,
    bytes: totals.bytes,
    batches: totals.batches,
    realTokens: totals.realTokens,
    plannedTokens: totals.realTokens,
    paddedTokens: totals.paddedTokens,
    seconds: round(seconds),
    tokensPerSecond: round(totals.realTokens / seconds),
    deviceBusyRatio: workMs === 0 ? null : round(totals.deviceMs / workMs),
    queue,
  };
}

function deltaFigures(
  { lineage }: RunRecord,
  { unchanged, deletes }: Readonly<{ unchanged?: number | undefined; deletes?: number | undefined }>,
): Pick<RunReport, "base" | "unchanged" | "deletes"> {
  if (lineage?.kind !== "delta") return {};
  return { base: lineage.base, unchanged: unchanged ?? 0, ...(deletes !== undefined && { deletes }) };
}

function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}
