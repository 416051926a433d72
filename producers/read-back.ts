/** Checks that the objects a producer wrote are in the store: some stores acknowledge a write and lose it. */
import { type ClosedRecord, type DeletesFile, MAX_PLAN_BYTES, type WindowPlan } from "../src/core/contracts.ts";
import { toJsonBytes } from "../src/core/json.ts";
import { runKeys, windowId } from "../src/core/layout.ts";
import { PlanProof } from "../src/core/plan-proof.ts";
import type { ObjectStore } from "../src/core/ports.ts";
import { notStored } from "../src/run/create-same.ts";
import { readWindow } from "../src/run/read-plan.ts";
import type { CutWindow } from "./window.ts";

/** Objects that a window's plan refers to, each with its key. */
export function objectsOf({ plan, staged, index, rejectLines }: CutWindow): [key: string, body: Uint8Array][] {
  const keys = runKeys(plan.run);
  return [
    [keys.staged(plan.window), staged],
    [keys.documentIndex(plan.window), index],
    ...(rejectLines === null ? [] : [[keys.windowRejects(plan.window), rejectLines] as [string, Uint8Array]]),
  ];
}

/**
 * Keys of the objects that a window's plan refers to and that the store lacks or has in another size.
 * @param params.needsStaged True if the staged rows must exist; those of a sealed run are deleted and not missing.
 */
export async function findLost(
  store: ObjectStore,
  params: Readonly<{ plan: WindowPlan; needsStaged: boolean }>,
): Promise<string[]> {
  const { plan, needsStaged } = params;
  const keys = runKeys(plan.run);
  const isLost = async (key: string, bytes?: number): Promise<boolean> => {
    const found = await store.stat({ key });
    return found === null || (bytes !== undefined && found.bytes !== bytes);
  };
  const lost: string[] = [];
  const index = keys.documentIndex(plan.window);
  if (plan.indexSha256 !== undefined && (await isLost(index))) lost.push(index);
  const rejects = keys.windowRejects(plan.window);
  if (plan.rejects > 0 && (await isLost(rejects))) lost.push(rejects);
  const staged = keys.staged(plan.window);
  if (needsStaged && (await isLost(staged, plan.stagedBytes)) && (await isLost(keys.manifest))) lost.push(staged);
  return lost;
}

/**
 * Reads every window's plan back by name, and checks the objects of those that were just written.
 * @param params.from The first window that was just written.
 * @throws FleetError `store_unavailable` when an object is missing: the same command writes it again
 */
export async function proveWritten(
  store: ObjectStore,
  params: Readonly<{ run: string; proof: PlanProof; from: number; deletes: readonly DeletesFile[] | undefined }>,
): Promise<void> {
  const { run, proof, from, deletes = [] } = params;
  const found = new PlanProof();
  for (let index = 0; index < proof.totals.windows; index++) {
    const stored = await readWindow(store, run, index);
    if (stored === null) throw notStored(store, runKeys(run).plan(windowId(index)));
    found.add(stored.plan, stored.bytes);
    const [lost] = index < from ? [] : await findLost(store, { plan: stored.plan, needsStaged: true });
    if (lost !== undefined) throw notStored(store, lost);
  }
  if (found.plansSha256 !== proof.plansSha256) throw notStored(store, runKeys(run).planPrefix);
  for (const { key } of deletes) if ((await store.stat({ key })) === null) throw notStored(store, key);
}

/** Reads the closed record back. @throws FleetError `store_unavailable` */
export async function proveClosed(store: ObjectStore, closed: ClosedRecord): Promise<void> {
  const key = runKeys(closed.run).closed;
  const isThere = (await store.stat({ key })) !== null;
  const bytes = isThere ? await store.read({ key, maxBytes: MAX_PLAN_BYTES }) : null;
  if (bytes === null || Buffer.compare(bytes, toJsonBytes(closed)) !== 0) throw notStored(store, key);
}
