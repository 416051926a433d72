/** Equal texts go through the model once, and each has its row. */
import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { decodeStagedShard } from "../../src/arrow/staged.ts";
import type { RunRecord } from "../../src/core/contracts.ts";
import { jobId, runKeys, windowOfShard } from "../../src/core/layout.ts";
import { readRun } from "../../src/run/read-plan.ts";
import { sealRun } from "../../src/run/seal.ts";
import { verifyRun } from "../../src/run/verify.ts";
import { HeldShard } from "../../workers/held-shard.ts";
import { type Corpus, effectiveRows, OPTIONS, plan, runAll } from "../fixtures/pretend-fleet.ts";
import { ScriptedStore } from "../fixtures/scripted-store.ts";

const TEXTS = ["alpha", "beta", "gamma", "delta", "epsilon"];
/** Each text forty times, all of about one length, in turn. */
const corpus: Corpus = Array.from({ length: 200 }, (_, i) => [`d${i}`, TEXTS[i % TEXTS.length]!]);
const options = { ...OPTIONS, dedupe: true as const };

async function heldShards(store: ScriptedStore, run: string): Promise<{ shards: HeldShard[]; record: RunRecord }> {
  const { queue } = await plan(store, { run, corpus, options });
  const record = await readRun(store, run);
  const shards = await Promise.all(
    [...queue.jobs.values()].map(async (payload) => {
      const { shard, start, end } = payload;
      const bytes = await store.read({ key: runKeys(run).staged(windowOfShard(shard)), range: { start, end } });
      const rows = decodeStagedShard({ ...payload, bytes });
      return new HeldShard({ id: jobId(run, shard), payload, stalls: 0 }, record, rows);
    }),
  );
  return { shards, record };
}

test("each text is embedded once, each document has its row, and rows of one text have one vector", async () => {
  const store = new ScriptedStore();
  const { shards } = await heldShards(store, "r");
  let computed = 0;
  for (const shard of shards) {
    const { dense, dim, offsets, ids } = shard.buffers;
    for (const { row } of shard.rowRefs) {
      computed++;
      const digest = createHash("sha512")
        .update(ids.subarray(offsets[row], offsets[row + 1]).join())
        .digest();
      const vector = Float32Array.from({ length: dim }, (_, i) => digest[i % digest.length]! + 1);
      const norm = Math.hypot(...vector);
      dense!.set(
        vector.map((value) => value / norm),
        row * dim,
      );
    }
    const rows = shard.rowRefs.length;
    shard.finish(rows, { paddedTokens: shard.stats.realTokens, batches: 1, deviceMs: 1, idleMs: 0, idle: {} });
    expect(shard.isComplete).toBe(true);
    await shard.commit(store);
  }
  const outcome = await sealRun({ store, run: "r", keepStaging: false });
  // A text whose rows fall into two shards is embedded in both.
  expect(computed).toBeGreaterThanOrEqual(TEXTS.length);
  expect(computed).toBeLessThanOrEqual(TEXTS.length + shards.length - 1);
  expect(outcome).toMatchObject({ kind: "sealed", manifest: { totals: { rows: 200, documents: 200 } } });
  expect(await verifyRun({ store, run: "r" })).toMatchObject({ ok: true, rows: 200, duplicates: 0, badNorm: 0 });
  const rows = await effectiveRows(store, "r");
  expect(rows.size).toBe(200);
  expect(new Set(rows.values()).size).toBe(TEXTS.length);
});

test("without it every row is embedded, and it is no reason for a full run", async () => {
  const store = new ScriptedStore();
  await runAll(store, { run: "plain", corpus });
  const next = await plan(store, { run: "next", corpus, since: "plain", options });
  expect(next.closed).toMatchObject({ unchanged: 200, rows: 0 });
});
