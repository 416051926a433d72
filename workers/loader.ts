/** Loads the rows that a queue job refers to. */
import { isDeepStrictEqual } from "node:util";
import type { Logger } from "pino";
import { decodeStagedShard } from "../src/arrow/staged.ts";
import { type Clock, systemClock } from "../src/core/clock.ts";
import type { Head, ModelRef, Precision, RunRecord } from "../src/core/contracts.ts";
import { FleetError, hasCode } from "../src/core/errors.ts";
import { removedKey, runKeys, windowOfShard } from "../src/core/layout.ts";
import type { LeasedJob, ObjectStore } from "../src/core/ports.ts";
import { DEFAULT_ENGINE, engineNameOf, givesSameVectors, modelName } from "../src/core/same-model.ts";
import { isCancelled } from "../src/run/cancelled.ts";
import { findPlannedJob, readRun } from "../src/run/read-plan.ts";
import { HeldShard } from "./held-shard.ts";
import { openShardMemory } from "./shard-memory.ts";

/**
 * Reasons why a job needs no work: its file already exists, since the job was repeated; or its
 * run was cancelled or removed.
 */
export type Unneeded = "done" | "cancelled" | "removed";

/** The outcome of loading a job. */
export type Loaded = { readonly kind: "held"; readonly shard: HeldShard } | { readonly kind: Unneeded };

/** A cancelled run's jobs stop within this time; checking for every job would double the store's calls. */
const CANCEL_LOOK_INTERVAL_MS = 5000;

/** Faults that may be due to what happened to the run meanwhile, or to a job of another store. */
const DOUBTFUL = ["run_unknown", "object_missing", "object_corrupt"] as const;

/** An engine and its version. */
export interface EngineId {
  readonly name: string;
  readonly version: string | null;
}

/** Loads a job's rows into memory; refuses those of other engines, models, precisions or runs. */
export class Loader {
  readonly #store: ObjectStore;
  readonly #model: ModelRef;
  readonly #precision: Precision;
  readonly #heads: readonly Head[];
  readonly #vocabSize: number;
  readonly #engine: EngineId;
  readonly #log: Logger | null;
  readonly #clock: Clock;
  readonly #runs = new Map<string, Promise<RunRecord>>();
  readonly #memory = openShardMemory();
  readonly #cancelled = new Map<string, { readonly atMs: number; readonly answer: Promise<boolean> }>();

  constructor(
    params: Readonly<{
      store: ObjectStore;
      model: ModelRef;
      precision: Precision;
      heads: readonly Head[];
      vocabSize: number;
      /** ONNX Runtime of unknown version by default. */
      engine?: EngineId;
      /** Logs runs that another version of the engine started; none by default. */
      log?: Logger;
      /** This machine's clock by default. */
      clock?: Clock;
    }>,
  ) {
    this.#store = params.store;
    this.#model = params.model;
    this.#precision = params.precision;
    this.#heads = params.heads;
    this.#vocabSize = params.vocabSize;
    this.#engine = params.engine ?? { name: DEFAULT_ENGINE, version: null };
    this.#log = params.log ?? null;
    this.#clock = params.clock ?? systemClock;
  }

