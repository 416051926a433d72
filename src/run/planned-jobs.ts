/** The planned jobs of runs that are looked at again and again: a window never changes, so it is read once. */
import { type JobPayload, MAX_PLAN_BYTES, windowPlanSchema } from "../core/contracts.ts";
import { readRecord } from "../core/json.ts";
import { isPlanKey, runKeys } from "../core/layout.ts";
import { jobOf } from "../core/planning.ts";
import type { ObjectStore } from "../core/ports.ts";

/** Jobs of about 300 bytes each. What comes after them is read anew each time. */
const MAX_KEPT_JOBS = 100_000;

export class PlannedJobs {
  readonly #store: ObjectStore;
  /** By run, and by key of the window's plan. */
  readonly #runs = new Map<string, Map<string, readonly JobPayload[]>>();
  #kept = 0;

  constructor(store: ObjectStore) {
    this.#store = store;
  }

  /** Window by window, in order. */
  async *of(run: string): AsyncGenerator<readonly JobPayload[]> {
    const windows = this.#runs.get(run) ?? new Map<string, readonly JobPayload[]>();
    this.#runs.set(run, windows);
    for await (const { key } of this.#store.list({ prefix: runKeys(run).planPrefix })) {
      if (isPlanKey(key)) yield windows.get(key) ?? (await this.#read(run, key, windows));
    }
  }

  async #read(run: string, key: string, windows: Map<string, readonly JobPayload[]>): Promise<readonly JobPayload[]> {
    const { shards } = await readRecord(this.#store, key, windowPlanSchema, MAX_PLAN_BYTES);
    const jobs = shards.map((shard) => jobOf(run, shard));
    if (this.#kept + jobs.length <= MAX_KEPT_JOBS) {
      windows.set(key, jobs);
      this.#kept += jobs.length;
    }
    return jobs;
  }

  /** Forgets all other runs. */
  keepOnly(runs: ReadonlySet<string>): void {
    for (const [run, windows] of this.#runs) {
      if (runs.has(run)) continue;
      for (const jobs of windows.values()) this.#kept -= jobs.length;
      this.#runs.delete(run);
    }
  }
}
