/** One queue of the fleet, with its workers and whoever reconciles it. */
import type { Logger } from "pino";
import { BullQueue } from "../adapters/redis/bull-queue.ts";
import { Presence, readPlanningWaits, readWorkers } from "../adapters/redis/presence.ts";
import { producersKey, turnKey, workersKey } from "../adapters/redis/queue-options.ts";
import { RedisTurn } from "../adapters/redis/redis-turn.ts";
import type { ObjectStore } from "../core/ports.ts";
import type { Observe } from "../core/telemetry.ts";
import type { WorkerState } from "../core/worker-state.ts";
import { Reconciler } from "../run/reconciler.ts";

export interface FleetQueueParams {
  readonly redisUrl: string;
  /** The queue's name, of fleet and model. */
  readonly name: string;
  readonly store: ObjectStore;
  readonly keepStaging: boolean;
  readonly tendIntervalMs: number;
  readonly log: Logger;
  readonly observe: Observe;
}

export class FleetQueue {
  readonly name: string;
  readonly jobs: BullQueue;
  readonly reconciler: Reconciler;
  readonly #workers: Presence;
  readonly #producers: Presence;
  readonly #turn: RedisTurn;

  constructor(params: FleetQueueParams) {
    const { redisUrl, name, store, keepStaging, tendIntervalMs, log, observe } = params;
    this.name = name;
    this.jobs = new BullQueue({ redisUrl, name });
    this.#workers = new Presence({ redisUrl, key: workersKey(name) });
    this.#producers = new Presence({ redisUrl, key: producersKey(name) });
    this.#turn = new RedisTurn({ redisUrl, key: turnKey(name) });
    this.reconciler = new Reconciler({
      store,
      queue: this.jobs,
      turn: this.#turn,
      fleet: name,
      keepStaging,
      intervalMs: tendIntervalMs,
      log,
      observe,
    });
  }

  /** Those present that say of themselves what can be read. */
  async workers(): Promise<WorkerState[]> {
    return readWorkers(this.#workers);
  }

  /** Runs whose corpus is being read. */
  producers(): Promise<string[]> {
    return this.#producers.present();
  }

  /** What planning waits for, by run, where it does. */
  planningWaits(): Promise<ReadonlyMap<string, string>> {
    return readPlanningWaits(this.#producers);
  }

  async close(): Promise<void> {
    await this.reconciler.close();
    await this.#turn.close();
    await this.#producers.close();
    await this.#workers.close();
    await this.jobs.close();
  }
}
