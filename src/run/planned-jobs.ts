/** Cache of the planned jobs of runs that are reconciled repeatedly: a window never changes, so it is read once. */
import type { ClosedRecord, JobPayload, ShardPlan } from "../core/contracts.ts";
import { jobOf } from "../core/planning.ts";
import type { ObjectStore } from "../core/ports.ts";
import { readWindow, readWindows } from "./read-plan.ts";

/** Most cached jobs, of about 300 bytes each. Later ones are read again each time. */
const MAX_KEPT_JOBS = 100_000;

interface KnownRun {
  /** The first windows, as many as fit. */
  readonly windows: (readonly JobPayload[])[];
  /** Whether all windows have been proved to match the closed plan. */
  isProved: boolean;
}

export class PlannedJobs {
  readonly #store: ObjectStore;
  readonly #runs = new Map<string, KnownRun>();
  #kept = 0;

  constructor(store: ObjectStore) {
    this.#store = store;
  }

  /**
   * The jobs of each window, in order. A closed plan is proved to be complete before its last job is yielded.
   * @param closed Null while the corpus is being read.
   * @throws FleetError `plan_invalid`
   */
  async *of(run: string, closed: ClosedRecord | null): AsyncGenerator<readonly JobPayload[]> {
    const known = this.#runs.get(run) ?? { windows: [], isProved: false };
    this.#runs.set(run, known);
    if (closed !== null && !known.isProved) {
      let index = 0;
      for await (const { shards } of readWindows(this.#store, run, closed))
        this.#keep(known, index++, jobsOf(run, shards));
      known.isProved = true;
    }
    const windows = closed?.windows ?? Number.POSITIVE_INFINITY;
    for (let index = 0; index < windows; index++) {
      const jobs = known.windows[index] ?? (await this.#read(run, index, known));
      if (jobs === null) return;
      yield jobs;
    }
  }

  async #read(run: string, index: number, known: KnownRun): Promise<readonly JobPayload[] | null> {
    const found = await readWindow(this.#store, run, index);
    if (found === null) return null;
    const jobs = jobsOf(run, found.plan.shards);
    this.#keep(known, index, jobs);
    return jobs;
  }

  #keep({ windows }: KnownRun, index: number, jobs: readonly JobPayload[]): void {
    if (windows.length !== index || this.#kept + jobs.length > MAX_KEPT_JOBS) return;
    windows.push(jobs);
    this.#kept += jobs.length;
  }

  /** Drops all other runs from the cache. */
  keepOnly(runs: ReadonlySet<string>): void {
    for (const [run, { windows }] of this.#runs) {
      if (runs.has(run)) continue;
      for (const jobs of windows) this.#kept -= jobs.length;
      this.#runs.delete(run);
    }
  }
}

function jobsOf(run: string, shards: readonly ShardPlan[]): JobPayload[] {
  return shards.map((shard) => jobOf(run, shard));
}
