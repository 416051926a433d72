/** Takes a snapshot of the whole fleet repeatedly, and sends it to subscribers. */
import type { Logger } from "pino";
import { runIdSchema } from "../core/contracts.ts";
import { FleetError, hasCode, isPassing, messageOf } from "../core/errors.ts";
import { COUNTED_FAILURES } from "../core/failures.ts";
import { FLEETS_PREFIX } from "../core/layout.ts";
import type { JobFailure, ObjectStore } from "../core/ports.ts";
import type { ModelQueue, StoreQueues } from "../core/queue-server.ts";
import type { Schedules } from "../core/schedule-view.ts";
import { nowMs } from "../core/telemetry.ts";
import { listRuns } from "../run/list-runs.ts";
import { forecastOf } from "../run/run-forecast.ts";
import { reportOf } from "../run/run-progress.ts";
import { type RunSnapshot, RunWatch } from "../run/run-watch.ts";
import type { FleetQueue } from "./fleet-queue.ts";
import type { DamagedRun, FleetSnapshot, QueueView, RunView, Sample, WorkerView } from "./snapshot.ts";

/**
 * Maximum share of the time spent on finding inactive runs, which lists every object of every run;
 * the fleet's own are found by their markers much earlier.
 */
const LIST_SHARE = 0.01;
const LIST_INTERVAL_MS = 30_000;
/** Maximum share of the time spent on taking snapshots, however large the runs are. */
const LOOK_SHARE = 0.2;
/** Timeout of an answer from Redis, whose client queues requests while the connection is down. */
const ANSWER_TIMEOUT_MS = 5000;
/** Minimum age of an inactive run's snapshot before it is taken again; such runs change only by user action. */
const LOOK_AGAIN_MS = 60_000;
const SHOWN_RUNS = 200;
const SAMPLES = 600;

export interface FleetWatchParams {
  readonly store: ObjectStore;
  readonly fleet: string;
  readonly version: string;
  readonly queues: Pick<StoreQueues, "namePrefix" | "ofModel">;
  /** Opens the queue of a model's runs; called once per queue. */
  readonly openQueue: (queue: ModelQueue) => FleetQueue;
  readonly schedules: Schedules | null;
  readonly intervalMs: number;
  readonly log: Logger;
}

/** The data read from one queue. */
interface Attended {
  readonly view: Omit<QueueView, "tokens">;
  readonly workers: readonly WorkerView[];
  readonly planningWaits: ReadonlyMap<string, string>;
}

export class FleetWatch {
  readonly #params: FleetWatchParams;
  readonly #queues = new Map<string, FleetQueue>();
  readonly #runs = new Map<string, RunWatch>();
  readonly #resting = new Map<string, { readonly view: RunView; readonly atMs: number }>();
  /** Problems of runs that cannot be read, and when they were seen. */
  readonly #damaged = new Map<string, { readonly problem: string; readonly atMs: number }>();
  readonly #listeners = new Set<(snapshot: FleetSnapshot) => void>();
  readonly #samples: Sample[] = [];
  #listAgainAtMs = -Infinity;
  #lastMs = nowMs();
  #snapshot: FleetSnapshot | null = null;
  #timer: NodeJS.Timeout | null = null;
  #current: Promise<void> = Promise.resolve();
  #isClosed = false;

  constructor(params: FleetWatchParams) {
    this.#params = params;
  }

  /** The latest snapshot; null before the first. */
  get snapshot(): FleetSnapshot | null {
    return this.#snapshot;
  }

  get samples(): readonly Sample[] {
    return this.#samples;
  }

  /** Milliseconds since the last complete snapshot. */
  get blindMs(): number {
    return nowMs() - this.#lastMs;
  }

