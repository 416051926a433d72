/** Garbage collection: finds and removes runs that are no longer needed. */
import { isDeepStrictEqual } from "node:util";
import { latestSchema, type RunRecord, runIdSchema } from "../core/contracts.ts";
import { hasCode } from "../core/errors.ts";
import { findRecord } from "../core/json.ts";
import { FLEETS_PREFIX, LATEST_KEY, removedKey, RUNS_PREFIX, runKeys } from "../core/layout.ts";
import type { ObjectStore } from "../core/ports.ts";
import { mapConcurrent } from "./map-concurrent.ts";
import { readRun } from "./read-plan.ts";

const REMOVALS_IN_FLIGHT = 16;

export interface Garbage {
  readonly run: string;
  /**
   * - `superseded`: a sealed run replaced it, and no remaining run builds on it.
   * - `abandoned`: not sealed, no fleet works on it, and nothing was written to it for longer than the limit.
   * - `cancelled`: a person cancelled it.
   * - `half-removed`: an earlier removal was interrupted.
   */
  readonly why: "superseded" | "abandoned" | "cancelled" | "half-removed";
  readonly objects: number;
  readonly bytes: number;
}

interface Found {
  /** Null when its `run.json` is gone or damaged. */
  readonly record: RunRecord | null;
  readonly isSealed: boolean;
  readonly isCancelled: boolean;
  readonly isRemoved: boolean;
  /** Whether a fleet works on it, or will once it has workers again. */
  readonly isActive: boolean;
  readonly objects: number;
  readonly bytes: number;
  /** Time of the newest write to one of its objects, in milliseconds since the epoch, by the store's clock. */
  readonly writtenAtMs: number;
}

/**
 * Runs that may be removed, each before the run it builds on. Never the latest run, a base of a remaining run, an active
 * run, or a sealed run that nothing replaced.
 *
 * @param params.nowMs Time by the store's clock, which dates its objects; see `storeNowMs`.
 */
export async function findGarbage(
  params: Readonly<{ store: ObjectStore; nowMs: number; abandonedAfterMs: number }>,
): Promise<Garbage[]> {
  const { store, nowMs, abandonedAfterMs } = params;
  const runs = await findRuns(store);
  const latest = (await findRecord(store, LATEST_KEY, latestSchema))?.run;
  const superseded = supersededOf(runs);
  const reasons = new Map<string, Garbage["why"]>();
  for (const [run, { record, isSealed, isCancelled, isRemoved, isActive, writtenAtMs }] of runs) {
    if (isRemoved) reasons.set(run, "half-removed");
    // Without a record it may not be a run, so it must not be removed.
    else if (run === latest || record === null) continue;
    else if (isSealed && superseded.has(run)) reasons.set(run, "superseded");
    else if (!isSealed && isCancelled) reasons.set(run, "cancelled");
    else if (!isSealed && !isActive && nowMs - writtenAtMs > abandonedAfterMs) reasons.set(run, "abandoned");
  }
  for (const run of runs.keys()) {
    if (!reasons.has(run)) for (const needed of needsOf(runs, run)) reasons.delete(needed);
  }
  return [...reasons]
    .toSorted(([a], [b]) => needsOf(runs, b).length - needsOf(runs, a).length)
    .map(([run, why]) => ({ run, why, objects: runs.get(run)!.objects, bytes: runs.get(run)!.bytes }));
}

/** Removes the runs found, except those that have become latest or active since. @returns The removed runs. */
export async function removeGarbage(store: ObjectStore, garbage: readonly Garbage[]): Promise<Garbage[]> {
  const removed: Garbage[] = [];
  for (const item of garbage) {
    const latest = (await findRecord(store, LATEST_KEY, latestSchema))?.run;
    const isInUse = item.why === "abandoned" && (await markedRuns(store)).has(item.run);
    if (item.run === latest || isInUse) continue;
    await removeRun(store, item.run);
    removed.push(item);
  }
  return removed;
}

interface Size {
  objects: number;
  bytes: number;
  writtenAtMs: number;
}

