/** Heals the queue from the store: whatever is planned and not there is queued again. */
import type { JobPayload } from "../core/contracts.ts";
import { jobOf } from "../core/planning.ts";
import { FleetError } from "../core/errors.ts";
import { runKeys } from "../core/layout.ts";
import type { JobQueue, ObjectStore } from "../core/ports.ts";
import { markActive } from "./active-runs.ts";
import { assertNotCancelled } from "./cancelled.ts";
import { listData, readWindows } from "./read-plan.ts";

/** Shards, by what was found of them. */
export interface Reconciled {
  readonly planned: number;
  readonly done: number;
  /** Waiting for a worker, or with one: the queue was asked afterwards. */
  readonly queued: number;
  /** Neither done nor held by the queue although they were queued again; 0 where the queue works. */
  readonly lost: number;
}

/**
 * Adds the jobs of shards without a result file, and asks whether they are there; those still queued or active are left
 * alone.
 * @throws FleetError `plan_invalid`, after what is planned before the gap has been queued
 */
export async function requeueMissing(
  params: Readonly<{ store: ObjectStore; queue: JobQueue; run: string }>,
): Promise<Reconciled> {
  const { store, queue, run } = params;
  const done = await listData(store, run);
  let planned = 0;
  let queued = 0;
  let lost = 0;
  for await (const window of readWindows(store, run)) {
    const missing = window.shards.filter(({ shard }) => !done.has(runKeys(run).data(shard)));
    const jobs = missing.map((shard) => jobOf(run, shard));
    await queue.requeue({ jobs });
    const unknown = await queue.unknown({ jobs });
    const lostNow = await countUndone(store, unknown);
    planned += window.shards.length;
    queued += missing.length - unknown.length;
    lost += lostNow;
  }
  return { planned, done: planned - queued - lost, queued, lost };
}

/** What the queue does not know any more may just have been done. */
async function countUndone(store: ObjectStore, jobs: readonly JobPayload[]): Promise<number> {
  let undone = 0;
  for (const { run, shard } of jobs) if ((await store.stat({ key: runKeys(run).data(shard) })) === null) undone++;
  return undone;
}

/**
 * What `resume` does: the fleet knows the run again, and its failed jobs get another chance.
 * @throws FleetError `run_cancelled`; `run_incomplete` when the queue does not hold what was queued
 */
export async function resumeRun(
  params: Readonly<{ store: ObjectStore; queue: JobQueue; fleet: string; run: string }>,
): Promise<Reconciled> {
  const { store, queue, fleet, run } = params;
  await assertNotCancelled(store, run);
  await markActive(store, { fleet, run });
  const outcome = await requeueMissing({ store, queue, run });
  if (outcome.lost === 0) return outcome;
  throw new FleetError("run_incomplete", `${outcome.lost} jobs of run ${run} were queued again and are not there`, {
    cure: `something removes the keys of queue ${fleet} in Redis: end it, then: embedfleet resume ${run}`,
  });
}
