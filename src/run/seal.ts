/** Sealing: proof that every planned row exists, published as the manifest. */
import {
  type ClosedRecord,
  CONTRACT_VERSION,
  type Manifest,
  manifestSchema,
  type RunRecord,
  type ShardPlan,
  type Totals,
} from "../core/contracts.ts";
import { FleetError, hasCode } from "../core/errors.ts";
import { findRecord, parseRecord, toJsonBytes } from "../core/json.ts";
import { runKeys, windowId } from "../core/layout.ts";
import type { ObjectStore } from "../core/ports.ts";
import type { Hold } from "../core/guards.ts";
import { addIdle } from "../core/telemetry.ts";
import { assertNotCancelled } from "./cancelled.ts";
import { findHold } from "./hold.ts";
import { type InspectedShard, inspectShard } from "./inspect-shard.ts";
import { publishLatest } from "./latest.ts";
import { mapConcurrent } from "./map-concurrent.ts";
import { notStored } from "./create-same.ts";
import { readDeletes, readDocumentIndex, readWindowRejects } from "./read-lists.ts";
import { assertOfRun, listData, readClosed, readRun, readWindows } from "./read-plan.ts";

/** Result files read concurrently: enough to hide a store's latency, few enough to bound memory. */
const FILES_IN_FLIGHT = 4;
const MAX_MANIFEST_BYTES = 512 * 1024 * 1024;

/** Sealed (now or before), or the reason why it cannot be yet. */
export type SealOutcome =
  | { readonly kind: "sealed"; readonly manifest: Manifest; readonly isNew: boolean }
  | {
      readonly kind: "open";
      readonly reason: string;
      /** Some of the planned shards whose file did not exist when it was requested by name. */
      readonly absent: readonly ShardPlan[];
    }
  /** Beyond its guards, and nobody has accepted it. */
  | { readonly kind: "held"; readonly hold: Hold; readonly closed: ClosedRecord };

type Open = SealOutcome & { kind: "open" };

const NOT_CLOSED: Open = {
  kind: "open",
  reason: "its corpus has not been read to the end (no plan/closed.json)",
  absent: [],
};

/**
 * Reads every window of the plan and every result file back by name, compares them with `plan/closed.json` and the
 * plan, and publishes the manifest. Any number of sealers may race: the manifest is created once, and the others
 * return the winner's.
 *
 * @throws FleetError `run_unknown`, `run_cancelled`, `plan_invalid`, `object_corrupt`
 */
export async function sealRun(
  params: Readonly<{
    store: ObjectStore;
    run: string;
    keepStaging: boolean;
    onShard?: (done: number, planned: number) => void;
  }>,
): Promise<SealOutcome> {
  const { store, run } = params;
  const record = await readRun(store, run);
  const sealed = await readManifest(store, run);
  const closed = await readClosed(store, run);
  const finish = async (manifest: Manifest): Promise<void> => {
    await publishLatest(store, manifest);
    if (!params.keepStaging && closed !== null) await removeStaging(store, run, closed);
  };
  if (sealed !== null) {
    // Its sealer may have died before it was done.
    await finish(sealed);
    return { kind: "sealed", manifest: sealed, isNew: false };
  }
  await assertNotCancelled(store, run);
  if (closed === null) return NOT_CLOSED;
  const hold = await findHold(store, { record, closed });
  if (hold !== null) return { kind: "held", hold, closed };
  const unfinished = await whatIsMissing(store, run, closed);
  if (unfinished !== null) return unfinished;
  const built = await buildManifest(store, record, closed, params.onShard ?? (() => {}));
  if (built.kind === "open") return built;
  await proveLists(store, built.manifest, closed);
  const { manifest, isNew } = await publish(store, built.manifest);
  await finish(manifest);
  return { kind: "sealed", manifest, isNew };
}

/**
 * The reason why the run cannot be sealed yet; null when it can be, or is. No result file is read back.
 *
 * @throws FleetError `run_unknown`, `plan_invalid`
 */
