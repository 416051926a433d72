/** A run of which nothing is planned does not use up its id: the corrected command begins it anew. */
import { randomUUID } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, inject, test } from "vitest";
import { openStore } from "../../src/adapters/open-store.ts";
import { hasCode } from "../../src/core/errors.ts";
import { enqueueCorpus, type EnqueueParams } from "../../src/fleet/enqueue-corpus.ts";
import { openRun } from "../../src/run/open-run.ts";
import { readClosed, readRun } from "../../src/run/read-plan.ts";
import { makeCorpus } from "../fixtures/made-corpus.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

const TABLE = fileURLToPath(new URL("../fixtures/files/plain.parquet", import.meta.url));

interface Ground {
  readonly folder: string;
  readonly out: string;
  enqueue(given: Partial<EnqueueParams>): Promise<unknown>;
}

async function ground(): Promise<Ground> {
  const [folder, fleet] = [await tempFolder(), randomUUID()];
  const out = join(folder, "out");
  const common = { out, redis: inject("redisUrl"), fleet, run: "q", model: "mini", maxTokens: 64, producerThreads: 1 };
  return { folder, out, enqueue: (given) => enqueueCorpus({ inputs: [TABLE], ...common, ...given }) };
}

test("a command with a wrong option or input is corrected under the same id; once something is planned, it is refused", async () => {
  const { folder, out, enqueue } = await ground();
  const store = await openStore(out);
  const never = new AbortController();
  never.abort(new Error("stopped before the first document"));
  await expect(enqueue({ signal: never.signal, maxTokens: 32 })).rejects.toThrow("stopped before");
  const first = await readRun(store, "q");
  expect(first).toMatchObject({ unplanned: true, options: { maxTokens: 32 } });
  // The same command would continue it.
  await expect(enqueue({ signal: never.signal, maxTokens: 32 })).rejects.toThrow("stopped before");
  expect(await readRun(store, "q")).toEqual(first);

  const corpus = join(folder, "corpus.jsonl");
  await writeFile(corpus, makeCorpus({ documents: 5, seed: 1 }));
  await enqueue({ inputs: [corpus], heads: ["dense"] });
  const planned = await readRun(store, "q");
  expect(planned).toMatchObject({ inputs: [corpus], options: { maxTokens: 64, heads: ["dense"] } });
  expect(planned.unplanned).toBeUndefined();
  await expect(enqueue({ inputs: [corpus] })).rejects.toMatchObject({ code: "run_conflict" });
  expect(await readRun(store, "q")).toEqual(planned);
});

test("an empty corpus is a plan, too, and so are shared parts", async () => {
  for (const given of [{ inputs: ["empty.jsonl"] }, { distributed: true }]) {
    const { folder, out, enqueue } = await ground();
    const corpus = join(folder, "empty.jsonl");
    await writeFile(corpus, "");
    await enqueue({ ...given, inputs: [corpus] }).catch(() => {});
    expect((await readRun(await openStore(out), "q")).unplanned).toBeUndefined();
    await expect(enqueue({ ...given, inputs: [corpus], maxTokens: 32 })).rejects.toMatchObject({
      code: "run_conflict",
    });
  }
});

test("of two commands at once with different options, one plans the run and the other is refused", async () => {
  const { folder, out, enqueue } = await ground();
  const corpus = join(folder, "corpus.jsonl");
  await writeFile(corpus, makeCorpus({ documents: 30, seed: 2 }));
  const choices = [16, 24, 32, 48];
  const outcomes = await Promise.allSettled(choices.map((maxTokens) => enqueue({ inputs: [corpus], maxTokens })));
  const won = choices.filter((_, i) => outcomes[i]!.status === "fulfilled");
  expect(won).toHaveLength(1);
  for (const outcome of outcomes)
    if (outcome.status === "rejected")
      expect(hasCode(outcome.reason, "run_conflict"), String(outcome.reason)).toBe(true);
  const store = await openStore(out);
  expect(await readRun(store, "q")).toMatchObject({ options: { maxTokens: won[0] } });
  expect(await readClosed(store, "q")).toMatchObject({ documents: 30 });
  // Whoever plans the same into a store of its own gets the same windows.
  const alone = await ground();
  await alone.enqueue({ inputs: [corpus], maxTokens: won[0]! });
  const window = (folder: string) => readFile(join(folder, "runs/q/plan/w000000.json"), "utf8");
  expect(await window(out)).toBe(await window(alone.out));
});

test("a run of an earlier version, or one that was fixed at once, is not begun anew", async () => {
  const { out, enqueue } = await ground();
  const never = new AbortController();
  never.abort(new Error("stopped"));
  await expect(enqueue({ signal: never.signal, run: "template" })).rejects.toThrow("stopped");
  const store = await openStore(out);
  const { options } = await readRun(store, "template");
  await openRun(store, { run: "q", inputs: ["before"], options });
  await expect(enqueue({ maxTokens: 32 })).rejects.toMatchObject({ code: "run_conflict" });
});
