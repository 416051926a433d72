/** Compaction and garbage collection of chains of runs. */
import { expect, test } from "vitest";
import { latestSchema, rejectSchema, runRecordSchema } from "../../src/core/contracts.ts";
import { readRecord } from "../../src/core/json.ts";
import { runKeys } from "../../src/core/layout.ts";
import { readChain, readEffective } from "../../src/run/chain.ts";
import { findGarbage, removeRun } from "../../src/run/collect.ts";
import { compactRun } from "../../src/run/compact.ts";
import { verifyRun } from "../../src/run/verify.ts";
import { type Corpus, effectiveRows, OPTIONS, plan, runAll, sorted } from "../fixtures/pretend-fleet.ts";
import { ScriptedStore } from "../fixtures/scripted-store.ts";

const DAY_MS = 86_400_000;
const monday: Corpus = Array.from({ length: 30 }, (_, i) => [`d${i}`, `text ${i} `.repeat(1 + (i % 9))]);
const tuesday: Corpus = [...monday.slice(2), ["d1", "another"], ["new", "text ".repeat(50)]];
const wednesday: Corpus = [...tuesday.slice(1), ["d1", "a document met before in this corpus"], ["d0", "back again"]];

async function threeNights(): Promise<{ store: ScriptedStore; objects: Map<string, Uint8Array> }> {
  const objects = new Map<string, Uint8Array>();
  const store = new ScriptedStore({ objects });
  await runAll(store, { run: "monday", corpus: monday });
  await runAll(store, { run: "tuesday", corpus: tuesday, since: "latest" });
  await runAll(store, { run: "wednesday", corpus: wednesday, since: "latest" });
  return { store, objects };
}

function garbageOf(store: ScriptedStore, nowMs = Date.now()) {
  return findGarbage({ store, nowMs, abandonedAfterMs: 30 * DAY_MS });
}

async function latestOf(store: ScriptedStore): Promise<string> {
  return (await readRecord(store, "latest.json", latestSchema)).run;
}

test("a compacted run is a full run of the newest corpus, rejects included", async () => {
  const { store, objects } = await threeNights();
  const manifest = await compactRun({ store, run: "wednesday" });
  expect(manifest).toMatchObject({ kind: "full", run: "wednesday-full", supersedes: "wednesday" });
  expect(await verifyRun({ store, run: "wednesday-full" })).toMatchObject({ ok: true, findings: [] });
  const scratch = new ScriptedStore();
  const full = await runAll(scratch, { run: "full", corpus: wednesday });
  expect(sorted(await effectiveRows(store, "wednesday-full"))).toEqual(sorted(await effectiveRows(scratch, "full")));
  expect(manifest.totals).toMatchObject({
    documents: full.totals.documents,
    rows: full.totals.rows,
    rejects: full.totals.rejects,
  });
  const lines = Buffer.from(objects.get("runs/wednesday-full/rejects/w000000.jsonl")!).toString().trim();
  expect(rejectSchema.parse(JSON.parse(lines))).toMatchObject({ id: "d1", reason: "duplicate_id" });
  expect(await latestOf(store)).toBe("wednesday-full");
});

test("fields that were kept come along, those of rows from every run of the chain", async () => {
  const { store } = await threeNights();
  const { options } = await compactRun({ store, run: "wednesday" });
  expect(options.keep).toEqual(["size"]);
  const sizes = new Map<string, string | null>();
  for await (const { rows, kept } of readEffective(store, await readChain(store, "wednesday-full"))) {
    expect(rows.kept.map(({ name }) => name)).toEqual(["size"]);
    for (const row of kept) sizes.set(rows.ids[row]!, rows.kept[0]!.values[row]!);
  }
  // The first that is there of an id counts: `d1` was changed on Tuesday.
  const expected = new Map(wednesday.toReversed().map(([id, text]) => [id, text.length > 9 ? "long" : null]));
  expect(sizes).toEqual(expected);
});

test("the next delta builds on a compacted run as on any other", async () => {
  const { store } = await threeNights();
  await compactRun({ store, run: "wednesday" });
  const next = await runAll(store, { run: "thursday", corpus: monday, since: "latest" });
  expect(next).toMatchObject({ kind: "delta", base: "wednesday-full" });
  const scratch = new ScriptedStore();
  await runAll(scratch, { run: "full", corpus: monday });
  expect(sorted(await effectiveRows(store, "thursday"))).toEqual(sorted(await effectiveRows(scratch, "full")));
});

test("killed at any write and repeated, it ends with the same files", async () => {
  const { store, objects } = await threeNights();
  const before = new Map(objects);
  await compactRun({ store, run: "wednesday" });
  const filesOf = (state: ReadonlyMap<string, Uint8Array>): [string, string][] =>
    [...state]
      .filter(([key]) => /wednesday-full\/(?:data|plan|index|rejects)/.test(key))
      .map(([key, body]): [string, string] => [key, Buffer.from(body).toString("base64")])
      .toSorted(([a], [b]) => (a < b ? -1 : 1));
  const wanted = filesOf(objects);
  expect(wanted.length).toBeGreaterThan(4);
  for (const outcome of ["fail-before", "fail-after-commit"] as const) {
    for (const key of [...objects.keys()].filter((name) => name.startsWith("runs/wednesday-full/"))) {
      const state = new Map(before);
      const dying = new ScriptedStore({ objects: state }).script({
        op: "create",
        keyMatches: new RegExp(key),
        outcome,
      });
      await expect(compactRun({ store: dying, run: "wednesday" })).rejects.toMatchObject({ code: "store_unavailable" });
      const manifest = await compactRun({ store: new ScriptedStore({ objects: state }), run: "wednesday" });
      expect(manifest.run).toBe("wednesday-full");
      expect(filesOf(state), `${outcome} ${key}`).toEqual(wanted);
    }
  }
});

