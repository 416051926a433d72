/** A shard from the moment its rows are loaded until its file is committed. */
import { hash, randomBytes } from "node:crypto";
import { assembleResults, encodeResults } from "../src/arrow/results.ts";
import { allocateShard, BROKEN, copyRow, rowLength, type RowRef, type ShardBuffers } from "../src/core/batch.ts";
import { type Clock, systemClock } from "../src/core/clock.ts";
import type { Reject, RunRecord, ShardStats } from "../src/core/contracts.ts";
import { runKeys } from "../src/core/layout.ts";
import type { LeasedJob, ObjectStore } from "../src/core/ports.ts";
import { addIdle, type Observe, timed, timedSync, unobserved } from "../src/core/telemetry.ts";
import { type PlannedRows, textHashOf } from "../src/core/rows.ts";
import { openShardMemory, type ShardMemory } from "./shard-memory.ts";

type ShardCost = Pick<ShardStats, "paddedTokens" | "batches" | "deviceMs" | "idleMs" | "idle">;

/** The worker that makes a shard, and its observer. */
export interface Committer {
  readonly worker: string;
  /** Engine version for the shard's file; undefined if the engine is unknown. */
  readonly engineVersion?: string | undefined;
  readonly observe: Observe;
}

const NOBODY: Committer = { worker: "unnamed", observe: unobserved };

export class HeldShard {
  readonly job: LeasedJob;
  readonly record: RunRecord;
  readonly rows: PlannedRows;
  readonly buffers: ShardBuffers;
  readonly loadedAtMs: number;
  /** Bytes of the worker's memory that it occupies, vectors included. */
  readonly bytes: number;
  /** Milliseconds that loading took. */
  loadMs = 0;
  #firstBatchAtMs = 0;
  #lastBatchAtMs = 0;
  /** With `--dedupe`: for each row the first one with the same tokens, possibly itself. */
  readonly #firsts: Uint32Array | null;
  #rowsLeft: number;
  #hasStarted = false;
  readonly #memory: ShardMemory;
  readonly #clock: Clock;
  readonly #cost: ShardCost = { paddedTokens: 0, batches: 0, deviceMs: 0, idleMs: 0, idle: {} };

  constructor(
    job: LeasedJob,
    record: RunRecord,
    rows: PlannedRows,
    memory: ShardMemory = openShardMemory(),
    clock: Clock = systemClock,
  ) {
    this.#memory = memory;
    this.#clock = clock;
    this.loadedAtMs = clock.nowMs();
    this.job = job;
    this.record = record;
    this.rows = rows;
    const { offsets } = rows;
    const lengths = Uint32Array.from({ length: rows.ids.length }, (_, row) => offsets[row + 1]! - offsets[row]!);
    const { model, heads } = record.options;
    this.buffers = allocateShard({ lengths, dim: model.dim, heads, take: (bytes) => memory.shards.take(bytes) });
    this.buffers.ids.set(rows.tokenIds);
    this.bytes = Object.values(this.buffers).reduce<number>(
      (sum, value) => sum + (ArrayBuffer.isView(value) ? value.byteLength : 0),
      rows.tokenIds.byteLength,
    );
    this.#firsts = record.options.dedupe === true ? firstsOf(rows) : null;
    this.#rowsLeft = this.rowRefs.length;
  }

  /** The rows that must go through the model. */
  get rowRefs(): RowRef[] {
    const rows = Array.from(this.rows.ids.keys()).filter((row) => this.#firstOf(row) === row);
    return rows.map((row) => ({ shard: this.buffers, row }));
  }

  #firstOf(row: number): number {
    return this.#firsts === null ? row : this.#firsts[row]!;
  }

  get hasStarted(): boolean {
    return this.#hasStarted;
  }

  get isComplete(): boolean {
    return this.#rowsLeft === 0;
  }

  start(): void {
    if (!this.#hasStarted) this.#firstBatchAtMs = this.#clock.nowMs();
    this.#hasStarted = true;
  }

  /** Records `rows` of this shard's rows as computed in a batch, with their share of its cost. */
  finish(rows: number, cost: Readonly<ShardCost>): void {
    this.#rowsLeft -= rows;
    this.#lastBatchAtMs = this.#clock.nowMs();
    if (this.#rowsLeft === 0) this.#copyTwins();
    this.#cost.paddedTokens += cost.paddedTokens;
    this.#cost.batches += cost.batches;
    this.#cost.deviceMs += cost.deviceMs;
    this.#cost.idleMs += cost.idleMs;
    addIdle(this.#cost.idle, cost.idle);
  }

  #copyTwins(): void {
    const shard = this.buffers;
    this.#firsts?.forEach((first, row) => {
      if (first !== row) copyRow({ shard, row: first }, { shard, row });
    });
  }

