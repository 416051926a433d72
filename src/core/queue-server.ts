/** Factory of a fleet's ports on one queue server. Each call opens a new port, which the caller closes. */
import type { Heartbeat } from "./heartbeat.ts";
import type { PartQueue } from "./ingest.ts";
import type { ControlQueue, JobFailures, JobLeases, JobQueue, Presence, QueueGauge, Turn } from "./ports.ts";
import type { Observe } from "./telemetry.ts";

/** A queue as producers, `status` and `resume` use it. */
export interface ShardQueue extends JobQueue, QueueGauge, JobFailures {
  /** Whether the queue is paused (by a tool); no job is handed out then. */
  isPaused(): Promise<boolean>;
  /** Damaged keys of the queue that this port has removed. */
  readonly repaired: readonly string[];
}

/** Asks the server once a second whether it can hold the queue, and reports when it cannot. */
export interface QueueWatch {
  /** Milliseconds since the last answer. */
  readonly silentMs: number;
  /**
   * Waits for a lasting silence.
   * @returns True after `patienceMs` from now without an answer, false when `until` has settled before.
   */
  fallsSilent(params: Readonly<{ patienceMs: number; until: Promise<unknown> }>): Promise<boolean>;
  /** Stops asking. */
  close(): Promise<void>;
}

/** How a worker's leases are taken and renewed. */
export interface LeasesParams {
  /** Name of the worker in the queue. */
  readonly workerId: string;
  /** Job lock duration in milliseconds; a dead worker's jobs are retried after at most 5/3 of this. */
  readonly lockDurationMs: number;
  /** Heartbeat on which the renewal of leases depends. */
  readonly heartbeat?: Heartbeat;
  readonly observe?: Observe;
}

/** The queue of one store, fleet and model, with its workers and producers. */
export interface ModelQueue {
  /** Name of the queue among those of its store, and of the store's markers of active runs; see `fleetKeys`. */
  readonly name: string;
  /** Jobs of this queue, for producers and for commands that look. */
  shards(): ShardQueue;
  /** Jobs of this queue, for a worker. */
  leases(params: LeasesParams): JobLeases;
  /** Presence of the workers; `readWorkers` reads their states. */
  workers(): Presence;
  /** Presence of the producers, by run; `readPlanningWaits` reads their states. */
  producers(): Presence;
  /** Locks among all processes of this queue. */
  turn(): Turn;
}

/** The queues of one fleet and store. No process of another store sees them, even with the same fleet name. */
export interface StoreQueues {
  /** Prefix of the names of all queues of this fleet. */
  readonly namePrefix: string;
  /** The queue of a model's runs. */
  ofModel(model: string): ModelQueue;
  /** Queue of the parts of a run's corpus that several machines read. */
  parts(params: Readonly<{ run: string; lockDurationMs: number }>): PartQueue;
  /** The fleet's schedules. */
  control(): ControlQueue;
  /** Locks among the processes that serve the fleet's schedules. */
  controlTurn(): Turn;
}

/** One fleet on one queue server. */
export interface QueueServer {
  /** Address without user and passwords. */
  readonly address: string;
  /**
   * Connects once and checks that the server is fit to hold a queue.
   * @param options.allowVolatile Warns about a server without persistence instead of refusing it.
   * @throws FleetError `bad_usage`, `redis_unavailable`, `redis_unsuitable`
   * @returns Warnings for the operator.
   */
  check(options: Readonly<{ allowVolatile: boolean }>): Promise<string[]>;
  /** Asks the server once a second whether it answers. */
  watch(observe?: Observe): QueueWatch;
  /**
   * The fleet's queues for one store.
   * @param store Id from its `store.json`; see `ensureStoreId` and `findStoreId`.
   */
  ofStore(store: string): StoreQueues;
}
