/**
 * Keeps a fleet's runs moving unattended. Jobs that the queue has lost (a wiped or restored Redis) are queued again from
 * the plan, and a complete run is sealed.
 */
import type { Logger } from "pino";
import type { ClosedRecord, JobPayload } from "../core/contracts.ts";
import { isPassing, messageOf } from "../core/errors.ts";
import { removedKey, runKeys } from "../core/layout.ts";
import { type Hold, sayHold } from "../core/guards.ts";
import { jobOf } from "../core/planning.ts";
import type { JobQueue, ObjectInfo, ObjectStore, Turn } from "../core/ports.ts";
import { type Observe, unobserved } from "../core/telemetry.ts";
import { listActive, unmarkActive } from "./active-runs.ts";
import { isCancelled } from "./cancelled.ts";
import { mapConcurrent } from "./map-concurrent.ts";
import { PlannedJobs } from "./planned-jobs.ts";
import { listData, readClosed } from "./read-plan.ts";
import { readManifest, type SealOutcome, sealRun } from "./seal.ts";

/** Lock duration of a seal; when a sealer dies, another seals the run after this time. */
const SEAL_TURN_MS = 30_000;
const STATS_IN_FLIGHT = 16;

export interface ReconcilerParams {
  readonly store: ObjectStore;
  readonly queue: JobQueue;
  readonly turn: Turn;
  readonly fleet: string;
  readonly keepStaging: boolean;
  /** Milliseconds between rounds; jobs lost with the queue come back within about this time and one pull. */
  readonly intervalMs: number;
  readonly log: Logger;
  /** Consumer of an event per round; none by default. */
  readonly observe?: Observe;
}

/** Outcome of one round for one run. */
interface Tended {
  readonly requeued: number;
  readonly sealed: number;
  /** Whether another round may succeed where this one could not. */
  readonly isUnreached?: boolean;
}

const NOTHING: Tended = { requeued: 0, sealed: 0 };

/** Reconciler of one worker; workers take turns, and any number of them may reconcile at once. */
export class Reconciler {
  readonly #params: ReconcilerParams;
  readonly #planned: PlannedJobs;
  readonly #active = new Set<string>();
  readonly #troubles = new Map<string, unknown>();
  readonly #held = new Set<string>();
  #timer: NodeJS.Timeout | null = null;
  #isClosed = false;
  #current: Promise<number> = Promise.resolve(0);

  constructor(params: ReconcilerParams) {
    this.#params = params;
    this.#planned = new PlannedJobs(params.store);
  }