/** Runs by id. A listing finds the ids; the state of each is read by name. */
async function findRuns(store: ObjectStore): Promise<Map<string, Found>> {
  const [sizes, active] = [await measureRuns(store), await markedRuns(store)];
  const runs = new Map<string, Found>();
  for (const [run, size] of sizes) {
    const keys = runKeys(run);
    const has = async (key: string): Promise<boolean> => (await store.stat({ key })) !== null;
    runs.set(run, {
      ...size,
      record: await findRunRecord(store, run),
      isSealed: await has(keys.manifest),
      isCancelled: await has(keys.cancelled),
      isRemoved: await has(removedKey(run)),
      isActive: active.has(run),
    });
  }
  return runs;
}

/** Size of each run; a second listing, because a run that one listing leaves out may be the base of another. */
async function measureRuns(store: ObjectStore): Promise<Map<string, Size>> {
  const [first, second] = [await measureListed(store), await measureListed(store)];
  return new Map([...first, ...second]);
}

async function measureListed(store: ObjectStore): Promise<Map<string, Size>> {
  const sizes = new Map<string, Size>();
  for await (const { key, bytes, modifiedAtMs } of store.list({ prefix: RUNS_PREFIX })) {
    const run = key.split("/")[1]!;
    if (!runIdSchema.safeParse(run).success) continue;
    const size = sizes.get(run) ?? { objects: 0, bytes: 0, writtenAtMs: 0 };
    size.objects++;
    size.bytes += bytes;
    size.writtenAtMs = Math.max(size.writtenAtMs, modifiedAtMs);
    sizes.set(run, size);
  }
  return sizes;
}

/** Runs with a marker of any fleet. */
async function markedRuns(store: ObjectStore): Promise<Set<string>> {
  const runs = new Set<string>();
  for await (const { key } of store.list({ prefix: FLEETS_PREFIX })) runs.add(key.slice(key.lastIndexOf("/") + 1));
  return runs;
}

async function findRunRecord(store: ObjectStore, run: string): Promise<RunRecord | null> {
  try {
    return await readRun(store, run);
  } catch (error) {
    if (hasCode(error, "run_unknown") || hasCode(error, "object_corrupt")) return null;
    throw error;
  }
}

/**
 * Runs that a sealed run replaced, and all that they build on; also runs compacted from one of these, when the
 * replacement came later in the same chain.
 */
function supersededOf(runs: ReadonlyMap<string, Found>): Set<string> {
  const successors = new Map<string, string[]>();
  for (const [successor, found] of runs) {
    const place = found.isSealed ? placeTaken(found) : null;
    // `--since latest` may have named a run of another corpus, which is not replaced.
    if (place === null || !isDeepStrictEqual(runs.get(place)?.record?.inputs, found.record?.inputs)) continue;
    for (const run of [place, ...needsOf(runs, place)])
      successors.set(run, [...(successors.get(run) ?? []), successor]);
  }
  const superseded = new Set(successors.keys());
  for (const [run, found] of runs) {
    const source = found.record?.lineage?.kind === "compact" ? placeTaken(found) : null;
    if (source !== null && successors.get(source)?.some((successor) => successor !== run)) superseded.add(run);
  }
  return superseded;
}

function placeTaken({ record }: Found): string | null {
  const lineage = record?.lineage;
  return lineage === undefined || lineage.kind === "delta" ? null : lineage.supersedes;
}

/** Runs that a run depends on: the runs it builds on, or is being compacted from. */
function needsOf(runs: ReadonlyMap<string, Found>, run: string): string[] {
  const needs: string[] = [];
  for (let next = needOf(runs.get(run)); next !== null && !needs.includes(next); next = needOf(runs.get(next)))
    needs.push(next);
  return needs;
}

function needOf(found: Found | undefined): string | null {
  const lineage = found?.record?.lineage;
  if (lineage?.kind === "delta") return lineage.base;
  return lineage?.kind === "compact" && found?.isSealed === false ? lineage.supersedes : null;
}

/**
 * Removes everything of a run. First its id is marked as used and its manifest is removed, so that nobody takes a part for
 * the whole; `run.json` is removed last, so that an interrupted removal is found again.
 */
export async function removeRun(store: ObjectStore, run: string): Promise<void> {
  const keys = runKeys(run);
  await store.create({ key: removedKey(run), body: new Uint8Array(0) });
  await store.remove({ key: keys.manifest });
  async function* others(): AsyncGenerator<string> {
    for await (const { key } of store.list({ prefix: keys.prefix })) if (key !== keys.record) yield key;
  }
  for await (const _ of mapConcurrent(others(), REMOVALS_IN_FLIGHT, (key) => store.remove({ key })));
  await store.remove({ key: keys.record });
}
