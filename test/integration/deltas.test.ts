/** Deltas: what they build on, what becomes of producers that die, and what verify sees of a damaged chain. */
import { expect, test } from "vitest";
import { contentDifferences } from "../../src/core/content.ts";
import { findRecord } from "../../src/core/json.ts";
import { runRecordSchema } from "../../src/core/contracts.ts";
import { runKeys } from "../../src/core/layout.ts";
import { verifyRun } from "../../src/run/verify.ts";
import { type Corpus, effectiveRows, OPTIONS, plan, runAll } from "../fixtures/pretend-fleet.ts";
import { ScriptedStore } from "../fixtures/scripted-store.ts";

const LONG = "many words in a row ".repeat(20);
const monday: Corpus = Array.from({ length: 40 }, (_, i) => [`d${i}`, i % 3 === 0 ? `${LONG} ${i}` : `text ${i}`]);
/** One is changed, one is gone, one is new, and one has lost its text's tail. */
const tuesday: Corpus = [
  ...monday.filter(([id]) => id !== "d5").map(([id, text]) => [id, id === "d3" ? "short now" : text] as const),
  ["new", LONG],
];

async function lineageOf(store: ScriptedStore, run: string) {
  return (await findRecord(store, runKeys(run).record, runRecordSchema))!.lineage;
}

test("the manifest says what it is a delta of, and lists what is gone", async () => {
  const store = new ScriptedStore();
  const base = await runAll(store, { run: "monday", corpus: monday });
  expect(base).toMatchObject({ kind: "full" });
  const delta = await runAll(store, { run: "tuesday", corpus: tuesday, since: "latest" });
  expect(delta).toMatchObject({ kind: "delta", base: "monday", deletes: [{ key: "runs/tuesday/deletes.arrow" }] });
  expect(delta.totals).toMatchObject({ documents: 40, unchanged: 38 });
  expect(await verifyRun({ store, run: "tuesday" })).toMatchObject({ ok: true, base: "monday", findings: [] });
});

test("the same corpus again is a delta of nothing", async () => {
  const store = new ScriptedStore();
  await runAll(store, { run: "monday", corpus: monday });
  const again = await runAll(store, { run: "again", corpus: monday, since: "latest" });
  expect(again).toMatchObject({ kind: "delta", files: [], deletes: [], totals: { rows: 0, unchanged: 40 } });
  expect(await verifyRun({ store, run: "again" })).toMatchObject({ ok: true, rows: 0 });
});

test("a producer of a delta, killed at any call to the store and run again, ends as if nothing had happened", async () => {
  const objects = new Map<string, Uint8Array>();
  const whole = new ScriptedStore({ objects });
  await runAll(whole, { run: "monday", corpus: monday });
  const before = new Map(objects);
  await plan(whole, { run: "tuesday", corpus: tuesday, since: "monday" });
  const normal = (state: ReadonlyMap<string, Uint8Array>): unknown =>
    [...state]
      .map(([key, body]) => [
        key,
        Buffer.from(body)
          .toString("latin1")
          .replace(/"createdAt": "[^"]*"/, ""),
      ])
      .toSorted(([a], [b]) => (a! < b! ? -1 : 1));
  const calls = new ScriptedStore({ objects: new Map(before) });
  await plan(calls, { run: "tuesday", corpus: tuesday, since: "monday" });
  for (const outcome of ["fail-before", "fail-after-commit"] as const) {
    const creates = calls.calls.filter(({ op }) => op === "create");
    for (const { key } of creates) {
      const state = new Map(before);
      const dying = new ScriptedStore({ objects: state }).script({
        op: "create",
        keyMatches: new RegExp(key),
        outcome,
      });
      await expect(plan(dying, { run: "tuesday", corpus: tuesday, since: "monday" })).rejects.toMatchObject({
        code: "store_unavailable",
      });
      await plan(new ScriptedStore({ objects: state }), { run: "tuesday", corpus: tuesday, since: "monday" });
      expect(normal(state), `${outcome} ${key}`).toEqual(normal(objects));
    }
  }
});

