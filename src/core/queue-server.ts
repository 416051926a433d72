/** What opens a fleet's ports on one queue server. Each call opens a port of its own, which its caller closes. */
import type { Heartbeat } from "./heartbeat.ts";
import type { PartQueue } from "./ingest.ts";
import type { ControlQueue, JobFailures, JobLeases, JobQueue, Presence, QueueGauge, Turn } from "./ports.ts";
import type { Observe } from "./telemetry.ts";

/** A queue as producers, `status` and `resume` use it. */
export interface ShardQueue extends JobQueue, QueueGauge, JobFailures {
  /** Whether a tool has paused it: no job is handed out then. */
  isPaused(): Promise<boolean>;
  /** The queue's own keys that were damaged and that this has removed. */
  readonly repaired: readonly string[];
}

/** Asks the server once a second whether it can hold the queue, and says so when it cannot. */
export interface QueueWatch {
  /** Milliseconds since the last answer. */
  readonly silentMs: number;
  /**
   * Waits for a silence that lasts.
   * @returns true when there was no answer for `patienceMs` from now on, false when `until` has settled before.
   */
  fallsSilent(params: Readonly<{ patienceMs: number; until: Promise<unknown> }>): Promise<boolean>;
  close(): Promise<void>;
}

export interface LeasesParams {
  /** Names the worker in the queue. */
  readonly workerId: string;
  /** How long a dead worker keeps its jobs from the others, at most 5/3 of this. */
  readonly lockDurationMs: number;
  /** Leases are renewed while this shows signs of life. */
  readonly heartbeat?: Heartbeat;
  readonly observe?: Observe;
}

/** The queue of one fleet and model, with whoever works on it. */
export interface ModelQueue {
  /** Also what the store's markers of active runs are under; see `fleetKeys`. */
  readonly name: string;
  shards(): ShardQueue;
  leases(params: LeasesParams): JobLeases;
  /** The workers; `readWorkers` reads what they report. */
  workers(): Presence;
  /** The runs whose corpus is being read; `readPlanningWaits` reads what they report. */
  producers(): Presence;
  /** Turns among all processes of this queue. */
  turn(): Turn;
}

/** One fleet on one queue server. */
export interface QueueServer {
  /** Its address, without user and passwords. */
  readonly address: string;
  /**
   * Connects once and checks that the server is fit to hold a queue.
   * @param options.allowVolatile Warns about a server that keeps nothing on disk instead of refusing it.
   * @throws FleetError `bad_usage`, `redis_unavailable`, `redis_unsuitable`
   * @returns Warnings for the operator.
   */
  check(options: Readonly<{ allowVolatile: boolean }>): Promise<string[]>;
  watch(observe?: Observe): QueueWatch;
  /** What the names of all of this fleet's queues begin with. */
  readonly namePrefix: string;
  /** The queue of a model's runs. */
  ofModel(model: string): ModelQueue;
  /** Parts of a run's corpus that several machines read. */
  parts(params: Readonly<{ run: string; lockDurationMs: number }>): PartQueue;
  /** The fleet's schedules. */
  control(): ControlQueue;
  /** Turns among the processes that keep the fleet's schedules. */
  controlTurn(): Turn;
}
