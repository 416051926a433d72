/** What a worker is put together from. */
import type { Logger } from "pino";
import type { Clock } from "../src/core/clock.ts";
import type { PackingLimits } from "../src/core/packing.ts";
import type { Embedder, JobLeases, ObjectStore } from "../src/core/ports.ts";
import type { Observe } from "../src/core/telemetry.ts";
import type { Loader } from "./loader.ts";

/** The ports and limits a worker works with. */
export interface WorkerParams {
  readonly store: ObjectStore;
  readonly leases: JobLeases;
  readonly embedder: Embedder;
  /** Batches handed to the embedder at once, as its engine says; 3 by default. */
  readonly batchesInFlight?: number;
  /** Of the embedder's engine, for result files. */
  readonly engineVersion?: string;
  /** Runs the jobs suspected of killing workers; it may crash and be used again. Null when the engine has none. */
  readonly sandbox: Embedder | null;
  readonly loader: Loader;
  readonly packing: PackingLimits;
  /** What all shards may take, vectors and files that are being written included; one that is larger comes alone. */
  readonly maxHeldBytes: number;
  readonly log: Logger;
  /** Who made a shard, as its file says. */
  readonly name?: string;
  /** Told of stages, batches and shards; nobody by default. */
  readonly observe?: Observe;
  /** This machine's by default. */
  readonly clock?: Clock;
  /** Called when the queue has nothing for this worker and it holds nothing. Return true to end. */
  readonly onIdle: (runs: ReadonlySet<string>) => Promise<boolean>;
}
