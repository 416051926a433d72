/** From a queue job to the rows it points at. */
import { decodeStagedShard } from "../src/arrow/staged.ts";
import type { Head, ModelRef, Precision, RunRecord } from "../src/core/contracts.ts";
import { FleetError } from "../src/core/errors.ts";
import { runKeys, windowOfShard } from "../src/core/layout.ts";
import type { LeasedJob, ObjectStore } from "../src/core/ports.ts";
import { givesSameVectors, modelName } from "../src/core/same-model.ts";
import { isCancelled } from "../src/run/cancelled.ts";
import { readRun } from "../src/run/read-plan.ts";
import { HeldShard } from "./held-shard.ts";
import { openShardMemory } from "./shard-memory.ts";

/** What becomes of a job that is loaded. */
export type Loaded =
  | { readonly kind: "held"; readonly shard: HeldShard }
  /** Its file is there already: the job was repeated. */
  | { readonly kind: "done" }
  /** Someone cancelled its run. */
  | { readonly kind: "cancelled" };

/** A cancelled run's jobs stop within this time; asking for every job would double the store's calls. */
const CANCEL_LOOK_INTERVAL_MS = 5000;

/** From a job to rows in memory: refuses those of other models, precisions or runs. */
export class Loader {
  readonly #store: ObjectStore;
  readonly #model: ModelRef;
  readonly #precision: Precision;
  readonly #heads: readonly Head[];
  readonly #vocabSize: number;
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
    }>,
  ) {
    this.#store = params.store;
    this.#model = params.model;
    this.#precision = params.precision;
    this.#heads = params.heads;
    this.#vocabSize = params.vocabSize;
  }

  /** @throws FleetError `run_unknown`, `job_invalid`, `object_missing`, `object_corrupt` */
  async load(job: LeasedJob): Promise<Loaded> {
    const { run, shard, start, end, rows, tokens, stagedSha256 } = job.payload;
    const keys = runKeys(run);
    if ((await this.#store.stat({ key: keys.data(shard) })) !== null) return { kind: "done" };
    if (await this.#isCancelled(run)) return { kind: "cancelled" };
    const record = await this.#run(run);
    const bytes = await this.#store.read({ key: keys.staged(windowOfShard(shard)), range: { start, end } });
    const planned = decodeStagedShard({ run, shard, rows, tokens, bytes, stagedSha256 });
    this.#assertIdsFit(planned.tokenIds, record);
    return { kind: "held", shard: new HeldShard(job, record, planned, this.#memory) };
  }

  #isCancelled(run: string): Promise<boolean> {
    const last = this.#cancelled.get(run);
    if (last !== undefined && performance.now() - last.atMs < CANCEL_LOOK_INTERVAL_MS) return last.answer;
    const answer = isCancelled(this.#store, run);
    this.#cancelled.set(run, { atMs: performance.now(), answer });
    answer.catch(() => this.#cancelled.delete(run));
    return answer;
  }

  async #run(run: string): Promise<RunRecord> {
    let record = this.#runs.get(run);
    if (record === undefined) {
      record = readRun(this.#store, run);
      this.#runs.set(run, record);
      record.catch(() => this.#runs.delete(run));
    }
    const { model, heads, precision } = (await record).options;
    if (precision !== this.#precision) {
      throw new FleetError(
        "job_invalid",
        `run ${run} wants ${precision} weights of model ${model.id}; this worker has ${this.#precision}`,
        { cure: `start workers with --precision ${precision}` },
      );
    }
    if (model.id !== this.#model.id || !givesSameVectors(model, this.#model)) {
      throw new FleetError(
        "job_invalid",
        `run ${run} wants ${modelName(model)}; this worker has ${modelName(this.#model)}`,
        {
          cure: "start workers with the model, of the same revision, tokenizer and configuration, that the run was enqueued with",
        },
      );
    }
    const missing = heads.filter((head) => !this.#heads.includes(head));
    if (missing.length > 0)
      throw new FleetError(
        "job_invalid",
        `run ${run} wants the ${missing.join(" and ")} head, which this worker's model lacks`,
      );
    return record;
  }

  /** Ids outside the embedding table would read foreign memory in some runtimes. */
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
