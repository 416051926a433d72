/** Cancelling: the run stays as it is, permanently. Its marker is in the store, so it outlives the queue. */
import { type CancelledRecord, cancelledRecordSchema, CONTRACT_VERSION } from "../core/contracts.ts";
import { FleetError } from "../core/errors.ts";
import { toJsonBytes } from "../core/json.ts";
import { runKeys } from "../core/layout.ts";
import { jobOf } from "../core/planning.ts";
import type { JobQueue, ObjectStore } from "../core/ports.ts";
import { unmarkActive } from "./active-runs.ts";
import { readRun, readWindows } from "./read-plan.ts";
import { readManifest } from "./seal.ts";

export interface Cancelled {
  /** False when it was already cancelled. */
  readonly isNew: boolean;
  /** Number of jobs removed from the queue; active ones end by themselves. */
  readonly removed: number;
}

/**
 * Marks the run, then removes its jobs from the queue. Can be repeated, which also removes jobs that a producer queued
 * meanwhile.
 * @throws FleetError `run_unknown`; `run_conflict` when the run is sealed.
 */
export async function cancelRun(
  params: Readonly<{ store: ObjectStore; queue: JobQueue; fleet: string; run: string }>,
): Promise<Cancelled> {
  const { store, queue, fleet, run } = params;
  await readRun(store, run);
  if ((await readManifest(store, run)) !== null) {
    throw new FleetError("run_conflict", `run ${run} is sealed: there is nothing left to cancel`);
  }
  const record: CancelledRecord = cancelledRecordSchema.parse({
    version: CONTRACT_VERSION,
    run,
    cancelledAt: new Date().toISOString(),
  });
  const isNew = (await store.create({ key: runKeys(run).cancelled, body: toJsonBytes(record) })) === "created";
  let removed = 0;
  // As far as the plan exists: a run can be cancelled before it is fully planned.
  for await (const { shards } of readWindows(store, run, null)) {
    removed += await queue.remove({ jobs: shards.map((shard) => jobOf(run, shard)) });
  }
  await unmarkActive(store, { fleet, run });
  return { isNew, removed };
}
