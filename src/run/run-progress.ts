/** Progress of a run: from the store, which is authoritative, and the queue, which knows what is in progress. */
import type { RunRecord, Totals } from "../core/contracts.ts";
import { sayHold } from "../core/guards.ts";
import type { ObjectStore, QueueCounts } from "../core/ports.ts";
import type { IdleCause } from "../core/telemetry.ts";
import { type RunSnapshot, RunWatch } from "./run-watch.ts";
import { countDeletes } from "./seal.ts";

/** State of a run. */
export type RunState = "planning" | "embedding" | "complete" | "held" | "sealed" | "cancelled";

/** The object that `run --json` and `status --json` end with. */
export interface RunReport {
  readonly run: string;
  readonly state: RunState;
  /** Reason while it is `held`. */
  readonly held?: string;
  /** In a delta: the run whose rows it completes. */
  readonly base?: string;
  readonly documents: number;
  /** In a delta: number of documents that the base holds unchanged. */
  readonly unchanged?: number;
  /** In a delta, once its corpus is read: number of rows of the base that it deletes. */
  readonly deletes?: number;
  /** Number of rows whose result is in the store. */
  readonly rows: number;
  readonly plannedRows: number;
  readonly rejects: number;
  /** Number of shards whose file is in the store, of those planned so far. */
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
  /** Idle time of the device by cause, as shares of its busy and idle time; known once sealed. */
  readonly deviceIdleRatios: Readonly<Partial<Record<IdleCause, number>>> | null;
  /** Null when no queue was passed. */
  readonly queue: QueueCounts | null;
  /** From `run` and `enqueue`: the files that the corpus's inputs name or contain. */
  readonly sources?: SourceCounts;
}

/** What became of the files that the inputs of a corpus name or contain. */
export interface SourceCounts {
  /** Number of files or objects that were opened for reading. */
  readonly read: number;
  /** Number of those that were passed over by kind, such as `.pdf`, `hidden file` or `_SUCCESS`. */
  readonly passedOver: Readonly<Record<string, number>>;
}

/**
 * Progress of a run, from the store alone unless the queue's counts are passed.
 *
 * @throws FleetError `run_unknown`
 */
export async function readProgress(
  params: Readonly<{ store: ObjectStore; run: string; queue: QueueCounts | null }>,
): Promise<RunReport> {
  return reportOf(await new RunWatch(params).look(), params.queue);
}

export function reportOf(snapshot: RunSnapshot, queue: QueueCounts | null): RunReport {
  const { record, sealed, closed, planned, done } = snapshot;
  if (sealed !== null) return sealedReport(record, sealed.totals, sealed.sealedAt, queue);
  const seconds = Math.max((Date.now() - Date.parse(record.createdAt)) / 1000, 0.001);
  return {
    run: record.run,
    state: stateOf(snapshot),
    ...(snapshot.hold !== null && { held: sayHold(snapshot.hold) }),
    ...deltaFigures(record, {
      unchanged: snapshot.unchanged,
      deletes: closed === null ? undefined : countDeletes(closed.deletes),
    }),
    documents: snapshot.documents,
    rows: done.rows,
    plannedRows: planned.rows,
    rejects: snapshot.windowRejects,
    shards: done.shards,
    plannedShards: planned.shards,
    files: done.shards,
    bytes: done.bytes,
    batches: null,
    realTokens: done.tokens,
    plannedTokens: planned.tokens,
    paddedTokens: null,
    seconds: round(seconds),
    tokensPerSecond: round(done.tokens / seconds),
    deviceBusyRatio: null,
    deviceIdleRatios: null,
    queue,
  };
}

function stateOf({ closed, isCancelled, hold, done }: RunSnapshot): RunState {
  if (isCancelled) return "cancelled";
  if (closed === null) return "planning";
  if (done.shards < closed.shards) return "embedding";
  return hold === null ? "complete" : "held";
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
    deviceIdleRatios:
      workMs === 0
        ? null
        : Object.fromEntries(Object.entries(totals.idle).map(([cause, ms]) => [cause, round(ms / workMs)])),
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
