/** What a seal, `verify` and the next night do when the store has lost, kept or mixed up what was planned. */
import { pino } from "pino";
import { expect, test } from "vitest";
import { latestSchema, windowPlanSchema } from "../../src/core/contracts.ts";
import { readRecord } from "../../src/core/json.ts";
import { removedKey, runKeys, windowId } from "../../src/core/layout.ts";
import { listActive, markActive } from "../../src/run/active-runs.ts";
import { findGarbage } from "../../src/run/collect.ts";
import { sealRun } from "../../src/run/seal.ts";
import { storeNowMs } from "../../src/run/store-clock.ts";
import { Reconciler } from "../../src/run/reconciler.ts";
import { verifyRun } from "../../src/run/verify.ts";
import { MemoryQueue } from "../fixtures/memory-queue.ts";
import { type Corpus, plan, type RunParams, runAll, runUnsealed } from "../fixtures/pretend-fleet.ts";
import { ScriptedStore } from "../fixtures/scripted-store.ts";

const DAY_MS = 86_400_000;
const corpus: Corpus = [
  ...Array.from({ length: 12 }, (_, i) => [`d${i}`, `text number ${i} `.repeat(1 + (i % 5))] as const),
  ["d3", "a document met before in this corpus"],
];
const limitsOf = () => ({ tokens: 60, rows: 99, documents: 99, textChars: 9999 });
const night: RunParams = { run: "night", corpus, limitsOf };
const keys = runKeys("night");

async function unsealed(): Promise<{ store: ScriptedStore; objects: Map<string, Uint8Array> }> {
  const objects = new Map<string, Uint8Array>();
  const store = new ScriptedStore({ objects });
  await runUnsealed(store, night);
  return { store, objects };
}

const seal = (store: ScriptedStore) => sealRun({ store, run: "night", keepStaging: false });

function edit(objects: Map<string, Uint8Array>, key: string, change: (value: Record<string, unknown>) => object): void {
  const value = JSON.parse(Buffer.from(objects.get(key)!).toString()) as Record<string, unknown>;
  objects.set(key, Buffer.from(JSON.stringify(change(value))));
}

test.each([
  ["the first window's plan", keys.plan(windowId(0)), /plan\/w000000\.json does not exist/],
  ["a window's plan", keys.plan(windowId(1)), /plan\/w000001\.json does not exist/],
  ["a window's rejects", keys.windowRejects(windowId(0)), /w000000\.jsonl|w00000\d\.jsonl/],
  ["a window's document index", keys.documentIndex(windowId(1)), /w000001\.arrow/],
])("%s is lost: the run is not sealed, and the producer makes it anew", async (_, lost, message) => {
  const { store, objects } = await unsealed();
  const key = objects.has(lost) ? lost : [...objects.keys()].find((each) => each.startsWith(keys.rejectsPrefix))!;
  const before = new Map(objects);
  objects.delete(key);
  await expect(seal(store)).rejects.toThrow(message);
  expect(objects.has(keys.manifest)).toBe(false);
  // Without its plan no file of the run is a stray.
  expect(await verifyRun({ store, run: "night" })).toMatchObject({ ok: false, strays: [] });
  await plan(store, night);
  expect(objects).toEqual(before);
  expect(await seal(store)).toMatchObject({ kind: "sealed" });
  expect(await verifyRun({ store, run: "night" })).toMatchObject({ ok: true, findings: [] });
});

test("a plan that was changed, moved or added to is not sealed", async () => {
  const { store, objects } = await unsealed();
  const before = new Map(objects);
  const second = objects.get(keys.plan(windowId(1)))!;
  const changes: [what: () => void, message: RegExp][] = [
    [() => void objects.set(keys.plan(windowId(0)), second), /it is the plan of w000001/],
    [() => edit(objects, keys.plan(windowId(1)), (value) => ({ ...value, sourceSha256: "0".repeat(64) })), /digest/],
    [() => edit(objects, keys.closed, (value) => ({ ...value, windows: 1 })), /windows have \d+ documents/],
    [() => edit(objects, keys.closed, (value) => ({ ...value, rejects: 0 })), /1 rejects, but .* records 0/],
    [() => edit(objects, keys.closed, (value) => ({ ...value, run: "other" })), /belongs to run other/],
  ];
  for (const [change, message] of changes) {
    change();
    await expect(seal(store)).rejects.toThrow(message);
    for (const [key, body] of before) objects.set(key, body);
  }
  expect(await seal(store)).toMatchObject({ kind: "sealed" });
});

