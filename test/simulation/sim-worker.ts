/** The shipped worker in the simulation: its device is made up, its ports and its clock are the world's. */
import { pino } from "pino";
import type { BatchReport, RowRef } from "../../src/core/batch.ts";
import { BROKEN } from "../../src/core/batch.ts";
import type { Clock } from "../../src/core/clock.ts";
import { type ErrorCode, FleetError } from "../../src/core/errors.ts";
import { DEFAULT_PACKING } from "../../src/core/packing.ts";
import type { Embedder, LeasedJob, ObjectStore } from "../../src/core/ports.ts";
import { Loader, type Loaded } from "../../workers/loader.ts";
import { FleetWorker } from "../../workers/worker.ts";
import type { Sabotage } from "./sabotage.ts";
import type { Actor, Scheduler } from "./scheduler.ts";
import type { SimRedis } from "./sim-redis.ts";

export const DIM = 2;
export const VOCAB_SIZE = 10;
export const SIM_MODEL = { id: "sim", revision: "1", sha256: "0".repeat(64), dim: DIM, maxTokens: 8192 };
const MAX_HELD_BYTES = 1024 ** 2;

interface DeviceParams {
  readonly scheduler: Scheduler;
  readonly actor: Actor;
  readonly clock: Clock;
  /** What it throws now and then, and how often. */
  readonly fault: ErrorCode;
  readonly faultShare: () => number;
}

/** Attempts differ, as they do between devices: in what they compute, and in which rows they reject. */
class SimDevice implements Embedder {
  readonly device = "simulated";
  readonly #params: DeviceParams;

  constructor(params: DeviceParams) {
    this.#params = params;
  }

  paddedLength(longest: number): number {
    return longest;
  }

  async embed({ rows }: Readonly<{ rows: readonly RowRef[] }>): Promise<BatchReport> {
    const { scheduler, actor, clock, fault, faultShare } = this.#params;
    const startedAtMs = clock.nowMs();
    await scheduler.step(actor);
    if (scheduler.chance(faultShare())) throw new FleetError(fault, "simulated fault of the device");
    for (const { shard, row } of rows) {
      const angle = scheduler.pick([0.1, 0.2, 0.3, 0.4])!;
      shard.dense!.set([Math.cos(angle), Math.sin(angle)], row * DIM);
      shard.broken[row] = scheduler.chance(0.3) ? BROKEN.nonFinite : 0;
    }
    return { startedAtMs, finishedAtMs: clock.nowMs() };
  }

  async close(): Promise<void> {}
}

class SimLoader extends Loader {
  readonly #sabotage: Sabotage;

  constructor(params: ConstructorParameters<typeof Loader>[0], sabotage: Sabotage) {
    super(params);
    this.#sabotage = sabotage;
  }

  override async load(job: LeasedJob): Promise<Loaded> {
    const { brokenLoader, commitsEarly, losesARow } = this.#sabotage;
    if (brokenLoader !== undefined && job.payload.shard === "w000000-s0000") {
      const mistake = new TypeError("rows.map is not a function");
      throw brokenLoader === "mistake" ? mistake : new FleetError("store_unavailable", mistake.message);
    }
    const loaded = await super.load(job);
    if (loaded.kind !== "held") return loaded;
    const { shard } = loaded;
    const finish = shard.finish.bind(shard);
    if (commitsEarly === true) shard.finish = (_, cost) => finish(shard.rowRefs.length, cost);
    if (losesARow === true) shard.finish = (rows, cost) => finish(rows - 1, cost);
    return loaded;
  }
}

export interface SimWorkerParams {
  readonly scheduler: Scheduler;
  readonly actor: Actor;
  readonly store: ObjectStore;
  readonly redis: SimRedis;
  readonly sabotage: Sabotage;
  /** The chance of a batch to fail: on the device, which ends the worker, and in the sandbox. */
  readonly faultShare: () => number;
  /** Whether it ends when it finds nothing to do, asked each time. */
  readonly mayEnd: () => boolean;
}

/** Works until it may end, or until its device fails. */
export async function workInSimulation(params: SimWorkerParams): Promise<void> {
  const { scheduler, actor, store, redis, sabotage, faultShare, mayEnd } = params;
  const clock = redis.clockOf(actor);
  const of = { scheduler, actor, clock, faultShare };
  const model = { store, model: SIM_MODEL, precision: "fp32", heads: ["dense"], vocabSize: VOCAB_SIZE } as const;
  const leases = redis.leasesFor(actor);
  const worker = new FleetWorker({
    name: "simulated",
    store,
    leases,
    embedder: new SimDevice({ ...of, fault: "inference_failed" }),
    sandbox: new SimDevice({ ...of, fault: "inference_crashed" }),
    loader: new SimLoader({ ...model, clock }, sabotage),
    // Batches of parts of a shard, of a whole one, and of several.
    packing: { ...DEFAULT_PACKING, maxBatchRows: scheduler.pick([1, 2, 4])! },
    maxHeldBytes: MAX_HELD_BYTES,
    log: pino({ level: "silent" }),
    clock,
    onIdle: async () => mayEnd(),
  });
  await worker.run().finally(() => leases.close());
}