  /** @returns A function that ends the subscription. */
  subscribe(listener: (snapshot: FleetSnapshot) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Takes one snapshot, then continues by itself. */
  async start(): Promise<void> {
    await this.look();
    this.#schedule(this.#params.intervalMs);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    await this.#current;
    for (const queue of this.#queues.values()) await queue.close();
  }

  /** Takes a snapshot now. Concurrent calls are queued, so each sees the changes made before it. */
  look(): Promise<void> {
    this.#current = this.#current.then(() => (this.#isClosed ? undefined : this.#look()));
    return this.#current;
  }

  /** The queue of a run's jobs. @throws FleetError `run_unknown` */
  async queueOf(run: string): Promise<FleetQueue> {
    const { record } = await new RunWatch({ store: this.#params.store, run }).look();
    return this.#queue(record.options.model.id);
  }

  /** Reads the run again at the next snapshot, after a change to state that never changes by itself. */
  renew(run: string): void {
    this.#runs.set(run, new RunWatch({ store: this.#params.store, run }));
    this.#resting.delete(run);
    this.#damaged.delete(run);
  }

  #schedule(delayMs: number): void {
    if (this.#isClosed) return;
    this.#timer = setTimeout(() => {
      const startedMs = nowMs();
      void this.look().then(() => {
        const tookMs = nowMs() - startedMs;
        this.#schedule(Math.max(this.#params.intervalMs, tookMs * (1 / LOOK_SHARE - 1)));
      });
    }, delayMs);
  }

  async #look(): Promise<void> {
    const { fleet, store, version, schedules, log } = this.#params;
    const problems: string[] = [];
    const active = await this.#tryTo(problems, () => this.#findRuns(), new Map<string, string>());
    const attended = new Map<string, Attended>();
    for (const queue of this.#queues.values()) {
      const seen = await this.#tryTo(problems, () => within(this.#attend(queue), `queue ${queue.name}`), null);
      if (seen !== null) attended.set(queue.name, seen);
    }
    const runs: RunView[] = [];
    for (const run of this.#runs.keys()) {
      const view = await this.#tryTo(problems, () => this.#view(run, active.get(run), attended), null);
      if (view !== null) runs.push(view);
    }
    const planned = schedules === null ? [] : await this.#tryTo(problems, () => schedules.list(), []);
    if (problems.length === 0) this.#lastMs = nowMs();
    else log.warn({ problems }, "parts of the fleet could not be read");
    const workers = [...attended.values()].flatMap((seen) => seen.workers);
    this.#publish({
      at: new Date().toISOString(),
      fleet,
      store: store.url,
      version,
      runs: runs.sort(byActivity).slice(0, SHOWN_RUNS),
      damaged: [...this.#damaged].map(([run, { problem }]): DamagedRun => ({ run, problem })).slice(0, SHOWN_RUNS),
      workers,
      queues: [...attended.values()].map(({ view }) => ({ ...view, tokens: tokensOf(view.name, runs) })),
      schedules: planned,
      problems,
    });
  }

  #publish(snapshot: FleetSnapshot): void {
    this.#snapshot = snapshot;
    const rates = snapshot.workers.map(({ name, tokensPerSecond }) => [name, tokensPerSecond] as const);
    this.#samples.push({ at: snapshot.at, tokensPerSecond: Object.fromEntries(rates) });
    if (this.#samples.length > SAMPLES) this.#samples.shift();
    for (const listener of this.#listeners) listener(snapshot);
  }

  async #tryTo<T>(problems: string[], act: () => Promise<T>, otherwise: T): Promise<T> {
    try {
      return await act();
    } catch (error) {
      problems.push(messageOf(error));
      return otherwise;
    }
  }

