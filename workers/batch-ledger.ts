/** Records the cost of a worker's batches: divides it between their shards, sums it up, and reports it to observers. */
import { type BatchReport, type RowRef, rowLength, type ShardBuffers } from "../src/core/batch.ts";
import type { Clock } from "../src/core/clock.ts";
import type { BatchShare, IdleCause, Observe } from "../src/core/telemetry.ts";
import { DeviceClock } from "./device-clock.ts";
import type { HeldShard } from "./held-shard.ts";

/** A worker's totals since it started. */
export interface WorkerCounts {
  shards: number;
  rows: number;
  batches: number;
  realTokens: number;
  paddedTokens: number;
  deviceMs: number;
  idleMs: number;
}

export class BatchLedger {
  readonly counts: WorkerCounts = {
    shards: 0,
    rows: 0,
    batches: 0,
    realTokens: 0,
    paddedTokens: 0,
    deviceMs: 0,
    idleMs: 0,
  };
  readonly #clock: DeviceClock;
  readonly #observe: Observe;

  constructor({ observe, clock }: Readonly<{ observe: Observe; clock: Clock }>) {
    this.#observe = observe;
    this.#clock = new DeviceClock(() => clock.nowMs());
  }

  /** Sets the reason for idle time; see `DeviceClock`. */
  waitsFor(cause: IdleCause): void {
    this.#clock.waitsFor(cause);
  }

  /**
   * Records a finished batch, so that the shards' sums are the run's.
   * @param params.rows The batch's rows, longest first.
   * @param params.length Tokens that the rows were padded to.
   */
  record(
    params: Readonly<{
      rows: readonly RowRef[];
      length: number;
      report: BatchReport;
      held: ReadonlyMap<ShardBuffers, HeldShard>;
    }>,
  ): void {
    const { rows, length, report, held } = params;
    const { deviceMs, idleMs, idle } = this.#clock.record(report);
    const shares: BatchShare[] = [];
    for (const [buffers, part] of partsOf(rows)) {
      const shard = held.get(buffers)!;
      const share = part.rows / rows.length;
      shard.finish(part.rows, {
        paddedTokens: part.rows * length,
        batches: rows[0]!.shard === buffers ? 1 : 0,
        deviceMs: deviceMs * share,
        idleMs: idleMs * share,
        idle: Object.fromEntries(
          [...idle].filter(([cause]) => cause !== "queue-empty").map(([cause, ms]) => [cause, ms * share]),
        ),
      });
      shares.push({ run: shard.job.payload.run, shard: shard.job.payload.shard, ...part });
    }
    const realTokens = shares.reduce((sum, share) => sum + share.realTokens, 0);
    const paddedTokens = rows.length * length;
    this.#count({ rows: rows.length, realTokens, paddedTokens, deviceMs, idleMs });
    for (const [cause, durationMs] of idle) this.#observe({ kind: "idle", cause, durationMs });
    this.#observe({
      kind: "batch",
      batch: this.counts.batches,
      rowTokens: Uint32Array.from(rows, rowLength),
      longestTokens: rowLength(rows[0]!),
      realTokens,
      paddedTokens,
      startedAtMs: report.startedAtMs,
      deviceMs,
      idleMs,
      shares,
    });
  }

  #count(batch: Readonly<Omit<WorkerCounts, "shards" | "batches">>): void {
    this.counts.batches++;
    this.counts.rows += batch.rows;
    this.counts.realTokens += batch.realTokens;
    this.counts.paddedTokens += batch.paddedTokens;
    this.counts.deviceMs += batch.deviceMs;
    this.counts.idleMs += batch.idleMs;
  }
}

function partsOf(rows: readonly RowRef[]): Map<ShardBuffers, { rows: number; realTokens: number }> {
  const parts = new Map<ShardBuffers, { rows: number; realTokens: number }>();
  for (const row of rows) {
    const part = parts.get(row.shard) ?? { rows: 0, realTokens: 0 };
    parts.set(row.shard, { rows: part.rows + 1, realTokens: part.realTokens + rowLength(row) });
  }
  return parts;
}
