/** Runs beyond their guards: what holds them, what a delta keeps of rejected documents, and how they are accepted. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Guards } from "../../src/core/contracts.ts";
import { DEFAULT_GUARDS, exceeds } from "../../src/core/guards.ts";
import { acceptRun, heldFault } from "../../src/run/hold.ts";
import { readProgress } from "../../src/run/run-progress.ts";
import { sealRun } from "../../src/run/seal.ts";
import { verifyRun } from "../../src/run/verify.ts";
import { type Corpus, effectiveRows, plan, runAll, runUnsealed, sorted } from "../fixtures/pretend-fleet.ts";
import { ScriptedStore } from "../fixtures/scripted-store.ts";

const monday: Corpus = Array.from({ length: 50 }, (_, i) => [`d${i}`, `text ${i}`]);
const guards: Guards = DEFAULT_GUARDS;

async function sealed(store: ScriptedStore, run: string) {
  return sealRun({ store, run, keepStaging: false });
}

async function latestOf(store: ScriptedStore): Promise<string> {
  return (JSON.parse(Buffer.from(await store.read({ key: "latest.json" })).toString()) as { run: string }).run;
}

describe("a delta over", () => {
  test.each<[string, Corpus, string]>([
    ["a corpus whose every document is rejected", monday.map(([id]) => [id, ""]), "50 of 50 documents were rejected"],
    ["an empty corpus", [], "50 of the base's 50 documents"],
    ["a corpus that lost a fifth", monday.slice(10), "10 of the base's 50 documents"],
    ["another corpus", monday.map(([id, text]) => [`x${id}`, text]), "50 of the base's 50 documents"],
  ])("%s is held, and the index stays as it was", async (_, tuesday, why) => {
    const store = new ScriptedStore();
    await runAll(store, { run: "monday", corpus: monday, guards });
    await runUnsealed(store, { run: "tuesday", corpus: tuesday, since: "latest", guards });
    const outcome = await sealed(store, "tuesday");
    if (outcome.kind !== "held") throw new Error(outcome.kind);
    expect((await heldFault(store, outcome)).message).toContain(why);
    expect(await latestOf(store)).toBe("monday");
    const report = await readProgress({ store, run: "tuesday", queue: null });
    expect(report).toMatchObject({ state: "held", held: expect.stringContaining(why) });
    // The next night builds on what was sealed.
    const wednesday = await runAll(store, { run: "wednesday", corpus: monday, since: "latest", guards });
    expect(wednesday).toMatchObject({ base: "monday", totals: { unchanged: 50, deletes: 0 } });
  });

  test("a corpus within the limits is sealed", async () => {
    const store = new ScriptedStore();
    await runAll(store, { run: "monday", corpus: monday, guards });
    const tuesday = await runAll(store, { run: "tuesday", corpus: monday.slice(5), since: "latest", guards });
    expect(tuesday.totals.deletes).toBe(5);
  });
});

test("a held run that is accepted is sealed, as often as it is accepted", async () => {
  const store = new ScriptedStore();
  await runAll(store, { run: "monday", corpus: monday, guards });
  await runUnsealed(store, { run: "tuesday", corpus: monday.slice(40), since: "latest", guards });
  expect(await acceptRun(store, "tuesday")).toMatchObject({ guard: "maxDeletes", found: 40, of: 50 });
  expect(await acceptRun(store, "tuesday")).toBeNull();
  expect(await sealed(store, "tuesday")).toMatchObject({ kind: "sealed" });
  expect(await latestOf(store)).toBe("tuesday");
  expect(await verifyRun({ store, run: "tuesday" })).toMatchObject({ ok: true });
  expect((await effectiveRows(store, "tuesday")).size).toBe((await effectiveRows(store, "monday")).size / 5);
});

test("a run whose corpus was not read to the end cannot be accepted", async () => {
  const store = new ScriptedStore();
  await runUnsealed(store, { run: "monday", corpus: monday, guards });
  await store.remove({ key: "runs/monday/plan/closed.json" });
  await expect(acceptRun(store, "monday")).rejects.toMatchObject({ code: "run_incomplete" });
});

test("runs of earlier versions have no guards, and nothing holds them", async () => {
  const store = new ScriptedStore();
  await runAll(store, { run: "monday", corpus: monday });
  const { closed } = await plan(store, { run: "tuesday", corpus: [], since: "latest" });
  expect(closed).not.toHaveProperty("base");
  expect(await sealed(store, "tuesday")).toMatchObject({ kind: "sealed" });
});

test("rows of documents that are rejected now stay, whatever became of the others", async () => {
  const change = fc.constantFrom("same", "changed", "rejected", "gone", "rejected, then there", "there twice");
  await fc.assert(
    fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 12 }), async (changes) => {
      const store = new ScriptedStore();
      const before: Corpus = changes.map((_, i) => [`d${i}`, `text ${i}`]);
      const after: Corpus = before.flatMap(([id, text], i): Corpus => {
        switch (changes[i]) {
          case "changed":
            return [[id, `${text} changed`]];
          case "rejected":
            return [[id, " "]];
          case "gone":
            return [];
          case "rejected, then there":
            return [
              [id, ""],
              [id, `${text} changed`],
            ];
          case "there twice":
            return [
              [id, text],
              [id, ""],
            ];
          default:
            return [[id, text]];
        }
      });
      await runAll(store, { run: "base", corpus: before });
      await runAll(store, { run: "delta", corpus: after, since: "base" });
      const kept = before.filter((_, i) => changes[i] === "rejected");
      const readable = after.filter(([, text]) => text.trim() !== "");
      await runAll(store, { run: "full", corpus: [...readable, ...kept] });
      expect(sorted(await effectiveRows(store, "delta"))).toEqual(sorted(await effectiveRows(store, "full")));
    }),
    { numRuns: 25 },
  );
});

test.each([
  [0, 0, 0, false],
  [0, 1, 10, true],
  [5, 5, 10, false],
  [5, 6, 10, true],
  ["10%", 5, 50, false],
  ["10%", 6, 50, true],
  ["0%", 1, 50, false],
  ["0%", 2, 50, true],
  ["50%", 1, 1, true],
  ["50%", 1, 2, false],
  ["50%", 2, 3, true],
  ["100%", 3, 3, false],
  ["0.5%", 2, 300, true],
] as const)("a limit of %s: %d of %d", (limit, found, of, expected) => {
  expect(exceeds(limit, found, of)).toBe(expected);
});
