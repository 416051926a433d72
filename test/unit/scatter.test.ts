/** From a padded batch's outputs to rows, and the memory in between. */
import { expect, test } from "vitest";
import { Scatterer, type BatchOutputs } from "../../models/onnx/scatter.ts";
import { OutputSlots } from "../../models/onnx/output-slots.ts";
import { allocateShard, BROKEN, type RowRef } from "../../src/core/batch.ts";
import type { Head } from "../../src/core/contracts.ts";
import { toHalf } from "../../src/core/half.ts";
import { openMini } from "../fixtures/mini.ts";

const { manifest } = await openMini();
const DIM = 4;
const LONGEST = 5;

function shardOf(lengths: readonly number[], heads: readonly Head[]): RowRef[] {
  const shard = allocateShard({ lengths, dim: DIM, heads });
  shard.ids.forEach((_, i) => (shard.ids[i] = 10 + i));
  return lengths.map((_, row) => ({ shard, row }));
}

function outputsOf(heads: readonly [Head, Float32Array | Uint16Array][]): BatchOutputs {
  return { longest: LONGEST, heads: new Map(heads) };
}

test("what is in the padding does not break a row, and what is in a row does", () => {
  const rows = shardOf([3, 5], ["sparse", "colbert"]);
  const sparse = new Float32Array(2 * LONGEST).fill(0.5);
  const colbert = new Float32Array(2 * (LONGEST - 1) * DIM).fill(0.25);
  sparse.fill(NaN, 3, LONGEST);
  colbert.fill(Infinity, 2 * DIM, (LONGEST - 1) * DIM);
  const scatterer = new Scatterer(manifest);
  scatterer.scatter(
    rows,
    outputsOf([
      ["sparse", sparse],
      ["colbert", colbert],
    ]),
  );
  const { shard } = rows[0]!;
  expect([...shard.broken]).toEqual([0, 0]);
  expect([...shard.sparseCounts!]).toEqual([3, 5]);
  expect(shard.colbert!.every((value) => value === 0.25)).toBe(true);
  colbert[(LONGEST - 1) * DIM] = -Infinity;
  scatterer.scatter(rows, outputsOf([["colbert", colbert]]));
  expect([...shard.broken]).toEqual([0, BROKEN.nonFinite]);
});

test("halves are what they stand for", () => {
  const [row] = shardOf([3], ["dense"]) as [RowRef];
  new Scatterer(manifest).scatter([row], outputsOf([["dense", toHalf(Float32Array.of(0.5, -0.5, 0.5, -0.5))]]));
  expect([...row.shard.dense!]).toEqual([0.5, -0.5, 0.5, -0.5]);
});

test("outputs land whole in shared memory, and a third batch waits for the first or second to be brought away", async () => {
  const slots = new OutputSlots();
  const values = (fill: number, size: number): BatchOutputs =>
    outputsOf([
      ["sparse", new Uint16Array(size).fill(fill)],
      ["dense", new Float32Array(size).fill(fill)],
    ]);
  const first = await slots.fill(values(1, 3));
  const second = await slots.fill(values(2, 100));
  let third: Awaited<ReturnType<OutputSlots["fill"]>> | null = null;
  const filled = slots.fill(values(3, 7)).then((at) => (third = at));
  await new Promise((resolve) => setImmediate(resolve));
  expect(third).toBeNull();
  slots.free(first.slot);
  expect((await filled).slot).toBe(first.slot);
  expect(second.slot).not.toBe(first.slot);
  for (const [{ outputs }, fill, size] of [
    [second, 2, 100],
    [await filled, 3, 7],
  ] as const)
    for (const head of outputs.heads.values()) {
      expect(head.buffer).toBeInstanceOf(SharedArrayBuffer);
      expect([...head]).toEqual(Array.from({ length: size }, () => fill));
    }
});