  get stats(): ShardStats {
    const rejects = this.buffers.broken.reduce((sum, broken) => sum + (broken === 0 ? 0 : 1), 0);
    return {
      rows: this.rows.ids.length - rejects,
      rejects,
      realTokens: this.rowRefs.reduce((sum, ref) => sum + rowLength(ref), 0),
      ...this.#cost,
    };
  }

  /** Number of rejected rows by the reason given in `rejects/`. */
  get rejectCounts(): ReadonlyMap<string, number> {
    const counts = new Map<string, number>();
    for (const broken of this.buffers.broken) {
      if (broken !== 0) counts.set(reasonOf(broken), (counts.get(reasonOf(broken)) ?? 0) + 1);
    }
    return counts;
  }

  /**
   * Encodes the shard's file and creates it, after its rejects, so that a file never refers to rejects
   * that are missing.
   */
  async commit(store: ObjectStore, by: Committer = NOBODY): Promise<"created" | "exists"> {
    const { worker, engineVersion, observe } = by;
    const { run, shard } = this.job.payload;
    const of = { run, shard };
    const keys = runKeys(run);
    const { stats } = this;
    const { stagedSha256 } = this.rows;
    const rejectsKey = stats.rejects === 0 ? null : keys.shardRejects(shard, randomBytes(4).toString("hex"));
    if (rejectsKey !== null) await store.create({ key: rejectsKey, body: this.#rejectLines() });
    const startedAtMs = this.#clock.nowMs();
    const results = timedSync(observe, { stage: "assemble", of }, () => assembleResults(this.rows, this.buffers));
    const made = {
      worker,
      loadMs: this.loadMs,
      firstBatchAtMs: this.#firstBatchAtMs,
      lastBatchAtMs: this.#lastBatchAtMs,
      assembleMs: this.#clock.nowMs() - startedAtMs,
    };
    const { options } = this.record;
    const meta = { run, shard, options, stats: { ...stats, made }, rejectsKey, stagedSha256, engineVersion };
    const { files } = this.#memory;
    const body = timedSync(observe, { stage: "encode", of }, () => encodeResults(results, meta, files));
    const outcome = await timed(observe, { stage: "upload", of }, () => store.create({ key: keys.data(shard), body }));
    // A buffer is not reused after a failed upload: an abandoned request may still be reading it.
    files.give(body.buffer);
    return outcome;
  }

  /** Returns its memory for reuse: once, and only when all its batches are done and its file is written. */
  free(): void {
    this.#memory.shards.give(this.buffers.ids.buffer as SharedArrayBuffer);
  }

  #rejectLines(): Uint8Array {
    const broken = Array.from(this.rows.ids.keys()).filter((row) => this.buffers.broken[row] !== 0);
    const lines = broken.map((row): string => {
      const tokens = this.buffers.offsets[row + 1]! - this.buffers.offsets[row]!;
      const crashed = this.buffers.broken[row] === BROKEN.crashed;
      const reject: Reject = {
        id: this.rows.ids[row]!,
        chunk: this.rows.chunks[row]!,
        row,
        textHash: Buffer.from(textHashOf(this.rows, row)).toString("hex"),
        reason: reasonOf(this.buffers.broken[row]!),
        detail: crashed
          ? `the model's runtime crashed on its ${tokens} tokens, alone and in a process of its own`
          : `the model's outputs for its ${tokens} tokens are not finite numbers`,
        file: this.job.payload.shard,
      };
      return `${JSON.stringify(reject)}\n`;
    });
    return Buffer.from(lines.join(""));
  }
}

/** Rows with the same tokens have the same vectors, in any document. */
function firstsOf({ offsets, tokenIds, ids }: PlannedRows): Uint32Array {
  const firsts = new Map<string, number>();
  return Uint32Array.from(ids.keys(), (row) => {
    const tokens = tokenIds.subarray(offsets[row], offsets[row + 1]);
    const key = hash("sha256", new Uint8Array(tokens.buffer, tokens.byteOffset, tokens.byteLength), "base64");
    const first = firsts.get(key) ?? row;
    firsts.set(key, first);
    return first;
  });
}

/** @param broken One of the values of `BROKEN`. */
function reasonOf(broken: number): string {
  return broken === BROKEN.crashed ? "crashed" : "non_finite";
}