  /** @throws FleetError `run_unknown`, `worker_unfit`, `contract_newer`, `object_missing`, `object_corrupt` */
  async load(job: LeasedJob): Promise<Loaded> {
    try {
      return (await this.#unneeded(job)) ?? (await this.#load(job));
    } catch (error) {
      if (!DOUBTFUL.some((code) => hasCode(error, code))) throw error;
      const { run } = job.payload;
      if (await this.#isThere(removedKey(run))) return { kind: "removed" };
      // Staged ids are deleted at the seal, and another worker may have written the file and sealed meanwhile.
      const unneeded = await this.#unneeded(job);
      if (unneeded !== null) return unneeded;
      if (hasCode(error, "run_unknown")) throw error;
      return this.#loadAsPlanned(job, error);
    }
  }

  /**
   * Loads what this store's plan has under the job's id. A job that does not fit may be another store's: a copy of a
   * store has the same id, and so the same queue, and others can write to Redis. Such a job must not fail this store's run.
   * @param error Thrown when the job is as planned, since the store is then damaged, or when it is not planned at all.
   */
  async #loadAsPlanned(job: LeasedJob, error: unknown): Promise<Loaded> {
    const { run, shard } = job.payload;
    const planned = await findPlannedJob(this.#store, { run, shard }).catch(() => null);
    if (planned === null || isDeepStrictEqual(planned, job.payload)) throw error;
    this.#log?.warn({ run, shard }, "a job differs from this store's plan; the shard is loaded as planned");
    return this.#load({ ...job, payload: planned });
  }

  async #isThere(key: string): Promise<boolean> {
    return (await this.#store.stat({ key })) !== null;
  }

  async #unneeded({ payload: { run, shard } }: LeasedJob): Promise<Loaded | null> {
    if (await this.#isThere(runKeys(run).data(shard))) return { kind: "done" };
    return (await this.#isCancelled(run)) ? { kind: "cancelled" } : null;
  }

  async #load(job: LeasedJob): Promise<Loaded> {
    const { run, shard, start, end, rows, tokens, stagedSha256 } = job.payload;
    const keys = runKeys(run);
    const record = await this.#run(run);
    const bytes = await this.#store.read({ key: keys.staged(windowOfShard(shard)), range: { start, end } });
    const planned = decodeStagedShard({ run, shard, rows, tokens, bytes, stagedSha256 });
    this.#assertIdsFit(planned.tokenIds, record);
    return { kind: "held", shard: new HeldShard(job, record, planned, this.#memory, this.#clock) };
  }

  #isCancelled(run: string): Promise<boolean> {
    const last = this.#cancelled.get(run);
    if (last !== undefined && this.#clock.nowMs() - last.atMs < CANCEL_LOOK_INTERVAL_MS) return last.answer;
    const answer = isCancelled(this.#store, run);
    this.#cancelled.set(run, { atMs: this.#clock.nowMs(), answer });
    answer.catch(() => this.#cancelled.delete(run));
    return answer;
  }

  async #run(run: string): Promise<RunRecord> {
    let record = this.#runs.get(run);
    if (record === undefined) {
      record = readRun(this.#store, run);
      this.#runs.set(run, record);
      record.then(
        (read) => this.#sayVersion(read),
        () => this.#runs.delete(run),
      );
    }
    this.#assertFit(await record);
    return record;
  }

  /** @throws FleetError `worker_unfit`: other workers of the fleet may have what the run needs. */
  #assertFit({ run, options }: RunRecord): void {
    const { model, heads, precision } = options;
    const unfit = (wanted: string, had: string, cure: string): never => {
      throw new FleetError("worker_unfit", `run ${run} wants ${wanted}; this worker has ${had}`, { cure });
    };
    const engine = engineNameOf(options);
    if (engine !== this.#engine.name)
      unfit(`vectors of engine ${engine}`, `engine ${this.#engine.name}`, `start workers with --engine ${engine}`);
    if (precision !== this.#precision)
      unfit(
        `${precision} weights of model ${model.id}`,
        this.#precision,
        `start workers with --precision ${precision}`,
      );
    if (model.id !== this.#model.id || !givesSameVectors(model, this.#model)) {
      const cure =
        "start workers with the model that the run was enqueued with, at the same revision, tokenizer and configuration";
      unfit(modelName(model), modelName(this.#model), cure);
    }
    const missing = heads.filter((head) => !this.#heads.includes(head));
    if (missing.length > 0) {
      const cure = "start workers with a model that has these heads, as the run was enqueued with";
      unfit(`the ${missing.join(" and ")} head`, `a model with ${this.#heads.join(", ")} only`, cure);
    }
  }

  /** Logged once per run. Another version is no reason to refuse it: see `engineNameOf`. */
  #sayVersion({ run, options, engineVersion }: RunRecord): void {
    const { name, version } = this.#engine;
    if (engineVersion === undefined || version === null || version === engineVersion) return;
    if (engineNameOf(options) !== name) return;
    this.#log?.warn(
      { run, engine: name, version, engineVersion },
      "the run was started with another version of the engine; this worker's vectors may differ from its others by rounding",
    );
  }

  /** Ids outside the embedding table would read out of bounds in some runtimes. */
  #assertIdsFit(ids: Int32Array, record: RunRecord): void {
    let worst = 0;
    // As unsigned, a negative id is larger than any vocabulary.
    for (let i = 0; i < ids.length; i++) if (ids[i]! >>> 0 > worst) worst = ids[i]! >>> 0;
    if (worst >= this.#vocabSize) {
      throw new FleetError(
        "object_corrupt",
        `run ${record.run} has the token id ${worst}; the model knows ${this.#vocabSize} tokens`,
      );
    }
  }
}
