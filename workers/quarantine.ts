/**
 * Jobs suspected of killing workers. They run one at a time, never beside other jobs' rows, in a
 * model whose crash does not end the worker; after a crash, the rows are halved until the one
 * responsible is isolated and rejected.
 */
import type { Logger } from "pino";
import { BROKEN, type RowRef, rowLength } from "../src/core/batch.ts";
import { hasCode } from "../src/core/errors.ts";
import { Packer, type PackingLimits } from "../src/core/packing.ts";
import type { Embedder, LeasedJob } from "../src/core/ports.ts";
import type { HeldShard } from "./held-shard.ts";
import type { Loaded, Unneeded } from "./loader.ts";

export interface QuarantineParams {
  /** May crash on any batch with `inference_crashed`, and accepts the next one anyway. */
  readonly sandbox: Embedder;
  readonly packing: PackingLimits;
  readonly log: Logger;
  readonly load: (job: LeasedJob) => Promise<Loaded>;
  /** Called when the job needs no work. */
  readonly onDone: (job: LeasedJob, why: Unneeded) => Promise<void>;
  readonly onComplete: (shard: HeldShard) => Promise<void>;
  readonly onUnfinished: (job: LeasedJob) => Promise<void>;
  readonly onFault: (job: LeasedJob, error: unknown) => Promise<void>;
  /** Called after each of these, when the job no longer counts. */
  readonly onSettled: () => void;
}

export class Quarantine {
  readonly #params: QuarantineParams;
  readonly #jobs = new Set<string>();
  #turn: Promise<void> = Promise.resolve();
  #isStopping = false;

  constructor(params: QuarantineParams) {
    this.#params = params;
  }

  /** Number of jobs waiting or running. */
  get size(): number {
    return this.#jobs.size;
  }

  add(job: LeasedJob): void {
    if (this.#jobs.has(job.id)) return;
    this.#jobs.add(job.id);
    const { log } = this.#params;
    log.warn({ ...job.payload, stalls: job.stalls }, "a job whose workers died runs alone, in a sandbox");
    this.#turn = this.#turn
      .then(() => this.#run(job))
      .finally(() => {
        this.#jobs.delete(job.id);
        this.#params.onSettled();
      });
  }

  /** Returns unfinished jobs to the queue after the current batch. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    await this.#turn;
    await this.#params.sandbox.close();
  }

  async #run(job: LeasedJob): Promise<void> {
    const { load, onDone, onComplete, onUnfinished, onFault, sandbox } = this.#params;
    try {
      const loaded = this.#isStopping ? null : await load(job);
      if (loaded === null) await onUnfinished(job);
      else if (loaded.kind !== "held") await onDone(job, loaded.kind);
      else if (await this.#embedAll(loaded.shard)) await onComplete(loaded.shard);
      else await onUnfinished(job);
    } catch (error) {
      await onFault(job, error);
    } finally {
      // A second model is kept in memory only while there are suspects.
      if (this.#jobs.size === 1) await sandbox.close();
    }
  }

  /** @returns False when stopped before the end. */
  async #embedAll(shard: HeldShard): Promise<boolean> {
    const packer = new Packer<RowRef>(this.#params.packing, rowLength);
    packer.add(shard.rowRefs);
    shard.start();
    for (let batch = packer.next({ flush: true }); batch !== null; batch = packer.next({ flush: true })) {
      if (this.#isStopping) return false;
      await this.#embed(shard, batch);
    }
    return true;
  }

  async #embed(shard: HeldShard, rows: readonly RowRef[]): Promise<void> {
    const { sandbox } = this.#params;
    const length = sandbox.paddedLength(rows.reduce((max, row) => Math.max(max, rowLength(row)), 0));
    try {
      const report = await sandbox.embed({ rows });
      const deviceMs = report.finishedAtMs - report.startedAtMs;
      shard.finish(rows.length, { paddedTokens: rows.length * length, batches: 1, deviceMs, idleMs: 0, idle: {} });
    } catch (error) {
      if (!hasCode(error, "inference_crashed")) throw error;
      if (rows.length === 1) return this.#reject(shard, rows[0]!);
      const middle = Math.ceil(rows.length / 2);
      await this.#embed(shard, rows.slice(0, middle));
      await this.#embed(shard, rows.slice(middle));
    }
  }

  #reject(shard: HeldShard, { row }: RowRef): void {
    const { run, shard: id } = shard.job.payload;
    this.#params.log.error({ run, shard: id, row, document: shard.rows.ids[row] }, "a row crashes the model; rejected");
    shard.buffers.broken[row] = BROKEN.crashed;
    shard.finish(1, {
      paddedTokens: rowLength({ shard: shard.buffers, row }),
      batches: 0,
      deviceMs: 0,
      idleMs: 0,
      idle: {},
    });
  }
}
