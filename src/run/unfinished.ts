/** What prevents the seal of a fleet's runs, for a process that ends and must not report success. */
import { FleetError, messageOf } from "../core/errors.ts";
import { COUNTED_FAILURES, sayFailures } from "../core/failures.ts";
import { removedKey, runKeys, RUNS_PREFIX } from "../core/layout.ts";
import type { JobFailures, JobQueue, ObjectStore } from "../core/ports.ts";
import { listActive } from "./active-runs.ts";
import { findHold, heldFault } from "./hold.ts";
import { readClosed, readRun } from "./read-plan.ts";
import { whyOpen } from "./seal.ts";
import type { Reconciler } from "./reconciler.ts";

export interface UnfinishedParams {
  readonly store: ObjectStore;
  readonly fleet: string;
  /** Further runs to check, besides those that the store lists as active in the fleet. */
  readonly seen: ReadonlySet<string>;
  readonly queue: Pick<JobQueue, "counts"> & JobFailures;
  readonly reconciler: Pick<Reconciler, "reconcile" | "troubleOf">;
}

/**
 * Whether a worker without work may end, while no corpus is being read.
 * @returns False while there may be more to do, for it or for others.
 * @throws FleetError `run_incomplete` when there is not and a run is not sealed; it names each, what it lacks, and the next
 * step; `run_unknown` when the store has no run at all
 */
export async function mayEnd(params: UnfinishedParams): Promise<boolean> {
  const { waiting, active } = await params.queue.counts();
  // Jobs in a damaged queue may have been done long ago.
  if (waiting + active > 0) return (await openRuns(params)).length === 0;
  // An empty queue may also be a wiped one: the store is authoritative.
  if ((await params.reconciler.reconcile()) > 0) return false;
  const lacks = await Promise.all((await openRuns(params)).map((run) => lackOf(run, params)));
  if (lacks.length === 0) return assertHasRuns(params);
  const message = lacks.map(({ run, why }) => `run ${run} is not sealed: ${why}`).join("\n");
  throw new FleetError("run_incomplete", message, { cure: lacks.map(({ cure }) => cure).join("\n") });
}

/** Refuses to report success for a store in which nothing was ever planned: it is probably not the one that was meant. */
async function assertHasRuns({ store, seen }: UnfinishedParams): Promise<true> {
  if (seen.size > 0) return true;
  for await (const _ of store.list({ prefix: RUNS_PREFIX })) return true;
  throw new FleetError("run_unknown", `there is no run in ${store.url}`, {
    cure: "check --out: a worker gets the jobs of its own store only; otherwise enqueue a corpus first",
  });
}

/** The active runs of the fleet and those seen that are neither sealed nor cancelled nor removed. */
async function openRuns({ store, fleet, seen }: UnfinishedParams): Promise<string[]> {
  const open: string[] = [];
  for (const run of new Set([...(await listActive(store, fleet)), ...seen]))
    if (!(await isOver(store, run))) open.push(run);
  return open;
}

async function isOver(store: ObjectStore, run: string): Promise<boolean> {
  const { manifest, cancelled } = runKeys(run);
  const found = await Promise.all([manifest, cancelled, removedKey(run)].map((key) => store.stat({ key })));
  return found.some((each) => each !== null);
}

interface Lack {
  readonly run: string;
  readonly why: string;
  readonly cure: string;
}

async function lackOf(run: string, { store, queue, reconciler }: UnfinishedParams): Promise<Lack> {
  const trouble = reconciler.troubleOf(run);
  const resume = `embedfleet resume ${run} --out ${store.url}`;
  if (trouble !== undefined) {
    const cure = trouble instanceof FleetError ? trouble.cure : undefined;
    return { run, why: messageOf(trouble), cure: cure ?? `fix the cause, then: ${resume}` };
  }
  const why = (await whyOpen(store, run)) ?? "its files exist, but it has not been sealed";
  const closed = await readClosed(store, run);
  if (closed === null)
    return { run, why, cure: `repeat the enqueue command with --run ${run}, then start workers again` };
  const hold = await findHold(store, { record: await readRun(store, run), closed });
  if (hold !== null) {
    const { message, cure = "" } = await heldFault(store, { hold, closed });
    return { run, why: message, cure };
  }
  const failed = await queue.failures({ run, limit: COUNTED_FAILURES });
  if (failed.length === 0) return { run, why, cure: `${resume}, then start workers again` };
  const cure = `fix the cause, then: ${resume}, and start workers again`;
  return { run, why: `${why}; failed: ${sayFailures(failed)}`, cure };
}
