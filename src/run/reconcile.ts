/** Heals the queue from the store: whatever is planned and not there is queued again. */
import { jobOf } from "../core/planning.ts";
import { runKeys } from "../core/layout.ts";
import type { JobQueue, ObjectStore } from "../core/ports.ts";
import { markActive } from "./active-runs.ts";
import { assertNotCancelled } from "./cancelled.ts";
import { listData, readWindows } from "./read-plan.ts";

/** Shards, by what was found of them. */
export interface Reconciled {
  readonly planned: number;
  readonly done: number;
  readonly queued: number;
}

/**
 * Adds the jobs of shards without a result file; those still queued or active are left alone.
 * @throws FleetError `plan_invalid`, after what is planned before the gap has been queued
 */
export async function requeueMissing(
  params: Readonly<{ store: ObjectStore; queue: JobQueue; run: string }>,
): Promise<Reconciled> {
  const { store, queue, run } = params;
  const done = await listData(store, run);
  let planned = 0;
  let queued = 0;
  for await (const window of readWindows(store, run)) {
    const missing = window.shards.filter(({ shard }) => !done.has(runKeys(run).data(shard)));
    await queue.requeue({ jobs: missing.map((shard) => jobOf(run, shard)) });
    planned += window.shards.length;
    queued += missing.length;
  }
  return { planned, done: planned - queued, queued };
}

/** What `resume` does: the fleet knows the run again, and its failed jobs get another chance. @throws FleetError `run_cancelled` */
export async function resumeRun(
  params: Readonly<{ store: ObjectStore; queue: JobQueue; fleet: string; run: string }>,
): Promise<Reconciled> {
  const { store, queue, fleet, run } = params;
  await assertNotCancelled(store, run);
  await markActive(store, { fleet, run });
  return requeueMissing({ store, queue, run });
}
