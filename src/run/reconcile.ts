/** Repairs the queue from the store: planned shards without a result are queued again. */
import type { JobPayload } from "../core/contracts.ts";
import { jobOf } from "../core/planning.ts";
import { FleetError } from "../core/errors.ts";
import { runKeys } from "../core/layout.ts";
import type { JobQueue, ObjectStore } from "../core/ports.ts";
import { markActive } from "./active-runs.ts";
import { assertNotCancelled } from "./cancelled.ts";
import { listData, readWindows } from "./read-plan.ts";

/** Number of shards by state. */
export interface Reconciled {
  readonly planned: number;
  readonly done: number;
  /** Shards that wait for a worker or have one, according to the queue afterwards. */
  readonly queued: number;
  /** Shards that are neither done nor in the queue although they were queued again; 0 unless the queue is broken. */
  readonly lost: number;
}

/**
 * Adds the jobs of shards without a result file, and checks that the queue holds them; those still queued or active are
 * left alone.
 * @throws FleetError `plan_invalid`, after the windows before the gap have been queued
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

/** Number of shards without a result file; a job that has left the queue may just have been done. */
async function countUndone(store: ObjectStore, jobs: readonly JobPayload[]): Promise<number> {
  let undone = 0;
  for (const { run, shard } of jobs) if ((await store.stat({ key: runKeys(run).data(shard) })) === null) undone++;
  return undone;
}

/**
 * Implements `resume`: the fleet works on the run again, and its failed jobs are retried.
 * @throws FleetError `run_cancelled`; `run_incomplete` when the queue does not hold the queued jobs
 */
export async function resumeRun(
  params: Readonly<{ store: ObjectStore; queue: JobQueue; fleet: string; run: string }>,
): Promise<Reconciled> {
  const { store, queue, fleet, run } = params;
  await assertNotCancelled(store, run);
  await markActive(store, { fleet, run });
  const outcome = await requeueMissing({ store, queue, run });
  if (outcome.lost === 0) return outcome;
  throw new FleetError(
    "run_incomplete",
    `${outcome.lost} jobs of run ${run} were queued again but are not in the queue`,
    {
      cure: `something deletes the keys of queue ${fleet} in Redis: stop it, then: embedfleet resume ${run}`,
    },
  );
}