export async function whyOpen(store: ObjectStore, run: string): Promise<string | null> {
  await readRun(store, run);
  const closed = await readClosed(store, run);
  const unfinished = closed === null ? NOT_CLOSED : await whatIsMissing(store, run, closed);
  return unfinished?.reason ?? null;
}

/** The manifest; null while the run is not sealed. */
export async function readManifest(store: ObjectStore, run: string): Promise<Manifest | null> {
  const key = runKeys(run).manifest;
  try {
    const manifest = await findRecord(store, key, manifestSchema, MAX_MANIFEST_BYTES);
    return manifest === null ? null : assertOfRun(store, run, manifest);
  } catch (error) {
    if (!hasCode(error, "object_corrupt")) throw error;
    throw new FleetError("object_corrupt", error.message, {
      cure: `remove ${store.url}/${key}, then \`embedfleet seal ${run}\`: everything is read back and it is recreated`,
      cause: error,
    });
  }
}

/** Missing parts of a run. A listing only counts the files; whether one is missing is found by reading it by name. */
async function whatIsMissing(store: ObjectStore, run: string, closed: ClosedRecord): Promise<Open | null> {
  const listed = await listData(store, run);
  const unlisted: ShardPlan[] = [];
  for await (const { shards } of readWindows(store, run, closed))
    unlisted.push(...shards.filter(({ shard }) => !listed.has(runKeys(run).data(shard))));
  for (const shard of unlisted) {
    if ((await store.stat({ key: runKeys(run).data(shard.shard) })) !== null) continue;
    const reason = `${unlisted.length} of its ${closed.shards} shards have no result file yet`;
    return { kind: "open", reason, absent: [shard] };
  }
  return null;
}

async function buildManifest(
  store: ObjectStore,
  record: RunRecord,
  closed: ClosedRecord,
  onShard: (done: number, planned: number) => void,
): Promise<Open | { readonly kind: "built"; readonly manifest: Manifest }> {
  const files: Manifest["files"] = [];
  const rejects: Manifest["rejects"] = [];
  const { lineage } = record;
  const totals: Totals = { ...emptyTotals(), documents: closed.documents };
  if (lineage?.kind === "delta") {
    totals.unchanged = closed.unchanged ?? 0;
    totals.deletes = countDeletes(closed.deletes);
  }
  const shards = plannedShards(store, closed, (window, lines) => {
    rejects.push({ key: runKeys(record.run).windowRejects(window), lines });
    totals.rejects += lines;
  });
  for await (const found of mapConcurrent(shards, FILES_IN_FLIGHT, (plan) => findShard(store, record, plan))) {
    if ("absent" in found) {
      const reason = `the result file of ${found.absent.shard} is listed but does not exist`;
      return { kind: "open", reason, absent: [found.absent] };
    }
    const { shard } = found;
    assertSound(store, shard);
    files.push({
      key: shard.key,
      shard: shardOfFile(shard),
      rows: shard.file.stats.rows,
      bytes: shard.bytes,
      sha256: shard.sha256,
    });
    if (shard.file.rejectsKey !== null) rejects.push({ key: shard.file.rejectsKey, lines: shard.rejects.length });
    addShard(totals, shard);
    onShard(files.length, closed.shards);
  }
  const manifest: Manifest = {
    version: CONTRACT_VERSION,
    kind: lineage?.kind === "delta" ? "delta" : "full",
    run: record.run,
    ...lineageOfManifest(record),
    createdAt: record.createdAt,
    sealedAt: new Date().toISOString(),
    options: record.options,
    totals,
    files,
    ...(lineage?.kind === "delta" && { deletes: closed.deletes ?? [] }),
    rejects,
  };
  return { kind: "built", manifest };
}

async function findShard(
  store: ObjectStore,
  record: RunRecord,
  plan: ShardPlan,
): Promise<{ readonly shard: InspectedShard } | { readonly absent: ShardPlan }> {
  try {
    return { shard: await inspectShard(store, record, plan) };
  } catch (error) {
    if (hasCode(error, "object_missing")) return { absent: plan };
    throw error;
  }
}

