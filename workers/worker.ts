/**
 * A worker: pulls several jobs, packs their rows into batches, keeps the device busy, and commits
 * each shard's file when its last row is done. Two loops share the pool of rows: one fills it from
 * the queue and the store, the other empties it through the model.
 */
import { type RowRef, rowLength, type ShardBuffers } from "../src/core/batch.ts";
import { FleetError } from "../src/core/errors.ts";
import { type Clock, systemClock } from "../src/core/clock.ts";
import { Packer } from "../src/core/packing.ts";
import type { Embedder, LeasedJob } from "../src/core/ports.ts";
import { type IdleCause, type Observe, timed, timedSync, unobserved } from "../src/core/telemetry.ts";
import type { Committer, HeldShard } from "./held-shard.ts";
import { BatchLedger, type WorkerCounts } from "./batch-ledger.ts";
import type { Unneeded } from "./loader.ts";
import { Quarantine } from "./quarantine.ts";
import { type Refusal, Refuser } from "./refuse.ts";
import { MemoryBudget } from "./memory-budget.ts";
import { MAX_FAULTS } from "./verdict.ts";
import { Signal } from "./signal.ts";
import type { WorkerParams } from "./worker-params.ts";

/** Default when the engine sets none: one batch runs, the next is ready, and the previous one's results are copied. */
const DEFAULT_BATCHES_IN_FLIGHT = 3;
/** Size of the pool of ready rows, in batches: enough choice for little padding. */
const POOL_BATCHES = 24;
const MAX_JOBS_PER_PULL = 16;
/** One lapsed lease is a spot machine's normal end; a second one on the same job is suspicious. */
const SUSPECT_AFTER_STALLS = 2;
const MAX_SUSPECTS = 16;

/** Pulls jobs, packs rows of several into batches, and commits each shard's file before its job. */
export class FleetWorker {
  readonly #params: WorkerParams;
  readonly #observe: Observe;
  readonly #clock: Clock;
  readonly #committer: Committer;
  readonly #ledger: BatchLedger;
  readonly #packer: Packer<RowRef>;
  /** Null without a sandbox. */
  readonly #quarantine: Quarantine | null;
  readonly #maxBatchesInFlight: number;
  readonly #refuser: Refuser;
  readonly #held = new Map<ShardBuffers, HeldShard>();
  readonly #commits = new Map<HeldShard, Promise<void>>();
  readonly #memory: MemoryBudget;
  /** Runs with shards that this worker committed since it was last idle. */
  readonly #runs = new Set<string>();
  /** Wakes both loops when rows arrive, a batch or a commit ends, or the worker is to stop. */
  readonly #changed = new Signal();
  #queueIsDry = false;
  #isStopping = false;
  #hasFed = false;
  #fault: unknown = null;
  #isDeviceAtFault = false;
  #batchesInFlight = 0;
  #loads = 0;
  /** Number of jobs in the last pull, and tokens and bytes of the largest recent ones. */
  #lately = { jobs: 0, largest: 0, bytes: 0 };
  #done: Promise<void> | null = null;

  constructor(params: WorkerParams) {
    this.#params = params;
    this.#observe = params.observe ?? unobserved;
    const { name: worker = "unnamed", engineVersion, sandbox } = params;
    this.#clock = params.clock ?? systemClock;
    this.#committer = { worker, engineVersion, observe: this.#observe };
    this.#maxBatchesInFlight = params.batchesInFlight ?? DEFAULT_BATCHES_IN_FLIGHT;
    this.#ledger = new BatchLedger({ observe: this.#observe, clock: this.#clock });
    this.#packer = new Packer(params.packing, rowLength);
    this.#refuser = new Refuser({ ...params, clock: this.#clock });
    this.#memory = new MemoryBudget({ maxBytes: params.maxHeldBytes, held: this.#held, commits: this.#commits });
    this.#quarantine = sandbox === null ? null : this.#openQuarantine(sandbox);
  }

