/** The parts of a worker. */
import type { Logger } from "pino";
import type { Clock } from "../src/core/clock.ts";
import type { PackingLimits } from "../src/core/packing.ts";
import type { Embedder, JobLeases, ObjectStore } from "../src/core/ports.ts";
import type { Observe } from "../src/core/telemetry.ts";
import type { Loader } from "./loader.ts";

/** Ports and limits of a worker. */
export interface WorkerParams {
  readonly store: ObjectStore;
  readonly leases: JobLeases;
  readonly embedder: Embedder;
  /** Number of batches in flight to the embedder, as its engine sets it; 3 by default. */
  readonly batchesInFlight?: number;
  /** Version of the embedder's engine, for result files. */
  readonly engineVersion?: string;
  /** Runs the jobs suspected of killing workers; usable again after a crash. Null when the engine has none. */
  readonly sandbox: Embedder | null;
  readonly loader: Loader;
  readonly packing: PackingLimits;
  /** Maximum bytes of all shards, including vectors and files being written; a larger shard is processed alone. */
  readonly maxHeldBytes: number;
  readonly log: Logger;
  /** Name of the worker in a shard's file. */
  readonly name?: string;
  /** Observes stages, batches and shards; none by default. */
  readonly observe?: Observe;
  /** This machine's clock by default. */
  readonly clock?: Clock;
  /** Called when the queue is empty for this worker and it holds nothing. Returns true to end. */
  readonly onIdle: (runs: ReadonlySet<string>) => Promise<boolean>;
}
