/** Runs are of one model: by the weights' digest, and by that of its setup where a run's record has one. */
import { expect, test } from "vitest";
import { contentDifferences } from "../../src/core/content.ts";
import type { ModelRef } from "../../src/core/contracts.ts";
import { openRun } from "../../src/run/open-run.ts";
import { Loader } from "../../workers/loader.ts";
import { runOptions } from "../fixtures/run-options.ts";
import { ScriptedStore } from "../fixtures/scripted-store.ts";

const before: ModelRef = { id: "m", revision: "1", sha256: "a".repeat(64), dim: 4, maxTokens: 64 };
const now: ModelRef = { ...before, setupSha256: "b".repeat(64) };
const other: ModelRef = { ...before, setupSha256: "c".repeat(64) };

async function load(run: ModelRef, worker: ModelRef): Promise<unknown> {
  const store = new ScriptedStore();
  await openRun(store, { run: "r", inputs: ["x"], options: runOptions({ model: run }) });
  const loader = new Loader({ store, model: worker, precision: "fp32", heads: ["dense"], vocabSize: 9 });
  const place = { start: 0, end: 10, rows: 1, tokens: 3, longest: 3 };
  const payload = { v: 1, run: "r", shard: "w000000-s0000", ...place } as const;
  return loader.load({ id: "r-w000000-s0000", payload, stalls: 0 }).catch(({ code }: { code: string }) => code);
}

test("a worker with another setup refuses a run's jobs; one of the same gets as far as the rows", async () => {
  expect(await load(now, other)).toBe("worker_unfit");
  expect(await load(now, { ...now, sha256: "d".repeat(64) })).toBe("worker_unfit");
  for (const [run, worker] of [
    [now, now],
    [before, now],
    [now, before],
  ] as const)
    expect(await load(run, worker)).toBe("object_missing");
});

test("a run that was begun without a setup goes on, and one with another is refused", async () => {
  const store = new ScriptedStore();
  const open = (run: string, model: ModelRef) => openRun(store, { run, inputs: ["x"], options: runOptions({ model }) });
  await open("old", before);
  expect((await open("old", now)).record.options.model).toEqual(before);
  await open("new", now);
  await expect(open("new", other)).rejects.toMatchObject({ code: "run_conflict" });
});

test("a delta builds on a run of before, and not on one of another setup", () => {
  const differences = (base: ModelRef, wanted: ModelRef): string[] =>
    contentDifferences(runOptions({ model: base }), runOptions({ model: wanted }));
  expect(differences(before, now)).toEqual([]);
  expect(differences(now, now)).toEqual([]);
  expect(differences(now, other)).toEqual([expect.stringMatching(/^model\.setupSha256 is/)]);
});
