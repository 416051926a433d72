/** Whatever happens to a corpus, night after night: a chain of deltas holds the rows of a full run. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { readDeletes } from "../../src/run/read-lists.ts";
import { type Corpus, effectiveRows, runAll, sorted } from "../fixtures/pretend-fleet.ts";
import { ScriptedStore } from "../fixtures/scripted-store.ts";

/** Few ids and texts, so that documents come back, change back and are doubled within one corpus. */
const id = fc.constantFrom("a", "b", "c", "d", "e", "f");
const text = fc.constantFrom("one", "two words", "drei", "many words ".repeat(20), "灯塔 ".repeat(30), "x ".repeat(60));
const corpus: fc.Arbitrary<Corpus> = fc.array(fc.tuple(id, text), { maxLength: 8 });

test("the effective rows of every night are those of a full run of that night's corpus", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(corpus, { minLength: 1, maxLength: 5 }), async (nights) => {
      const store = new ScriptedStore();
      for (const [night, documents] of nights.entries()) {
        const run = `night-${night}`;
        await runAll(store, { run, corpus: documents, since: "latest" });
        const scratch = new ScriptedStore();
        await runAll(scratch, { run: "full", corpus: documents });
        const rows = await effectiveRows(store, run);
        expect(sorted(rows)).toEqual(sorted(await effectiveRows(scratch, "full")));
      }
    }),
    { numRuns: 40 },
  );
});

test("a delta takes away only rows that its base has, each once, and plans only what is not there", async () => {
  await fc.assert(
    fc.asyncProperty(corpus, corpus, async (before, after) => {
      const store = new ScriptedStore();
      await runAll(store, { run: "base", corpus: before });
      const delta = await runAll(store, { run: "delta", corpus: after, since: "base" });
      const had = await effectiveRows(store, "base");
      const taken: string[] = [];
      for await (const { ids, chunks } of readDeletes(store, delta))
        ids.forEach((each, i) => taken.push(`${each}\u0000${chunks[i]}`));
      expect(taken.filter((key) => !had.has(key))).toEqual([]);
      expect(new Set(taken).size).toBe(taken.length);
      const has = await effectiveRows(store, "delta");
      expect(has.size).toBe(had.size - taken.length + delta.totals.rows);
      const first = new Map(before.toReversed());
      const now = new Map(after.toReversed());
      const same = [...now].filter(([each, words]) => first.get(each) === words);
      expect(delta.totals.unchanged).toBe(same.length);
    }),
    { numRuns: 60 },
  );
});
