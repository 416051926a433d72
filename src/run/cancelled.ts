/** Check for cancelled runs. */
import { FleetError } from "../core/errors.ts";
import { runKeys } from "../core/layout.ts";
import type { ObjectStore } from "../core/ports.ts";

export async function isCancelled(store: ObjectStore, run: string): Promise<boolean> {
  return (await store.stat({ key: runKeys(run).cancelled })) !== null;
}

/** @throws FleetError `run_cancelled` */
export async function assertNotCancelled(store: ObjectStore, run: string): Promise<void> {
  if (!(await isCancelled(store, run))) return;
  throw new FleetError("run_cancelled", `run ${run} was cancelled`, {
    cure: "its results are kept; to embed the corpus, enqueue it again with another --run id",
  });
}
