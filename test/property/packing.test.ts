import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type BatchShape, predictMs } from "../../src/core/cost-model.ts";
import { DEFAULT_PACKING, Packer, type PackingLimits, planBatches } from "../../src/core/packing.ts";
import { roundedLength } from "../../src/core/shapes.ts";

const MAX_TOKENS = 1000;
const costArbitrary = fc.record({
  batchMs: fc.double({ min: 0, max: 200, noNaN: true }),
  tokenMs: fc.double({ min: 0.01, max: 1, noNaN: true }),
  pairMs: fc.double({ min: 0, max: 0.01, noNaN: true }),
});
const limitsArbitrary: fc.Arbitrary<PackingLimits> = fc.record({
  maxBatchTokens: fc.integer({ min: 1, max: 3000 }),
  maxBatchRows: fc.integer({ min: 1, max: 40 }),
  maxBatchMs: fc.double({ min: 1, max: 3000, noNaN: true }),
  cost: costArbitrary,
  paddedLength: fc.constantFrom(
    (longest: number) => longest,
    (longest: number) => roundedLength(longest, MAX_TOKENS),
  ),
});
const lengthsArbitrary = fc.array(fc.integer({ min: 1, max: MAX_TOKENS }), { maxLength: 200 });

function limitsOf(params: Readonly<{ maxBatchTokens: number; maxBatchRows: number }>): PackingLimits {
  return { ...DEFAULT_PACKING, ...params };
}

function shapeOf(batch: readonly number[], limits: PackingLimits): BatchShape {
  return { rows: batch.length, length: limits.paddedLength(Math.max(...batch)) };
}

function costOf(batches: readonly (readonly number[])[], limits: PackingLimits): number {
  return batches.reduce((sum, batch) => sum + predictMs(limits.cost, shapeOf(batch, limits)), 0);
}

function expectWithinBudget(batch: readonly number[], limits: PackingLimits): void {
  if (batch.length === 1) return;
  const shape = shapeOf(batch, limits);
  expect(shape.rows).toBeLessThanOrEqual(limits.maxBatchRows);
  expect(shape.rows * shape.length).toBeLessThanOrEqual(limits.maxBatchTokens);
  expect(predictMs(limits.cost, shape)).toBeLessThanOrEqual(limits.maxBatchMs * (1 + 1e-9));
}

/** The usual rule: longest first, as many rows as fit. */
function greedy(lengths: readonly number[], limits: PackingLimits): number[][] {
  const batches: number[][] = [];
  for (let at = 0; at < lengths.length;) {
    const length = limits.paddedLength(lengths[at]!);
    const { batchMs } = limits.cost;
    const rowMs = predictMs(limits.cost, { rows: 1, length }) - batchMs;
    const most = Math.min(limits.maxBatchRows, limits.maxBatchTokens / length, (limits.maxBatchMs - batchMs) / rowMs);
    const rows = Math.max(1, Math.floor(most));
    batches.push(lengths.slice(at, at + rows));
    at += rows;
  }
  return batches;
}

function drain(packer: Packer<number>): number[][] {
  const batches: number[][] = [];
  for (let batch = packer.next({ flush: true }); batch !== null; batch = packer.next({ flush: true }))
    batches.push(batch);
  return batches;
}

describe("planBatches", () => {
  test("keeps the limits, and never costs more than filling greedily", () => {
    fc.assert(
      fc.property(lengthsArbitrary, limitsArbitrary, (unsorted, limits) => {
        const lengths = unsorted.toSorted((a, b) => b - a);
        const ends = planBatches(lengths, limits);
        const batches = ends.map((end, i) => lengths.slice(ends[i - 1] ?? 0, end));
        expect(batches.flat()).toEqual(lengths);
        for (const batch of batches) expectWithinBudget(batch, limits);
        expect(costOf(batches, limits)).toBeLessThanOrEqual(costOf(greedy(lengths, limits), limits) * (1 + 1e-9));
      }),
    );
  });

  test("cuts a long row off from short ones when padding costs more than a batch", () => {
    expect(planBatches([8192, 5000, 5000, 4990], DEFAULT_PACKING)).toEqual([1, 4]);
  });

  test("pads a little more where a batch of its own is dear, and cuts where attention makes padding dear", () => {
    const rows = [400, 300, 300, 300];
    const cheap = { ...DEFAULT_PACKING, cost: { batchMs: 50, tokenMs: 1, pairMs: 0 } };
    expect(planBatches(rows, cheap)).toEqual([1, 4]);
    expect(planBatches(rows, { ...cheap, cost: { ...cheap.cost, batchMs: 500 } })).toEqual([4]);
    expect(planBatches(rows, { ...cheap, cost: { batchMs: 500, tokenMs: 1, pairMs: 0.01 } })).toEqual([1, 4]);
  });

  test("of equal rows only the last batch is short", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 300 }),
        fc.integer({ min: 1, max: 40 }),
        costArbitrary,
        (rows, most, cost) => {
          const limits = { ...DEFAULT_PACKING, maxBatchRows: most, cost: { ...cost, batchMs: cost.batchMs + 1 } };
          const ends = planBatches(
            Array.from({ length: rows }, () => 10),
            limits,
          );
          const full = ends.filter((end, i) => end - (ends[i - 1] ?? 0) === Math.min(most, rows));
          expect(full.length).toBeGreaterThanOrEqual(ends.length - 1);
          expect(ends).toHaveLength(Math.ceil(rows / most));
        },
      ),
    );
  });

  test("a slow device gets smaller batches, so that it can stop soon", () => {
    const slow = { ...DEFAULT_PACKING, cost: { batchMs: 1, tokenMs: 4, pairMs: 0 }, maxBatchMs: 5000 };
    expect(
      planBatches(
        Array.from({ length: 32 }, () => 256),
        slow,
      ).slice(0, 2),
    ).toEqual([4, 8]);
  });
});