  /** @returns The queue in which each active run is marked. */
  async #findRuns(): Promise<Map<string, string>> {
    const { store, queues } = this.#params;
    const startedMs = nowMs();
    if (startedMs >= this.#listAgainAtMs) {
      for (const run of await listRuns(store)) this.#watch(run);
      this.#listAgainAtMs = nowMs() + Math.max(LIST_INTERVAL_MS, (nowMs() - startedMs) / LIST_SHARE);
    }
    const active = new Map<string, string>();
    for await (const { key } of store.list({ prefix: FLEETS_PREFIX + queues.namePrefix })) {
      const [, queue = "", run = ""] = key.split("/");
      if (!runIdSchema.safeParse(run).success) continue;
      active.set(run, queue);
      const snapshot = await this.#lookAt(run);
      // A fleet's name may be a prefix of another's, so the model decides whether the marker is this fleet's.
      const model = snapshot?.record.options.model.id;
      if (model === undefined || queues.ofModel(model).name !== queue) continue;
      try {
        this.#queue(model);
      } catch (error) {
        this.#damage(run, error);
      }
    }
    return active;
  }

  /**
   * Snapshot of a run. Null when it was deleted, which ends the watch, or is damaged: one run's problem must not
   * hide the others. @throws FleetError when the store cannot be read
   */
  async #lookAt(run: string): Promise<RunSnapshot | null> {
    const damaged = this.#damaged.get(run);
    if (damaged !== undefined && nowMs() - damaged.atMs < LOOK_AGAIN_MS) return null;
    try {
      const snapshot = await this.#watch(run).look();
      if (snapshot.record.run !== run)
        throw new FleetError("object_corrupt", `the record of run ${run} names another run, ${snapshot.record.run}`);
      this.#damaged.delete(run);
      return snapshot;
    } catch (error) {
      if (isPassing(error)) throw error;
      if (hasCode(error, "run_unknown")) {
        this.#runs.delete(run);
        this.#damaged.delete(run);
      } else this.#damage(run, error);
      return null;
    }
  }

  #damage(run: string, error: unknown): void {
    const problem = messageOf(error);
    if (this.#damaged.get(run)?.problem !== problem) this.#params.log.error({ run, err: error }, "the run is damaged");
    // Missing objects may mean that the run is being deleted, which removes its record last.
    this.#damaged.set(run, { problem, atMs: hasCode(error, "object_missing") ? -Infinity : nowMs() });
  }

  #watch(run: string): RunWatch {
    const watch = this.#runs.get(run) ?? new RunWatch({ store: this.#params.store, run });
    this.#runs.set(run, watch);
    return watch;
  }

  #queue(model: string): FleetQueue {
    const ofModel = this.#params.queues.ofModel(model);
    let queue = this.#queues.get(ofModel.name);
    if (queue === undefined) {
      queue = this.#params.openQueue(ofModel);
      queue.reconciler.start();
      this.#queues.set(ofModel.name, queue);
    }
    return queue;
  }

  async #attend(queue: FleetQueue): Promise<Attended> {
    const [counts, workers, producers, planningWaits] = await Promise.all([
      queue.jobs.counts(),
      queue.workers(),
      queue.producers(),
      queue.planningWaits(),
    ]);
    return {
      view: { name: queue.name, counts, workers: workers.length, producers },
      workers: workers.map((worker) => ({ ...worker, queue: queue.name })),
      planningWaits,
    };
  }

  async #view(
    run: string,
    markedBy: string | undefined,
    attended: ReadonlyMap<string, Attended>,
  ): Promise<RunView | null> {
    const resting = this.#resting.get(run);
    if (markedBy === undefined && resting !== undefined && nowMs() - resting.atMs < LOOK_AGAIN_MS) return resting.view;
    const snapshot = await this.#lookAt(run);
    if (snapshot === null) return null;
    const view = await this.#viewOf(snapshot, markedBy, attended);
    if (view.isActive) this.#resting.delete(run);
    else this.#resting.set(run, { view, atMs: nowMs() });
    return view;
  }

  async #viewOf(
    snapshot: RunSnapshot,
    markedBy: string | undefined,
    attended: ReadonlyMap<string, Attended>,
  ): Promise<RunView> {
    const { record } = snapshot;
    const { name } = this.#params.queues.ofModel(record.options.model.id);
    const seen = markedBy === name ? attended.get(name) : undefined;
    const report = reportOf(snapshot, seen?.view.counts ?? null);
    const isActive = markedBy === name && report.state !== "sealed" && report.state !== "cancelled";
    const failures = isActive && (report.queue?.failed ?? 0) > 0 ? await this.#failures(snapshot) : [];
    const presence = {
      workers: seen?.workers ?? null,
      producers: seen?.view.producers ?? null,
      planningWaits: seen?.planningWaits ?? new Map<string, string>(),
      failedJobs: failures.length,
      failures,
      storeUrl: this.#params.store.url,
    };
    return {
      ...report,
      ...forecastOf(report, presence),
      createdAt: record.createdAt,
      inputs: record.inputs,
      model: record.options.model.id,
      heads: record.options.heads,
      queueName: name,
      isActive,
      rowsByLength: isActive ? snapshot.rowsByLength : [],
    };
  }

  #failures({ record }: RunSnapshot): Promise<JobFailure[]> {
    const { name, jobs } = this.#queue(record.options.model.id);
    return within(jobs.failures({ run: record.run, limit: COUNTED_FAILURES }), `queue ${name}`);
  }
}

function byActivity(a: RunView, b: RunView): number {
  if (a.isActive !== b.isActive) return a.isActive ? -1 : 1;
  const [failuresOfA, failuresOfB] = [a, b].map(({ failures }) => failures.length > 0);
  if (failuresOfA !== failuresOfB) return failuresOfA ? -1 : 1;
  return a.createdAt < b.createdAt ? 1 : -1;
}

function tokensOf(queue: string, runs: readonly RunView[]): number {
  return runs.reduce((sum, run) => sum + (run.isActive && run.queueName === queue ? run.remainingTokens : 0), 0);
}

async function within<T>(answer: Promise<T>, who: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const error = new FleetError("redis_unavailable", `${who} did not answer within ${ANSWER_TIMEOUT_MS / 1000} s`);
    timer = setTimeout(() => reject(error), ANSWER_TIMEOUT_MS);
  });
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}
