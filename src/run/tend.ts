/**
 * Tending: what keeps a fleet's runs moving without anyone watching. Jobs that the queue has lost (a
 * wiped or restored Redis) are queued again from the plan, and a run that is whole is sealed.
 */
import type { Logger } from "pino";
import { messageOf } from "../core/errors.ts";
import { runKeys } from "../core/layout.ts";
import { jobOf } from "../core/planning.ts";
import type { JobQueue, ObjectStore, RunRegistry } from "../core/ports.ts";
import { listData, readWindows } from "./read-plan.ts";
import { sealRun } from "./seal.ts";

export interface TenderParams {
  readonly store: ObjectStore;
  readonly queue: JobQueue;
  readonly registry: RunRegistry;
  readonly keepStaging: boolean;
  /** Jobs lost with the queue come back within about this time and one pull. */
  readonly intervalMs: number;
  readonly log: Logger;
}

/** Every worker has one. They remember the runs they have heard of, so that a wiped Redis learns them again. */
export class Tender {
  readonly #params: TenderParams;
  readonly #known = new Set<string>();
  #timer: NodeJS.Timeout | null = null;
  #current: Promise<number> = Promise.resolve(0);

  constructor(params: TenderParams) {
    this.#params = params;
  }

  /** Tends now and then from time to time, taking turns with the fleet's other workers. */
  start(): void {
    const round = (): void => {
      void this.#isMyTurn().then((isMine) => (isMine ? this.tend() : 0));
    };
    this.#timer ??= setInterval(round, this.#params.intervalMs);
    round();
  }

  /** A round that is under way may end early: all it does can be done again. */
  async close(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
  }

  /** Runs whose jobs this worker has done. */
  remember(runs: Iterable<string>): void {
    for (const run of runs) this.#known.add(run);
  }

  /**
   * Looks after every known run once. Never throws: what fails is logged and tried again next time.
   * @returns How many jobs were queued again.
   */
  tend(): Promise<number> {
    this.#current = this.#current.then(() => this.#tendAll());
    return this.#current;
  }

  async #isMyTurn(): Promise<boolean> {
    try {
      await this.#exchange();
      // A little less than the interval, or a worker would find its own last turn still running.
      return await this.#params.registry.takeTurn({ durationMs: Math.round(this.#params.intervalMs * 0.9) });
    } catch (error) {
      this.#params.log.warn({ err: error }, "the fleet's runs could not be listed");
      return false;
    }
  }

  /** Learns the runs that the fleet knows, and tells it those that it has forgotten. */
  async #exchange(): Promise<void> {
    const { registry } = this.#params;
    const listed = await registry.list();
    await registry.add({ runs: [...this.#known].filter((run) => !listed.includes(run)) });
    this.remember(listed);
  }

  async #tendAll(): Promise<number> {
    let queued = 0;
    try {
      await this.#exchange();
      for (const run of this.#known) queued += await this.#tendRun(run);
    } catch (error) {
      this.#params.log.warn({ err: error }, `the fleet's runs could not be tended: ${messageOf(error)}`);
    }
    return queued;
  }

  async #tendRun(run: string): Promise<number> {
    const { store, registry, keepStaging, log } = this.#params;
    try {
      const outcome = await sealRun({ store, run, keepStaging });
      if (outcome.kind === "open") return await this.#queueLost(run);
      if (outcome.isNew) log.info({ run, rows: outcome.manifest.totals.rows }, "the run is sealed");
      this.#known.delete(run);
      await registry.remove({ run });
    } catch (error) {
      log.error({ run, err: error }, `the run could not be tended: ${messageOf(error)}`);
    }
    return 0;
  }

  /** Failed jobs are still in the queue and stay there: only `resume`, asked for by someone, repeats them. */
  async #queueLost(run: string): Promise<number> {
    const { store, queue, log } = this.#params;
    const done = await listData(store, run);
    let queued = 0;
    for await (const window of readWindows(store, run)) {
      const undone = window.shards.filter(({ shard }) => !done.has(runKeys(run).data(shard)));
      const lost = await queue.unknown({ jobs: undone.map((shard) => jobOf(run, shard)) });
      await queue.enqueue({ jobs: lost });
      queued += lost.length;
    }
    if (queued > 0) log.warn({ run, jobs: queued }, "jobs were missing from the queue and are queued again");
    return queued;
  }
}