describe("Packer", () => {
  test("gives every row once, longest first, whatever the order they came in", () => {
    fc.assert(
      fc.property(lengthsArbitrary, limitsArbitrary, fc.nat(), (rows, limits, cut) => {
        const packer = new Packer<number>(limits, (row) => row);
        const at = rows.length === 0 ? 0 : cut % rows.length;
        packer.add(rows.slice(at));
        packer.add(rows.slice(0, at));
        expect(packer.pendingTokens).toBe(rows.reduce((sum, row) => sum + row, 0));
        expect(drain(packer).flat()).toEqual(rows.toSorted((a, b) => b - a));
        expect([packer.pendingRows, packer.pendingTokens]).toEqual([0, 0]);
      }),
    );
  });

  test("makes the same batches whatever the order they came in", () => {
    const shuffled = lengthsArbitrary.chain((rows) =>
      fc.tuple(fc.constant(rows), fc.shuffledSubarray(rows, { minLength: rows.length })),
    );
    fc.assert(
      fc.property(shuffled, limitsArbitrary, ([rows, others], limits) => {
        const [packer, other] = [rows, others].map((each) => {
          const made = new Packer<number>(limits, (row) => row);
          for (const row of each) made.add([row]);
          return made;
        });
        expect(drain(packer!)).toEqual(drain(other!));
      }),
    );
  });

  test("gives every row once, within the limits, when rows come while batches are taken", () => {
    fc.assert(
      fc.property(fc.array(lengthsArbitrary, { maxLength: 5 }), limitsArbitrary, (arrivals, limits) => {
        const packer = new Packer<number>(limits, (row) => row);
        const batches: number[][] = [];
        for (const rows of arrivals) {
          packer.add(rows);
          const batch = packer.next({ flush: false });
          if (batch !== null) batches.push(batch);
        }
        batches.push(...drain(packer));
        expect(batches.flat().toSorted((a, b) => a - b)).toEqual(arrivals.flat().toSorted((a, b) => a - b));
        for (const batch of batches) expectWithinBudget(batch, limits);
      }),
    );
  });

  test("gives every row of a pool larger than one plan", () => {
    const rows = Array.from({ length: 10_000 }, (_, i) => 2 + ((i * 7919) % 500));
    const limits = limitsOf({ maxBatchTokens: 4096, maxBatchRows: 64 });
    const packer = new Packer<number>(limits, (row) => row);
    packer.add(rows);
    expect(drain(packer).flat()).toEqual(rows.toSorted((a, b) => b - a));
  });

  test("keeps the remainder back while rows may still come", () => {
    const packer = new Packer<number>(limitsOf({ maxBatchTokens: 100, maxBatchRows: 10 }), (row) => row);
    packer.add([50, 50, 10]);
    expect(packer.next({ flush: false })).toEqual([50, 50]);
    expect(packer.next({ flush: false })).toBeNull();
    packer.add([10]);
    expect(packer.next({ flush: true })).toEqual([10, 10]);
  });

  test("forgets the rows of a shard that is handed back", () => {
    const packer = new Packer<number>(limitsOf({ maxBatchTokens: 100, maxBatchRows: 10 }), (row) => row);
    packer.add([7, 8, 9]);
    packer.remove((row) => row === 8);
    expect(drain(packer)).toEqual([[9, 7]]);
    expect(packer.pendingTokens).toBe(0);
  });
});