test("a listing that shows too much or too little neither seals nor keeps from sealing", async () => {
  const { store, objects } = await unsealed();
  objects.set(`${keys.dataPrefix}.DS_Store`, Buffer.from("x"));
  objects.set(`${keys.dataPrefix}w000099-s0000.arrow`, Buffer.from("x"));
  objects.set(`${keys.rejectsPrefix}.DS_Store`, Buffer.from("x"));
  objects.set(`${keys.planPrefix}w000099.json`, Buffer.from("x"));
  const file = [...objects.keys()].find((key) => key.startsWith(keys.dataPrefix) && key.endsWith("0.arrow"))!;
  const body = objects.get(file)!;
  objects.delete(file);
  const queue = new MemoryQueue();
  await markActive(store, { fleet: "f", run: "night" });
  const reconciler = tenderOf(store, queue);
  expect(await reconciler.reconcile()).toBe(1);
  expect([...queue.jobs.values()].map(({ shard }) => keys.data(shard))).toEqual([file]);
  objects.set(file, body);
  expect(await reconciler.reconcile()).toBe(0);
  expect(await verifyRun({ store, run: "night" })).toMatchObject({
    ok: true,
    findings: [],
    strays: [`${keys.dataPrefix}w000099-s0000.arrow`],
  });
});

test("a run is looked after until it has ended, also when a listing leaves it out", async () => {
  const { store, objects } = await unsealed();
  const file = [...objects.keys()].find((key) => key.startsWith(keys.dataPrefix))!;
  const body = objects.get(file)!;
  objects.delete(file);
  await markActive(store, { fleet: "f", run: "night" });
  const reconciler = tenderOf(store, new MemoryQueue());
  expect(await reconciler.reconcile()).toBe(1);
  objects.delete("fleets/f/night");
  objects.set(file, body);
  await reconciler.reconcile();
  expect(objects.has(keys.manifest)).toBe(true);
});

test("a marker of a run that was removed is taken away", async () => {
  const store = new ScriptedStore();
  await markActive(store, { fleet: "f", run: "gone" });
  await store.create({ key: removedKey("gone"), body: new Uint8Array(0) });
  expect(await tenderOf(store, new MemoryQueue()).reconcile()).toBe(0);
  expect(await listActive(store, "f")).toEqual([]);
});

test("a delta is verified with its chain, and is not begun on a run that was sealed with rows missing", async () => {
  const { store, objects } = await unsealed();
  await seal(store);
  const tuesday: RunParams = { ...night, run: "tuesday", since: "latest" };
  await runAll(store, tuesday);
  expect(await verifyRun({ store, run: "tuesday" })).toMatchObject({ ok: true, base: "night" });
  const whole = objects.get(keys.manifest)!;
  // As an older program could seal it: by what a listing showed.
  edit(objects, keys.manifest, (value) => ({ ...value, files: (value["files"] as unknown[]).slice(1) }));
  const { ok, findings } = await verifyRun({ store, run: "tuesday" });
  expect([ok, findings.join()]).toEqual([false, expect.stringMatching(/run night is sealed but incomplete: .*files/)]);
  await expect(plan(store, { ...night, run: "wednesday", since: "latest" })).rejects.toThrow(/sealed but incomplete/);
  objects.set(keys.manifest, whole);
  await runAll(store, { ...night, run: "wednesday", since: "latest" });
});

test("a bit of the staged rows flips: no worker embeds them, and no seal takes what was made of others", async () => {
  const { store, objects } = await unsealed();
  const staged = objects.get(keys.staged(windowId(0)))!;
  for (const file of [...objects.keys()].filter((key) => key.startsWith(keys.dataPrefix))) objects.delete(file);
  for (let bit = 0; bit < staged.length * 8; bit += 997) {
    const flipped = new Uint8Array(staged);
    flipped[bit >> 3]! ^= 1 << (bit & 7);
    objects.set(keys.staged(windowId(0)), flipped);
    await expect(runUnsealed(store, night)).rejects.toMatchObject({ code: "object_corrupt" });
  }
  objects.set(keys.staged(windowId(0)), staged);
  await runUnsealed(store, night);
  // A worker that did not look, and says which rows it had.
  const file = keys.data("w000000-s0000");
  const [first] = (await readRecord(store, keys.plan(windowId(0)), windowPlanSchema)).shards;
  const text = Buffer.from(objects.get(file)!).toString("latin1");
  const other = text.replaceAll(first!.stagedSha256!, "0".repeat(64));
  expect(other).not.toBe(text);
  objects.set(file, Buffer.from(other, "latin1"));
  await expect(seal(store)).rejects.toThrow(/computed from staged rows with sha256 0{64}/);
});