/** Creates the manifest, and reads it back: staged rows are removed only once it exists. */
async function publish(
  store: ObjectStore,
  manifest: Manifest,
): Promise<{ readonly manifest: Manifest; readonly isNew: boolean }> {
  const key = runKeys(manifest.run).manifest;
  const body = toJsonBytes(manifest);
  const isNew = (await store.create({ key, body })) === "created";
  const stored = await store.read({ key, maxBytes: MAX_MANIFEST_BYTES }).catch((error: unknown) => {
    throw hasCode(error, "object_missing") ? notStored(store, key, error) : error;
  });
  if (isNew && Buffer.compare(stored, body) !== 0) throw notStored(store, key);
  const found = parseRecord(stored, { schema: manifestSchema, name: `${store.url}/${key}` });
  return { manifest: assertOfRun(store, manifest.run, found), isNew };
}

function lineageOfManifest({ lineage }: RunRecord): Pick<Manifest, "base" | "supersedes"> {
  if (lineage === undefined) return {};
  if (lineage.kind === "delta") return { base: lineage.base };
  return lineage.supersedes === null ? {} : { supersedes: lineage.supersedes };
}

/** Checks everything else that is guaranteed or used later: rejects, deleted rows, the document index. */
async function proveLists(store: ObjectStore, manifest: Manifest, closed: ClosedRecord): Promise<void> {
  for await (const _ of readDeletes(store, manifest));
  for await (const _ of readDocumentIndex(store, manifest.run, closed));
  for await (const _ of readWindowRejects(store, manifest.run, closed));
}

function shardOfFile(shard: InspectedShard): string {
  return shard.key.slice(shard.key.lastIndexOf("/") + 1, -".arrow".length);
}

async function* plannedShards(
  store: ObjectStore,
  closed: ClosedRecord,
  onRejects: (window: string, lines: number) => void,
): AsyncGenerator<ShardPlan> {
  for await (const window of readWindows(store, closed.run, closed)) {
    if (window.rejects > 0) onRejects(window.window, window.rejects);
    yield* window.shards;
  }
}

function assertSound(store: ObjectStore, shard: InspectedShard): void {
  if (shard.fault === null) return;
  throw new FleetError("object_corrupt", `${store.url}/${shard.key} cannot be sealed: ${shard.fault}`, {
    cure: "delete that file, then `embedfleet resume` the run: the shard is computed again",
  });
}

export function countDeletes(files: Manifest["deletes"]): number {
  return (files ?? []).reduce((sum, { rows }) => sum + rows, 0);
}

export function emptyTotals(): Totals {
  return {
    documents: 0,
    rows: 0,
    rejects: 0,
    shards: 0,
    files: 0,
    bytes: 0,
    batches: 0,
    realTokens: 0,
    paddedTokens: 0,
    deviceMs: 0,
    idleMs: 0,
    idle: {},
  };
}

function addShard(totals: Totals, shard: InspectedShard): void {
  const { stats } = shard.file;
  totals.rows += stats.rows;
  totals.rejects += stats.rejects;
  totals.shards += 1;
  totals.files += 1;
  totals.bytes += shard.bytes;
  totals.batches += stats.batches;
  totals.realTokens += stats.realTokens;
  totals.paddedTokens += stats.paddedTokens;
  totals.deviceMs += stats.deviceMs;
  totals.idleMs += stats.idleMs;
  addIdle(totals.idle, stats.idle);
}

async function removeStaging(store: ObjectStore, run: string, closed: ClosedRecord): Promise<void> {
  const keys = runKeys(run);
  for (let window = 0; window < closed.windows; window++) await store.remove({ key: keys.staged(windowId(window)) });
  // Only late writes of a helper can still be there.
  for await (const { key } of store.list({ prefix: keys.partsPrefix })) await store.remove({ key });
}
