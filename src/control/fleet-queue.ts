/** One queue of the fleet, with its workers and its reconciler. */
import type { Logger } from "pino";
import type { ObjectStore, Presence, Turn } from "../core/ports.ts";
import type { ModelQueue, ShardQueue } from "../core/queue-server.ts";
import type { Observe } from "../core/telemetry.ts";
import { readPlanningWaits, readWorkers, type WorkerState } from "../core/worker-state.ts";
import { Reconciler } from "../run/reconciler.ts";

export interface FleetQueueParams {
  readonly queue: ModelQueue;
  readonly store: ObjectStore;
  readonly keepStaging: boolean;
  readonly tendIntervalMs: number;
  readonly log: Logger;
  readonly observe: Observe;
}

export class FleetQueue {
  readonly name: string;
  readonly jobs: ShardQueue;
  readonly reconciler: Reconciler;
  readonly #workers: Presence;
  readonly #producers: Presence;
  readonly #turn: Turn;

  constructor(params: FleetQueueParams) {
    const { queue, store, keepStaging, tendIntervalMs, log, observe } = params;
    this.name = queue.name;
    this.jobs = queue.shards();
    this.#workers = queue.workers();
    this.#producers = queue.producers();
    this.#turn = queue.turn();
    this.reconciler = new Reconciler({
      store,
      queue: this.jobs,
      turn: this.#turn,
      fleet: queue.name,
      keepStaging,
      intervalMs: tendIntervalMs,
      log,
      observe,
    });
  }

  /** Active workers whose reports can be read. */
  async workers(): Promise<WorkerState[]> {
    return readWorkers(this.#workers);
  }

  /** Ids of runs whose corpus is being read. */
  producers(): Promise<string[]> {
    return this.#producers.present();
  }

  /** Reasons why planning waits, by run. */
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
