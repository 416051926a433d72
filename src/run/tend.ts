/**
 * Tending: what keeps a fleet's runs moving without anyone watching. Jobs that the queue has lost (a
 * wiped or restored Redis) are queued again from the plan, and a run that is whole is sealed.
 */
import type { Logger } from "pino";
import { hasCode, messageOf } from "../core/errors.ts";
import { runKeys } from "../core/layout.ts";
import type { JobQueue, ObjectStore, Turn } from "../core/ports.ts";
import { type Observe, unobserved } from "../core/telemetry.ts";
import { listActive, unmarkActive } from "./active-runs.ts";
import { isCancelled } from "./cancelled.ts";
import { PlannedJobs } from "./planned-jobs.ts";
import { listData } from "./read-plan.ts";
import { sealRun, whyOpen } from "./seal.ts";

/** A run whose sealer died is sealed by another after this time. */
const SEAL_TURN_MS = 30_000;

export interface TenderParams {
  readonly store: ObjectStore;
  readonly queue: JobQueue;
  readonly turn: Turn;
  readonly fleet: string;
  readonly keepStaging: boolean;
  /** Jobs lost with the queue come back within about this time and one pull. */
  readonly intervalMs: number;
  readonly log: Logger;
  /** Told of each round; nobody by default. */
  readonly observe?: Observe;
}

/** What became of a run in one round. */
interface Tended {
  readonly requeued: number;
  readonly sealed: number;
  /** Whether another round may find done, or do, what this one could not. */
  readonly isUnreached?: boolean;
}

const NOTHING: Tended = { requeued: 0, sealed: 0 };

/** Every worker has one; they take turns, and any number of them may tend at once. */
export class Tender {
  readonly #params: TenderParams;
  readonly #planned: PlannedJobs;
  readonly #troubles = new Map<string, unknown>();
  #timer: NodeJS.Timeout | null = null;
  #current: Promise<number> = Promise.resolve(0);

  constructor(params: TenderParams) {
    this.#params = params;
    this.#planned = new PlannedJobs(params.store);
  }

  /** Tends now and from time to time, when it is this one's turn. */
  start(): void {
    const { turn, intervalMs, log } = this.#params;
    // A little less than the interval, or a worker would find its own last turn still running.
    const durationMs = Math.round(intervalMs * 0.9);
    const round = (): void => {
      turn
        .take({ durationMs })
        .then((isMine) => (isMine ? this.tend() : 0))
        .catch((error: unknown) => log.warn({ err: error }, "the queue cannot be asked whose turn it is to tend"));
    };
    this.#timer ??= setInterval(round, intervalMs);
    round();
  }

  /** A round that is under way may end early: all it does can be done again. */
  async close(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
  }

  /**
   * Looks after every active run once. Never throws: what fails is logged and tried again next time.
   * @returns How much is left to do: jobs that were queued again, and runs that the store did not let it look after or
   * that another is sealing, who may die.
   */
  tend(): Promise<number> {
    this.#current = this.#current.then(() => this.#tendAll());
    return this.#current;
  }

  /** Why the run could not be looked after the last time; undefined when it could. */
  troubleOf(run: string): unknown {
    return this.#troubles.get(run);
  }

  async #tendAll(): Promise<number> {
    const { store, fleet, log, observe = unobserved } = this.#params;
    const sums = { runs: 0, requeued: 0, sealed: 0 };
    let unreached = 0;
    try {
      const runs = await listActive(store, fleet);
      this.#planned.keepOnly(new Set(runs));
      for (const run of runs) {
        const { requeued, sealed, isUnreached = false } = await this.#tendRun(run);
        if (isUnreached) unreached++;
        sums.runs++;
        sums.requeued += requeued;
        sums.sealed += sealed;
      }
      observe({ kind: "tended", ...sums });
    } catch (error) {
      log.warn({ err: error }, `the fleet's runs cannot be listed: ${messageOf(error)}`);
      unreached++;
    }
    return sums.requeued + unreached;
  }

  async #tendRun(run: string): Promise<Tended> {
    const { store, fleet, log } = this.#params;
    this.#troubles.delete(run);
    try {
      if (await isCancelled(store, run)) {
        await unmarkActive(store, { fleet, run });
        return NOTHING;
      }
      if ((await whyOpen(store, run)) !== null) return { requeued: await this.#queueLost(run), sealed: 0 };
      return await this.#sealAlone(run);
    } catch (error) {
      this.#troubles.set(run, error);
      log.error({ run, err: error }, `the run could not be tended: ${messageOf(error)}`);
      return { ...NOTHING, isUnreached: hasCode(error, "store_unavailable") };
    }
  }

  /** Everything is read back, which takes minutes of a large run, so that one does it while the others do not. */
  async #sealAlone(run: string): Promise<Tended> {
    const { store, queue, turn, fleet, keepStaging, log, observe = unobserved } = this.#params;
    const onShard = (files: number, plannedFiles: number): void =>
      observe({ kind: "read-back", run, files, plannedFiles });
    const held = await turn.hold({ name: `seal:${run}`, durationMs: SEAL_TURN_MS });
    if (held === null) return { ...NOTHING, isUnreached: true };
    try {
      const outcome = await sealRun({ store, run, keepStaging, onShard });
      // A file that was there a moment ago was taken away: the next round sees to it.
      if (outcome.kind === "open") return { ...NOTHING, isUnreached: true };
      if (outcome.isNew) log.info({ run, rows: outcome.manifest.totals.rows }, "the run is sealed");
      // What a damaged queue still holds of it would count as work to be done.
      for await (const jobs of this.#planned.of(run)) await queue.remove({ jobs });
      await unmarkActive(store, { fleet, run });
      return { requeued: 0, sealed: outcome.isNew ? 1 : 0 };
    } finally {
      await held.release();
    }
  }

  /** Failed jobs are still in the queue and stay there: only `resume`, asked for by someone, repeats them. */
  async #queueLost(run: string): Promise<number> {
    const { store, queue, log } = this.#params;
    const done = await listData(store, run);
    let queued = 0;
    for await (const jobs of this.#planned.of(run)) {
      const undone = jobs.filter(({ shard }) => !done.has(runKeys(run).data(shard)));
      const lost = await queue.unknown({ jobs: undone });
      await queue.enqueue({ jobs: lost });
      queued += lost.length;
    }
    if (queued > 0) log.warn({ run, jobs: queued }, "jobs were missing from the queue and are queued again");
    return queued;
  }
}