  #openQuarantine(sandbox: Embedder): Quarantine {
    const { packing, log, loader } = this.#params;
    return new Quarantine({
      sandbox,
      packing,
      log,
      load: (job) => loader.load(job),
      onDone: (job, why) => this.#completeUnneeded(job, why),
      onComplete: (shard) => this.#commitNow(shard),
      onUnfinished: (job) => this.#refuser.giveBack(job),
      onFault: (job, error) => this.#refuse({ job, what: "loaded", error }),
      onSettled: () => this.#notify(),
    });
  }

  /** Counts so far. */
  get counts(): Readonly<WorkerCounts> {
    return this.#ledger.counts;
  }

  /** Runs until stopped, or until `onIdle` returns true. Rejects on a fault of the device. */
  run(): Promise<void> {
    this.#done ??= this.#run();
    return this.#done;
  }

  /**
   * Stops pulling, returns the shards not started, finishes and commits the others.
   * Safe to call before `run` and more than once.
   */
  async stop(): Promise<void> {
    this.#isStopping = true;
    this.#notify();
    await this.#done?.catch(() => {});
  }

  #notify(): void {
    this.#ledger.waitsFor(this.#cause);
    this.#changed.notify();
  }

  /** The reason why the device is idle, if it is. */
  get #cause(): IdleCause {
    if (this.#batchesInFlight > 0) return "copying";
    if (this.#memory.isCongested || (this.#memory.isFull && this.#held.size === 0)) return "committing";
    const { maxBatchTokens, maxBatchRows } = this.#params.packing;
    if (this.#packer.pendingTokens >= maxBatchTokens || this.#packer.pendingRows >= maxBatchRows) return "packing";
    if (this.#loads > 0) return "loading";
    return this.#queueIsDry && this.#held.size === 0 ? "queue-empty" : "pulling";
  }

  async #run(): Promise<void> {
    try {
      await Promise.all([this.#feed().catch((error: unknown) => this.#abort(error)), this.#drive()]);
    } finally {
      await Promise.all(this.#handedBack.map((shard) => this.#release(shard)));
      await this.#quarantine?.stop();
      await Promise.all(this.#commits.values());
    }
  }

  /** Shards to return. Those started on a failing device lapse: a job that ends every worker is known by its stalls. */
  get #handedBack(): HeldShard[] {
    return [...this.#held.values()].filter((shard) => !this.#isDeviceAtFault || !shard.hasStarted);
  }

  #abort(fault: unknown): void {
    this.#fault ??= fault;
    this.#isStopping = true;
    this.#hasFed = true;
    this.#notify();
  }

  // --- Feeding the pool ---------------------------------------------------------------------

  async #feed(): Promise<void> {
    while (!this.#isStopping) {
      if (this.#isFull) {
        await this.#changed.wait();
        continue;
      }
      const isIdle = !this.#isBusy && this.#suspects === 0;
      if (isIdle && this.#queueIsDry && (await this.#params.onIdle(this.#takeRuns()))) break;
      await this.#pull(!this.#isBusy);
      // Nothing to pull while rows are held or written: check again after progress.
      if (this.#queueIsDry && this.#isBusy) await this.#changed.wait();
    }
    await this.#giveBackUnstarted();
    this.#hasFed = true;
    this.#notify();
  }

  get #isBusy(): boolean {
    return this.#held.size > 0 || this.#commits.size > 0;
  }

  get #suspects(): number {
    return this.#quarantine?.size ?? 0;
  }

  #takeRuns(): ReadonlySet<string> {
    const runs = new Set(this.#runs);
    this.#runs.clear();
    return runs;
  }

  get #isFull(): boolean {
    const enoughTokens = POOL_BATCHES * this.#params.packing.maxBatchTokens;
    return this.#packer.pendingTokens >= enoughTokens || this.#memory.isFull || this.#suspects >= MAX_SUSPECTS;
  }

  /**
   * As many jobs as fit if they are as large as recent ones, and at most twice the last pull's: a
   * worker that takes more because of one small job keeps them from others. A queue that was empty last
   * time is asked for one: at a run's end sixty-four workers would ask for sixteen each.
   */
  get #wantedJobs(): number {
    const { jobs, largest, bytes } = this.#lately;
    if (this.#queueIsDry || jobs === 0) return 1;
    const room = POOL_BATCHES * this.#params.packing.maxBatchTokens - this.#packer.pendingTokens;
    return Math.max(
      1,
      Math.min(MAX_JOBS_PER_PULL, 2 * jobs, Math.floor(room / largest), Math.floor(this.#memory.leftBytes / bytes)),
    );
  }

  async #pull(wait: boolean): Promise<void> {
    const { leases, log } = this.#params;
    const max = this.#wantedJobs;
    const startedAtMs = this.#clock.nowMs();
    const { jobs, refused } = await leases.pull({ max, wait });
    // Waiting for jobs is not counted as a stage.
    if (jobs.length > 0)
      this.#observe({ kind: "stage", stage: "pull", startedAtMs, durationMs: this.#clock.nowMs() - startedAtMs });
    this.#observe({ kind: "polled", jobs: jobs.length });
    const stalled = jobs.filter(({ stalls }) => stalls > 0).length;
    if (stalled > 0) this.#observe({ kind: "stalled", count: stalled });
    for (const { id, reason } of refused) log.error({ job: id, reason }, "a job was refused");
    this.#queueIsDry = jobs.length < max;
    const largest = jobs.reduce((tokens, { payload }) => Math.max(tokens, payload.tokens), this.#lately.largest / 2);
    if (jobs.length > 0) this.#lately = { jobs: jobs.length, largest, bytes: this.#lately.bytes / 2 };
    this.#loads = jobs.length;
    this.#notify();
    await Promise.all(jobs.map((job) => this.#admit(job).finally(() => this.#loads--)));
    const { pendingTokens: poolTokens } = this.#packer;
    this.#observe({ kind: "held", shards: this.#held.size, bytes: this.#memory.bytes, poolTokens });
    this.#notify();
  }

  async #admit(job: LeasedJob): Promise<void> {
    if (job.stalls >= SUSPECT_AFTER_STALLS && this.#quarantine !== null) this.#quarantine.add(job);
    else if (job.stalls >= MAX_FAULTS) await this.#refuse({ job, what: "loaded", error: deadly(job) });
    else await this.#load(job);
  }

  async #load(job: LeasedJob): Promise<void> {
    const { loader } = this.#params;
    if ([...this.#held.values()].some((held) => held.job.id === job.id)) return;
    try {
      const startedAtMs = this.#clock.nowMs();
      const loaded = await timed(this.#observe, { stage: "load", of: job.payload }, () => loader.load(job));
      if (loaded.kind === "held") loaded.shard.loadMs = this.#clock.nowMs() - startedAtMs;
      if (loaded.kind !== "held") {
        await this.#completeUnneeded(job, loaded.kind);
        return;
      }
      this.#held.set(loaded.shard.buffers, loaded.shard);
      this.#lately.bytes = Math.max(this.#lately.bytes, loaded.shard.bytes);
      const of = { run: job.payload.run, shard: job.payload.shard };
      timedSync(this.#observe, { stage: "pack", of }, () => this.#packer.add(loaded.shard.rowRefs));
      this.#notify();
    } catch (error) {
      await this.#refuse({ job, what: "loaded", error });
    }
  }

  async #completeUnneeded(job: LeasedJob, why: Unneeded): Promise<void> {
    const { run, shard } = job.payload;
    await this.#params.leases.complete({ job });
    this.#runs.add(run);
    const message = why === "done" ? "the shard was already done" : `the run was ${why}; its job is dropped`;
    this.#params.log.info({ run, shard }, message);
  }

  async #refuse(refusal: Refusal): Promise<void> {
    if ((await this.#refuser.refuse(refusal)) === "end") this.#abort(refusal.error);
  }

  async #giveBackUnstarted(): Promise<void> {
    const unstarted = new Set([...this.#held.values()].filter((shard) => !shard.hasStarted));
    this.#packer.remove(({ shard }) => unstarted.has(this.#held.get(shard)!));
    await Promise.all([...unstarted].map((shard) => this.#release(shard)));
  }

  async #release(shard: HeldShard): Promise<void> {
    this.#held.delete(shard.buffers);
    await this.#refuser.giveBack(shard.job);
  }

  // --- Emptying it through the device --------------------------------------------------------

  async #drive(): Promise<void> {
    for (;;) {
      const batch = this.#takeBatch();
      if (batch !== null) {
        this.#batchesInFlight++;
        this.#notify();
        this.#embed(batch)
          .catch((error: unknown) => {
            this.#isDeviceAtFault = true;
            this.#abort(error);
          })
          .finally(() => {
            this.#batchesInFlight--;
            this.#notify();
          });
      } else if (
        this.#batchesInFlight === 0 &&
        this.#hasFed &&
        (this.#packer.pendingRows === 0 || this.#fault !== null)
      )
        break;
      else await this.#changed.wait();
    }
    await Promise.all(this.#commits.values());
    if (this.#fault !== null) throw this.#fault;
  }

  #takeBatch(): RowRef[] | null {
    const isReady =
      this.#fault === null && this.#batchesInFlight < this.#maxBatchesInFlight && !this.#memory.isCongested;
    if (!isReady) return null;
    // Without room for more shards, only the end of a batch or a commit can add rows to a partial batch.
    const isStuck = this.#isFull && this.#batchesInFlight === 0 && this.#commits.size === 0;
    const nothingComes = this.#hasFed || ((this.#queueIsDry || isStuck) && this.#loads === 0);
    const startedAtMs = this.#clock.nowMs();
    const batch = this.#packer.next({ flush: nothingComes });
    // A search that finds no batch ready is part of waiting for rows.
    if (batch !== null)
      this.#observe({ kind: "stage", stage: "pack", startedAtMs, durationMs: this.#clock.nowMs() - startedAtMs });
    return batch;
  }

  async #embed(rows: RowRef[]): Promise<void> {
    for (const { shard } of rows) this.#held.get(shard)?.start();
    const readyAtMs = this.#clock.nowMs();
    const { embedder } = this.#params;
    const report = await embedder.embed({ rows });
    const waitMs = Math.max(0, report.startedAtMs - readyAtMs);
    this.#observe({ kind: "stage", stage: "wait", startedAtMs: readyAtMs, durationMs: waitMs });
    const length = embedder.paddedLength(rowLength(rows[0]!));
    this.#ledger.record({ rows, length, report, held: this.#held });
    const shards = new Set(rows.map(({ shard }) => this.#held.get(shard)!));
    for (const shard of shards) if (shard.isComplete) this.#commit(shard);
  }

  #commit(shard: HeldShard): void {
    this.#held.delete(shard.buffers);
    const commit = this.#commitNow(shard).finally(() => {
      this.#commits.delete(shard);
      this.#notify();
    });
    this.#commits.set(shard, commit);
  }

  /** The store first, then the queue: a job is done when its file exists, whatever Redis says. */
  async #commitNow(shard: HeldShard): Promise<void> {
    const { store, leases, log } = this.#params;
    const { run, shard: id } = shard.job.payload;
    const of = { run, shard: id };
    let step: "written" | "completed" = "written";
    try {
      // Encoding blocks this thread, so the device gets no next batch meanwhile.
      this.#ledger.waitsFor("committing");
      const committed = shard.commit(store, this.#committer);
      this.#ledger.waitsFor(this.#cause);
      const outcome = await committed;
      this.#ledger.counts.shards++;
      this.#runs.add(run);
      step = "completed";
      const settled = await timed(this.#observe, { stage: "complete", of }, () => leases.complete({ job: shard.job }));
      const { rows, rejects, realTokens } = shard.stats;
      const durationMs = this.#clock.nowMs() - shard.loadedAtMs;
      this.#observe({ kind: "shard", ...of, outcome, startedAtMs: shard.loadedAtMs, durationMs, rows, realTokens });
      // If two workers computed one shard, only the first one's rejects count.
      if (outcome === "created" && rejects > 0) this.#observeRejects(shard);
      log.debug({ run, shard: id, outcome, settled, ...shard.stats }, "a shard was committed");
    } catch (error) {
      await this.#refuse({ job: shard.job, what: step, error });
    } finally {
      shard.free();
    }
  }

  #observeRejects(shard: HeldShard): void {
    for (const [reason, count] of shard.rejectCounts) this.#observe({ kind: "rejects", reason, count });
  }
}

/** Without a sandbox the responsible row cannot be found. */
function deadly({ payload: { run, shard }, stalls }: LeasedJob): FleetError {
  return new FleetError("job_invalid", `${stalls} workers died with shard ${shard} of run ${run}`, {
    cure: "see how they ended; this engine has no sandbox to find the responsible row",
  });
}