test("a continued run keeps the base it began with, whatever was sealed since", async () => {
  const store = new ScriptedStore();
  await runAll(store, { run: "monday", corpus: monday });
  await plan(store, { run: "tuesday", corpus: tuesday, since: "latest" });
  await runAll(store, { run: "other", corpus: [["x", "of another corpus"]] });
  const delta = await runAll(store, { run: "tuesday", corpus: tuesday, since: "latest" });
  expect(delta).toMatchObject({ kind: "delta", base: "monday" });
  await expect(plan(store, { run: "tuesday", corpus: tuesday })).rejects.toMatchObject({ code: "run_conflict" });
  await expect(plan(store, { run: "tuesday", corpus: tuesday, since: "other" })).rejects.toMatchObject({
    code: "run_conflict",
    message: expect.stringContaining("--since latest"),
  });
});

test.each([
  ["another model", { model: { ...OPTIONS.model, revision: "2" } }, /model\.revision is ".*" there and "2" here/],
  ["another length", { maxTokens: 24 }, /maxTokens is 16 there and 24 here/],
  ["an option that only one of them knows", { headingPath: true }, /headingPath is unset there and true here/],
])("%s makes a full run, and the run says why", async (_, change, because) => {
  const store = new ScriptedStore();
  await runAll(store, { run: "monday", corpus: monday });
  const options = { ...OPTIONS, ...change };
  expect(contentDifferences(OPTIONS, options).join()).toMatch(because);
  if ("headingPath" in change) return;
  await plan(store, { run: "tuesday", corpus: tuesday, since: "latest", options });
  expect(await lineageOf(store, "tuesday")).toMatchObject({
    kind: "full",
    supersedes: "monday",
    because: expect.stringMatching(because),
  });
});

test("where a text is found is no reason for a full run", async () => {
  const store = new ScriptedStore();
  await runAll(store, { run: "monday", corpus: monday });
  const options = { ...OPTIONS, textFields: ["body"], maxDocumentBytes: 2000 };
  await plan(store, { run: "tuesday", corpus: tuesday, since: "latest", options });
  expect(await lineageOf(store, "tuesday")).toEqual({ kind: "delta", since: "latest", base: "monday" });
});

test("with nothing sealed, the first night is a full run", async () => {
  const store = new ScriptedStore();
  await plan(store, { run: "monday", corpus: monday, since: "latest" });
  expect(await lineageOf(store, "monday")).toMatchObject({
    kind: "full",
    because: "no run of the store is sealed yet",
  });
});

test("a base that is not there, or not sealed, is refused with the cure", async () => {
  const store = new ScriptedStore();
  await plan(store, { run: "open", corpus: monday });
  const since = (run: string) => plan(store, { run: "tuesday", corpus: tuesday, since: run });
  await expect(since("nowhere")).rejects.toMatchObject({ code: "run_unknown" });
  await expect(since("open")).rejects.toMatchObject({
    code: "run_incomplete",
    cure: expect.stringContaining("embedfleet status open"),
  });
});

test("a damaged index or list is found by producers and by verify, naming the file", async () => {
  const objects = new Map<string, Uint8Array>();
  const store = new ScriptedStore({ objects });
  await runAll(store, { run: "monday", corpus: monday });
  await runAll(store, { run: "tuesday", corpus: tuesday, since: "latest" });
  const damage = (key: string): void => void objects.get(key)!.fill(7, 300, 301);
  damage("runs/tuesday/deletes.arrow");
  damage("runs/monday/index/w000000.arrow");
  const { ok, findings } = await verifyRun({ store, run: "tuesday" });
  expect({ ok, findings }).toEqual({ ok: false, findings: [expect.stringContaining("runs/tuesday/deletes.arrow")] });
  expect((await verifyRun({ store, run: "monday" })).findings).toEqual([
    expect.stringContaining("runs/monday/index/w000000.arrow"),
  ]);
  await expect(plan(store, { run: "x", corpus: tuesday, since: "monday" })).rejects.toMatchObject({
    code: "object_corrupt",
    message: expect.stringContaining("index/w000000.arrow"),
  });
  await expect(effectiveRows(store, "tuesday")).rejects.toMatchObject({ code: "object_corrupt" });
});

test("verify sees that a base is gone", async () => {
  const objects = new Map<string, Uint8Array>();
  const store = new ScriptedStore({ objects });
  await runAll(store, { run: "monday", corpus: monday });
  await runAll(store, { run: "tuesday", corpus: tuesday, since: "latest" });
  for (const key of objects.keys()) if (key.startsWith("runs/monday/")) objects.delete(key);
  const { ok, findings } = await verifyRun({ store, run: "tuesday" });
  expect({ ok, findings }).toEqual({ ok: false, findings: [expect.stringContaining('no run "monday"')] });
});