  /** Reconciles now and at every interval, if it holds the turn. */
  start(): void {
    const { turn, intervalMs, log } = this.#params;
    // A little less than the interval; otherwise a worker would find its own last turn still held.
    const durationMs = Math.round(intervalMs * 0.9);
    const round = (): void => {
      turn
        .take({ durationMs })
        .then((isMine) => (isMine ? this.reconcile() : 0))
        .catch((error: unknown) => {
          if (!this.#isClosed) log.warn({ err: error }, "the queue did not answer whose turn it is to reconcile");
        });
    };
    this.#timer ??= setInterval(round, intervalMs);
    round();
  }

  /** Stops. A round in progress may end early, which is no fault: all its actions can be repeated. */
  async close(): Promise<void> {
    this.#isClosed = true;
    if (this.#timer !== null) clearInterval(this.#timer);
  }

  /**
   * Reconciles every active run once. Never throws: failures are logged and retried in the next round.
   * @returns Number of things left to do: jobs that were queued again, runs that could not be reconciled because of the store
   * or the queue, and runs that another process is sealing, which may die.
   */
  reconcile(): Promise<number> {
    this.#current = this.#current.then(() => this.#tendAll());
    return this.#current;
  }

  /** Error of the last attempt to reconcile the run; undefined when it succeeded. */
  troubleOf(run: string): unknown {
    return this.#troubles.get(run);
  }

  async #tendAll(): Promise<number> {
    const { log, observe = unobserved } = this.#params;
    const sums = { runs: 0, requeued: 0, sealed: 0 };
    let unreached = 0;
    try {
      const runs = await this.#activeRuns();
      this.#planned.keepOnly(runs);
      for (const run of runs) {
        const { requeued, sealed, isUnreached = false } = await this.#tendRun(run);
        if (isUnreached) unreached++;
        sums.runs++;
        sums.requeued += requeued;
        sums.sealed += sealed;
      }
      observe({ kind: "reconciled", ...sums });
    } catch (error) {
      log[this.#isClosed ? "debug" : "warn"]({ err: error }, `the fleet's runs cannot be listed: ${messageOf(error)}`);
      unreached++;
    }
    return sums.requeued + unreached;
  }

  /** Runs to reconcile: a run that was once active is included until it has ended, whatever a listing leaves out. */
  async #activeRuns(): Promise<Set<string>> {
    const { store, fleet } = this.#params;
    const listed = await listActive(store, fleet);
    for (const run of this.#active) if (!listed.includes(run) && (await hasEnded(store, run))) this.#active.delete(run);
    for (const run of listed) this.#active.add(run);
    return new Set(this.#active);
  }

  async #tendRun(run: string): Promise<Tended> {
    const { store, fleet, log } = this.#params;
    const before = this.#troubles.get(run);
    this.#troubles.delete(run);
    try {
      if (await isGivenUp(store, run)) {
        await unmarkActive(store, { fleet, run });
        return NOTHING;
      }
      // Marked and sealed: its sealer died before it was done, or has just ended.
      if ((await readManifest(store, run)) !== null) return await this.#sealAlone(run);
      const closed = await readClosed(store, run);
      const { requeued, undone } = await this.#queueLost(run, closed);
      return closed === null || undone > 0 ? { requeued, sealed: 0 } : await this.#sealAlone(run);
    } catch (error) {
      this.#troubles.set(run, error);
      // A persistent problem would fill the log, round after round.
      const level = this.#isClosed || messageOf(before) === messageOf(error) ? "debug" : "error";
      log[level]({ run, err: error }, `the run could not be reconciled: ${messageOf(error)}`);
      return { ...NOTHING, isUnreached: isPassing(error) };
    }
  }

  /** Seals under a lock: the seal reads everything back, which takes minutes for a large run. */
  async #sealAlone(run: string): Promise<Tended> {
    const { store, queue, turn, fleet, keepStaging, log, observe = unobserved } = this.#params;
    const onShard = (files: number, plannedFiles: number): void =>
      observe({ kind: "read-back", run, files, plannedFiles });
    const held = await turn.hold({ name: `seal:${run}`, durationMs: SEAL_TURN_MS });
    if (held === null) return { ...NOTHING, isUnreached: true };
    try {
      const outcome = await sealRun({ store, run, keepStaging, onShard });
      if (outcome.kind === "held") return this.#sayHeld(run, outcome.hold);
      if (outcome.kind === "open") return { ...(await this.#queueAbsent(run, outcome)), isUnreached: true };
      if (outcome.isNew) log.info({ run, rows: outcome.manifest.totals.rows }, "the run is sealed");
      // Remaining jobs of the run in a damaged queue would count as work to be done.
      for await (const jobs of this.#planned.of(run, null)) await queue.remove({ jobs });
      await unmarkActive(store, { fleet, run });
      return { requeued: 0, sealed: outcome.isNew ? 1 : 0 };
    } finally {
      await held.release();
    }
  }

  /** Logs a hold once: it lasts until a person acts. */
  #sayHeld(run: string, hold: Hold): Tended {
    if (!this.#held.has(run))
      this.#params.log.warn({ run, ...hold }, `the run is held and not sealed: ${sayHold(hold)}`);
    this.#held.add(run);
    return NOTHING;
  }

  /** Queues shards whose files are in the listing but do not exist. */
  async #queueAbsent(run: string, { absent, reason }: SealOutcome & { kind: "open" }): Promise<Tended> {
    const { queue, log } = this.#params;
    const lost = await queue.unknown({ jobs: absent.map((shard) => jobOf(run, shard)) });
    await queue.enqueue({ jobs: lost });
    log.warn({ run, jobs: lost.length }, `the run cannot be sealed: ${reason}`);
    return { requeued: lost.length, sealed: 0 };
  }

  /**
   * Queues the jobs that the queue has lost. Failed jobs are still in the queue and stay there: only `resume` retries them.
   * @returns Number of queued jobs, and number of shards without a result file.
   */
  async #queueLost(run: string, closed: ClosedRecord | null): Promise<{ requeued: number; undone: number }> {
    const { store, queue, log } = this.#params;
    const listed = await listData(store, run);
    let requeued = 0;
    let undone = 0;
    for await (const jobs of this.#planned.of(run, closed)) {
      const unlisted = jobs.filter(({ shard }) => !listed.has(runKeys(run).data(shard)));
      const unknown = await queue.unknown({ jobs: unlisted });
      // A shard that is neither in the listing nor in the queue may be done anyway: the store is asked by name.
      const lost = await without(unknown, ({ shard }) => store.stat({ key: runKeys(run).data(shard) }));
      await queue.enqueue({ jobs: lost });
      requeued += lost.length;
      undone += unlisted.length - (unknown.length - lost.length);
    }
    if (requeued > 0) log.warn({ run, jobs: requeued }, "jobs were missing from the queue and were queued again");
    return { requeued, undone };
  }
}

/** Whether the run was cancelled or removed; each has its own marker object. */
async function isGivenUp(store: ObjectStore, run: string): Promise<boolean> {
  return (await isCancelled(store, run)) || (await store.stat({ key: removedKey(run) })) !== null;
}

async function hasEnded(store: ObjectStore, run: string): Promise<boolean> {
  return (await store.stat({ key: runKeys(run).manifest })) !== null || isGivenUp(store, run);
}

/** The entries for which no object exists. */
async function without(
  jobs: readonly JobPayload[],
  find: (job: JobPayload) => Promise<ObjectInfo | null>,
): Promise<JobPayload[]> {
  async function* all(): AsyncGenerator<JobPayload> {
    yield* jobs;
  }
  const rest: JobPayload[] = [];
  for await (const { job, found } of mapConcurrent(all(), STATS_IN_FLIGHT, async (job) => ({
    job,
    found: await find(job),
  })))
    if (found === null) rest.push(job);
  return rest;
}
