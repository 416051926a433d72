/** Sealing: proof that every planned row is there, published as the manifest. */
import {
  CONTRACT_VERSION,
  type Latest,
  latestSchema,
  type Manifest,
  manifestSchema,
  type RunRecord,
  type ShardPlan,
  type Totals,
} from "../core/contracts.ts";
import { FleetError } from "../core/errors.ts";
import { findRecord, readRecord, toJsonBytes } from "../core/json.ts";
import { LATEST_KEY, runKeys } from "../core/layout.ts";
import type { ObjectStore } from "../core/ports.ts";
import { addIdle } from "../core/telemetry.ts";
import { assertNotCancelled } from "./cancelled.ts";
import { type InspectedShard, inspectShard } from "./inspect-shard.ts";
import { mapConcurrent } from "./map-concurrent.ts";
import { readDeletes, readDocumentIndex } from "./read-lists.ts";
import { listData, readClosed, readRun, readWindows } from "./read-plan.ts";

/** Result files read at once: enough to hide a store's latency, few enough to bound memory. */
const FILES_IN_FLIGHT = 4;
const MAX_MANIFEST_BYTES = 512 * 1024 * 1024;

/** Sealed, now or before, or why it cannot be yet. */
export type SealOutcome =
  | { readonly kind: "sealed"; readonly manifest: Manifest; readonly isNew: boolean }
  | { readonly kind: "open"; readonly reason: string };

/**
 * Reads every result file back, compares it with the plan and publishes the manifest. Any number of
 * sealers may race: the manifest is created once, and the others return the winner's.
 *
 * @throws FleetError `run_unknown`, `run_cancelled`, `object_corrupt`
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
  if (sealed !== null) return { kind: "sealed", manifest: sealed, isNew: false };
  await assertNotCancelled(store, run);
  const unfinished = await whatIsMissing(store, run);
  if (unfinished !== null) return { kind: "open", reason: unfinished };
  const manifest = await buildManifest(store, record, params.onShard ?? (() => {}));
  await proveLists(store, manifest);
  const isNew = (await store.create({ key: runKeys(run).manifest, body: toJsonBytes(manifest) })) === "created";
  const published = isNew
    ? manifest
    : await readRecord(store, runKeys(run).manifest, manifestSchema, MAX_MANIFEST_BYTES);
  await publishLatest(store, published, record.lineage);
  if (!params.keepStaging) await removeStaging(store, run);
  return { kind: "sealed", manifest: published, isNew };
}

/**
 * Why the run cannot be sealed yet; null when it can be, or is. Costs a listing: nothing is read back.
 *
 * @throws FleetError `run_unknown`
 */
export async function whyOpen(store: ObjectStore, run: string): Promise<string | null> {
  await readRun(store, run);
  return whatIsMissing(store, run);
}

/** Null while the run is not sealed. */
export function readManifest(store: ObjectStore, run: string): Promise<Manifest | null> {
  return findRecord(store, runKeys(run).manifest, manifestSchema, MAX_MANIFEST_BYTES);
}

async function whatIsMissing(store: ObjectStore, run: string): Promise<string | null> {
  const closed = await readClosed(store, run);
  if (closed === null) return "its corpus has not been read to the end (no plan/closed.json)";
  const data = await listData(store, run);
  if (data.size >= closed.shards) return null;
  return `${closed.shards - data.size} of its ${closed.shards} shards have no result file yet`;
}

async function buildManifest(
  store: ObjectStore,
  record: RunRecord,
  onShard: (done: number, planned: number) => void,
): Promise<Manifest> {
  const closed = (await readClosed(store, record.run))!;
  const files: Manifest["files"] = [];
  const rejects: Manifest["rejects"] = [];
  const { lineage } = record;
  const totals: Totals = { ...emptyTotals(), documents: closed.documents };
  if (lineage?.kind === "delta") {
    totals.unchanged = closed.unchanged ?? 0;
    totals.deletes = countDeletes(closed.deletes);
  }
  const shards = plannedShards(store, record.run, (window, lines) => {
    rejects.push({ key: runKeys(record.run).windowRejects(window), lines });
    totals.rejects += lines;
  });
  for await (const shard of mapConcurrent(shards, FILES_IN_FLIGHT, (plan) => inspectShard(store, record, plan))) {
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
  return {
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
}

function lineageOfManifest({ lineage }: RunRecord): Pick<Manifest, "base" | "supersedes"> {
  if (lineage === undefined) return {};
  if (lineage.kind === "delta") return { base: lineage.base };
  return lineage.supersedes === null ? {} : { supersedes: lineage.supersedes };
}

/** What is not a result file but is built on later: rows taken away, and the index of documents. */
async function proveLists(store: ObjectStore, manifest: Manifest): Promise<void> {
  for await (const _ of readDeletes(store, manifest));
  for await (const _ of readDocumentIndex(store, manifest.run));
}

function shardOfFile(shard: InspectedShard): string {
  return shard.key.slice(shard.key.lastIndexOf("/") + 1, -".arrow".length);
}

async function* plannedShards(
  store: ObjectStore,
  run: string,
  onRejects: (window: string, lines: number) => void,
): AsyncGenerator<ShardPlan> {
  for await (const window of readWindows(store, run)) {
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

/**
 * Points `latest.json` at the run, unless it already points at one sealed later. What was compacted is no
 * news: it only takes the place of the run that it was made from.
 */
async function publishLatest(store: ObjectStore, manifest: Manifest, lineage: RunRecord["lineage"]): Promise<void> {
  const current = await findRecord(store, LATEST_KEY, latestSchema);
  if (lineage?.kind === "compact" && current?.run !== lineage.supersedes) return;
  if (current !== null && current.sealedAt > manifest.sealedAt) return;
  const latest: Latest = { version: CONTRACT_VERSION, run: manifest.run, sealedAt: manifest.sealedAt };
  await store.replace({ key: LATEST_KEY, body: toJsonBytes(latest) });
}

async function removeStaging(store: ObjectStore, run: string): Promise<void> {
  for await (const { key } of store.list({ prefix: runKeys(run).planPrefix })) {
    if (key.endsWith(".arrows")) await store.remove({ key });
  }
  // Nothing is left there but what a machine wrote that came late.
  for await (const { key } of store.list({ prefix: runKeys(run).partsPrefix })) await store.remove({ key });
}
