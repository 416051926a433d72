/** Garbage collection: runs that nothing needs any more, found and removed. */
import { isDeepStrictEqual } from "node:util";
import { latestSchema, type RunRecord, runIdSchema } from "../core/contracts.ts";
import { findRecord } from "../core/json.ts";
import { LATEST_KEY, removedKey, runKeys } from "../core/layout.ts";
import type { ObjectStore } from "../core/ports.ts";
import { mapConcurrent } from "./map-concurrent.ts";
import { readRun } from "./read-plan.ts";

const REMOVALS_IN_FLIGHT = 16;

export interface Garbage {
  readonly run: string;
  /**
   * - `superseded`: a sealed run took its place, and no run that stays builds on it.
   * - `abandoned`: not sealed, and begun longer ago than is allowed.
   * - `cancelled`: as someone said.
   * - `half-removed`: an earlier removal was cut short.
   */
  readonly why: "superseded" | "abandoned" | "cancelled" | "half-removed";
  readonly objects: number;
  readonly bytes: number;
}

interface Found {
  /** Null when its `run.json` is gone. */
  readonly record: RunRecord | null;
  readonly isSealed: boolean;
  readonly isCancelled: boolean;
  readonly isRemoved: boolean;
  readonly objects: number;
  readonly bytes: number;
}

/**
 * Runs that may go, those that build on others before what they build on. Never the latest run, a run that
 * one that stays builds on, or a sealed run that nothing took the place of.
 */
export async function findGarbage(
  params: Readonly<{ store: ObjectStore; nowMs: number; abandonedAfterMs: number }>,
): Promise<Garbage[]> {
  const { store, nowMs, abandonedAfterMs } = params;
  const runs = await findRuns(store);
  const latest = (await findRecord(store, LATEST_KEY, latestSchema))?.run;
  const superseded = supersededOf(runs);
  const reasons = new Map<string, Garbage["why"]>();
  for (const [run, { record, isSealed, isCancelled, isRemoved }] of runs) {
    if (isRemoved) reasons.set(run, "half-removed");
    // Without a record it is no run that we know of, so not ours to remove.
    else if (run === latest || record === null) continue;
    else if (isSealed && superseded.has(run)) reasons.set(run, "superseded");
    else if (!isSealed && isCancelled) reasons.set(run, "cancelled");
    else if (!isSealed && nowMs - Date.parse(record.createdAt) > abandonedAfterMs) reasons.set(run, "abandoned");
  }
  for (const run of runs.keys()) {
    if (!reasons.has(run)) for (const needed of needsOf(runs, run)) reasons.delete(needed);
  }
  return [...reasons]
    .toSorted(([a], [b]) => needsOf(runs, b).length - needsOf(runs, a).length)
    .map(([run, why]) => ({ run, why, objects: runs.get(run)!.objects, bytes: runs.get(run)!.bytes }));
}

interface Size {
  objects: number;
  bytes: number;
  isSealed: boolean;
  isCancelled: boolean;
  hasRecord: boolean;
}

const NOTHING: Size = { objects: 0, bytes: 0, isSealed: false, isCancelled: false, hasRecord: false };

async function findRuns(store: ObjectStore): Promise<Map<string, Found>> {
  const sizes = new Map<string, Size>();
  for await (const { key, bytes } of store.list({ prefix: "runs/" })) {
    const run = key.split("/")[1]!;
    if (!runIdSchema.safeParse(run).success) continue;
    const size = sizes.get(run) ?? { ...NOTHING };
    size.objects++;
    size.bytes += bytes;
    size.isSealed ||= key === runKeys(run).manifest;
    size.isCancelled ||= key === runKeys(run).cancelled;
    size.hasRecord ||= key === runKeys(run).record;
    sizes.set(run, size);
  }
  const removed = new Set<string>();
  for await (const { key } of store.list({ prefix: removedKey("") })) removed.add(key.slice(removedKey("").length));
  const runs = new Map<string, Found>();
  for (const [run, { hasRecord, ...size }] of sizes) {
    const record = hasRecord ? await readRun(store, run) : null;
    runs.set(run, { ...size, record, isRemoved: removed.has(run) });
  }
  return runs;
}

/**
 * Each run whose place a sealed one took, and all that it builds on; and what was compacted from one of these,
 * when the one that took the place came later in the same chain.
 */
function supersededOf(runs: ReadonlyMap<string, Found>): Set<string> {
  const successors = new Map<string, string[]>();
  for (const [successor, found] of runs) {
    const place = found.isSealed ? placeTaken(found) : null;
    // `--since latest` may have named a run of another corpus; that one's place is not taken.
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

/** What a run cannot do without: the runs it builds on, or is being compacted from. */
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
 * Removes everything of a run. First its id is marked as used up and its manifest goes, so that nobody takes
 * a part for the whole; `run.json` goes last, so that a removal cut short is found again.
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
