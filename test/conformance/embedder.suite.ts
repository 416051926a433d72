/** What every `Embedder` must do, whatever stands behind it. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { allocateShard, type RowRef, type ShardBuffers } from "../../src/core/batch.ts";
import { ALL_HEADS, type Head } from "../../src/core/contracts.ts";
import type { Embedder } from "../../src/core/ports.ts";

export const DIM = 256;
const TOLERANCE = 1e-5;

/** A shard of mini's: rows of made-up ids, `<s>` first and `</s>` last. */
export function shardOf(lengths: readonly number[], heads: readonly Head[] = ALL_HEADS, seed = 1): ShardBuffers {
  const shard = allocateShard({ lengths, dim: DIM, heads });
  lengths.forEach((length, row) => {
    const start = shard.offsets[row]!;
    for (let token = 1; token < length - 1; token++)
      shard.ids[start + token] = 4 + ((row * 7919 + token * 104_729 + seed * 31) % 19_000);
    shard.ids[start] = 0;
    shard.ids[start + length - 1] = 2;
  });
  return shard;
}

export function rowsOf(shard: ShardBuffers): RowRef[] {
  return Array.from({ length: shard.rows }, (_, row) => ({ shard, row }));
}

function expectSame(found: Float32Array | null, wanted: Float32Array | null): void {
  expect(found === null).toBe(wanted === null);
  found?.forEach((value, i) => expect(Math.abs(value - wanted![i]!)).toBeLessThan(TOLERANCE));
}

export function embedderSuite(name: string, open: () => Promise<Embedder>): void {
  describe(name, () => {
    let embedder: Embedder;
    beforeAll(async () => {
      embedder = await open();
    });
    afterAll(() => embedder.close());

    test("a batch gives each row what it gives it alone", async () => {
      const lengths = [3, 40, 17, 5];
      const [together, alone] = [shardOf(lengths), shardOf(lengths)];
      await embedder.embed({ rows: rowsOf(together) });
      for (const row of rowsOf(alone)) await embedder.embed({ rows: [row] });
      expectSame(together.dense, alone.dense);
      expectSame(together.colbert, alone.colbert);
      expect(together.sparseCounts).toEqual(alone.sparseCounts);
      expectSame(together.sparseValues, alone.sparseValues);
      for (const row of lengths.keys())
        expect(Math.hypot(...together.dense!.subarray(row * DIM, (row + 1) * DIM))).toBeCloseTo(1, 4);
    });

    test("rows of several shards with other heads each go through together", async () => {
      const [all, dense, single] = [
        shardOf([9, 4], ALL_HEADS, 2),
        shardOf([30], ["dense"], 3),
        shardOf([30], ["dense"], 3),
      ];
      await embedder.embed({ rows: [...rowsOf(dense), rowsOf(all)[1]!, rowsOf(all)[0]!] });
      await embedder.embed({ rows: rowsOf(single) });
      expectSame(dense.dense, single.dense);
      expect(all.sparseCounts!.every((count) => count > 0)).toBe(true);
      expect(dense.colbert).toBeNull();
    });

    test("it says when it worked, and two batches in flight come in order", async () => {
      const [first, second] = [shardOf([64, 64, 64], ["dense"]), shardOf([3], ["dense"])];
      const before = performance.timeOrigin + performance.now();
      const reports = await Promise.all([first, second].map((shard) => embedder.embed({ rows: rowsOf(shard) })));
      const [one, two] = reports as [(typeof reports)[0], (typeof reports)[0]];
      expect(one.startedAtMs).toBeGreaterThan(before - 5);
      expect(one.finishedAtMs).toBeGreaterThanOrEqual(one.startedAtMs);
      expect(two.startedAtMs).toBeGreaterThanOrEqual(one.startedAtMs);
    });

    test("it pads to the longest row or a little more, and never beyond the model", () => {
      for (const longest of [3, 64, 511, 4097, 8192]) {
        const padded = embedder.paddedLength(longest);
        expect(padded).toBeGreaterThanOrEqual(longest);
        expect(padded).toBeLessThanOrEqual(Math.min(8192, longest * 1.04));
      }
      expect(embedder.device).toMatch(/^(?:cpu|cuda:\d+|tensorrt:\d+)$/);
    });

    test("a batch that it refuses does not keep it from the next", async () => {
      const bad = shardOf([5], ["dense"]);
      bad.ids[2] = 2 ** 30;
      await expect(embedder.embed({ rows: rowsOf(bad) })).rejects.toMatchObject({ code: "inference_failed" });
      const good = shardOf([5], ["dense"]);
      await embedder.embed({ rows: rowsOf(good) });
      expect(good.broken[0]).toBe(0);
    });
  });
}