test("a run that an older version began is continued and sealed in that version", async () => {
  const objects = new Map<string, Uint8Array>();
  const store = new ScriptedStore({ objects });
  await plan(store, night);
  const record = objects.get(keys.record)!;
  objects.clear();
  objects.set(keys.record, record);
  edit(objects, keys.record, (value) => ({ ...value, version: 1 }));
  await runUnsealed(store, night);
  for (const key of [keys.plan(windowId(0)), keys.closed]) {
    const text = Buffer.from(objects.get(key)!).toString();
    expect(text).toContain('"version": 1');
    expect(text).not.toMatch(/stagedSha256|plansSha256|rejectsSha256/);
  }
  expect(await seal(store)).toMatchObject({ kind: "sealed" });
  expect(await verifyRun({ store, run: "night" })).toMatchObject({ ok: true, findings: [] });
  await runAll(store, { ...night, run: "tuesday", since: "latest" });
  expect(await verifyRun({ store, run: "tuesday" })).toMatchObject({ ok: true, base: "night" });
});

test("latest.json goes by what runs build on, whatever the clocks of sealers say", async () => {
  const { store, objects } = await unsealed();
  const latest = async () => (await readRecord(store, "latest.json", latestSchema)).run;
  await seal(store);
  edit(objects, keys.manifest, (value) => ({ ...value, sealedAt: "2099-01-01T00:00:00.000Z" }));
  edit(objects, "latest.json", (value) => ({ ...value, sealedAt: "2099-01-01T00:00:00.000Z" }));
  await runAll(store, { ...night, run: "tuesday", since: "latest" });
  expect(await latest()).toBe("tuesday");
  // A sealer of the older run that was held up for a night.
  await seal(store);
  expect(await latest()).toBe("tuesday");
  // One that died before it was done.
  await runAll(store, { ...night, run: "wednesday", since: "latest" });
  edit(objects, "latest.json", (value) => ({ ...value, run: "tuesday" }));
  await sealRun({ store, run: "wednesday", keepStaging: false });
  expect(await latest()).toBe("wednesday");
});

test("of two that seal at once, both see what the other has done", async () => {
  const store = new ScriptedStore();
  await runAll(store, night);
  await runUnsealed(store, { ...night, run: "a", since: "night" });
  await runUnsealed(store, { ...night, run: "b", since: "night" });
  await Promise.all(["a", "b"].map((run) => sealRun({ store, run, keepStaging: false })));
  expect(["a", "b"]).toContain((await readRecord(store, "latest.json", latestSchema)).run);
});

test("gc leaves a run alone that a fleet is at work on, and goes by the store's clock", async () => {
  const { store, objects } = await unsealed();
  edit(objects, keys.record, (value) => ({ ...value, createdAt: "2001-01-01T00:00:00.000Z" }));
  const garbageAfter = async (days: number) => {
    const nowMs = (await storeNowMs(store)) + days * DAY_MS;
    return (await findGarbage({ store, nowMs, abandonedAfterMs: 30 * DAY_MS })).map(({ run }) => run);
  };
  expect(await garbageAfter(0)).toEqual([]);
  await markActive(store, { fleet: "f", run: "night" });
  expect(await garbageAfter(31)).toEqual([]);
  await store.remove({ key: "fleets/f/night" });
  expect(await garbageAfter(31)).toEqual(["night"]);
});

function tenderOf(store: ScriptedStore, queue: MemoryQueue): Reconciler {
  const hold = async () => ({ release: async () => {} });
  const turn = { take: async () => true, hold, close: async () => {} };
  const log = pino({ level: "silent" });
  return new Reconciler({ store, queue, turn, fleet: "f", keepStaging: false, intervalMs: 1000, log });
}