test("compacting an older delta does not turn latest back", async () => {
  const { store } = await threeNights();
  await compactRun({ store, run: "tuesday" });
  expect(await latestOf(store)).toBe("wednesday");
});

test("a full run has nothing to compact, and a damaged chain is refused", async () => {
  const { store, objects } = await threeNights();
  await expect(compactRun({ store, run: "monday" })).rejects.toMatchObject({ code: "bad_usage" });
  const victim = [...objects.keys()].find((key) => key.startsWith("runs/monday/data/"))!;
  objects.get(victim)!.fill(1, 900, 901);
  await expect(compactRun({ store, run: "wednesday" })).rejects.toMatchObject({
    code: "object_corrupt",
    message: expect.stringContaining(victim),
  });
});

test("nothing of a chain that is needed may go, whatever its age", async () => {
  const { store } = await threeNights();
  expect(await garbageOf(store, Date.now() + 1000 * DAY_MS)).toEqual([]);
});

test("a superseded chain may go, newest first; what a kept delta needs stays", async () => {
  const { store, objects } = await threeNights();
  await compactRun({ store, run: "tuesday" });
  // Wednesday builds on tuesday itself and not on what it was compacted to.
  expect(await garbageOf(store)).toEqual([]);
  await compactRun({ store, run: "wednesday" });
  const garbage = await garbageOf(store);
  expect(garbage.map(({ run, why }) => `${run} ${why}`)).toEqual([
    "wednesday superseded",
    "tuesday superseded",
    "monday superseded",
    "tuesday-full superseded",
  ]);
  expect(garbage.reduce((sum, { objects: count }) => sum + count, 0)).toBeGreaterThan(12);
  for (const { run } of garbage) await removeRun(store, run);
  expect([...objects.keys()].filter((key) => /^runs\/(?:monday|tuesday|tuesday-full|wednesday)\//.test(key))).toEqual(
    [],
  );
  expect(await verifyRun({ store, run: "wednesday-full" })).toMatchObject({ ok: true });
  expect(await garbageOf(store)).toEqual([]);
});

test("a run that could not be a delta supersedes the one it would have built on; other corpora's runs stay", async () => {
  const { store, objects } = await threeNights();
  await runAll(store, { run: "elsewhere", corpus: [["x", "another corpus"]] });
  await runAll(store, { run: "longer", corpus: monday, since: "wednesday", options: { ...OPTIONS, maxTokens: 24 } });
  expect((await garbageOf(store)).map(({ run }) => run)).toEqual(["wednesday", "tuesday", "monday"]);
  const record = JSON.parse(Buffer.from(objects.get(runKeys("longer").record)!).toString());
  objects.set(runKeys("longer").record, Buffer.from(JSON.stringify({ ...record, inputs: ["another"] })));
  expect(await garbageOf(store)).toEqual([]);
});

test("runs that were begun and never sealed may go after their time, with a base they still need kept before", async () => {
  const { store } = await threeNights();
  await compactRun({ store, run: "wednesday" });
  await plan(store, { run: "stopped", corpus: monday, since: "tuesday" });
  expect((await garbageOf(store)).map(({ run }) => run)).toEqual(["wednesday"]);
  const later = await garbageOf(store, Date.now() + 31 * DAY_MS);
  expect(later.map(({ run, why }) => `${run} ${why}`)).toEqual([
    "stopped abandoned",
    "wednesday superseded",
    "tuesday superseded",
    "monday superseded",
  ]);
});

test("a removal killed anywhere is found and finished, and the id is used up", async () => {
  const { store, objects } = await threeNights();
  await compactRun({ store, run: "wednesday" });
  const before = new Map(objects);
  const keys = [...objects.keys()].filter((key) => key.startsWith("runs/wednesday/"));
  for (const key of keys) {
    const state = new Map(before);
    const dying = new ScriptedStore({ objects: state }).script({
      op: "remove",
      keyMatches: new RegExp(`${key}$`),
      outcome: "fail-before",
    });
    await expect(removeRun(dying, "wednesday")).rejects.toMatchObject({ code: "store_unavailable" });
    expect(state.has(runKeys("wednesday").record)).toBe(true);
    const again = new ScriptedStore({ objects: state });
    expect(await garbageOf(again)).toContainEqual(expect.objectContaining({ run: "wednesday", why: "half-removed" }));
    await removeRun(again, "wednesday");
    expect([...state.keys()].filter((each) => each.startsWith("runs/wednesday/"))).toEqual([]);
    await expect(plan(again, { run: "wednesday", corpus: monday })).rejects.toMatchObject({ code: "run_conflict" });
  }
});

test("a compaction under way keeps what it is made from", async () => {
  const { store, objects } = await threeNights();
  store.script({ op: "create", keyMatches: /wednesday-full\/manifest/, outcome: "fail-before" });
  await expect(compactRun({ store, run: "wednesday" })).rejects.toMatchObject({ code: "store_unavailable" });
  expect(
    runRecordSchema.parse(JSON.parse(Buffer.from(objects.get("runs/wednesday-full/run.json")!).toString())),
  ).toMatchObject({ lineage: { kind: "compact", supersedes: "wednesday" } });
  expect(await garbageOf(store)).toEqual([]);
});
