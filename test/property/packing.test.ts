import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Packer, type PackingLimits, planBatches } from "../../src/core/packing.ts";

const limitsArbitrary = fc.record({
  maxBatchTokens: fc.integer({ min: 1, max: 3000 }),
  maxBatchRows: fc.integer({ min: 1, max: 40 }),
  batchOverheadTokens: fc.integer({ min: 0, max: 200 }),
});
const lengthsArbitrary = fc.array(fc.integer({ min: 1, max: 1000 }), { maxLength: 200 });

function costOf(batches: readonly (readonly number[])[], limits: PackingLimits): number {
  return batches.reduce((sum, batch) => sum + batch.length * batch[0]! + limits.batchOverheadTokens, 0);
}

/** The usual rule: longest first, as many rows as fit. */
function greedy(lengths: readonly number[], limits: PackingLimits): number[][] {
  const batches: number[][] = [];
  for (let at = 0; at < lengths.length;) {
    const rows = Math.max(1, Math.min(limits.maxBatchRows, Math.floor(limits.maxBatchTokens / lengths[at]!)));
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
        for (const batch of batches) {
          if (batch.length === 1) continue;
          expect(batch.length * batch[0]!).toBeLessThanOrEqual(limits.maxBatchTokens);
          expect(batch.length).toBeLessThanOrEqual(limits.maxBatchRows);
        }
        expect(costOf(batches, limits)).toBeLessThanOrEqual(costOf(greedy(lengths, limits), limits));
      }),
    );
  });

  test("cuts a long row off from short ones when padding costs more than a batch", () => {
    const limits = { maxBatchTokens: 16_384, maxBatchRows: 512, batchOverheadTokens: 128 };
    expect(planBatches([8192, 5000, 5000, 4990], limits)).toEqual([1, 4]);
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
        for (const batch of batches.filter(({ length }) => length > 1)) {
          expect(batch.length * Math.max(...batch)).toBeLessThanOrEqual(limits.maxBatchTokens);
          expect(batch.length).toBeLessThanOrEqual(limits.maxBatchRows);
        }
      }),
    );
  });

  test("gives every row of a pool larger than one plan", () => {
    const rows = Array.from({ length: 10_000 }, (_, i) => 2 + ((i * 7919) % 500));
    const limits = { maxBatchTokens: 4096, maxBatchRows: 64, batchOverheadTokens: 128 };
    const packer = new Packer<number>(limits, (row) => row);
    packer.add(rows);
    expect(drain(packer).flat()).toEqual(rows.toSorted((a, b) => b - a));
  });

  test("keeps the remainder back while rows may still come", () => {
    const packer = new Packer<number>({ maxBatchTokens: 100, maxBatchRows: 10, batchOverheadTokens: 5 }, (row) => row);
    packer.add([50, 50, 10]);
    expect(packer.next({ flush: false })).toEqual([50, 50]);
    expect(packer.next({ flush: false })).toBeNull();
    packer.add([10]);
    expect(packer.next({ flush: true })).toEqual([10, 10]);
  });

  test("forgets the rows of a shard that is handed back", () => {
    const packer = new Packer<number>({ maxBatchTokens: 100, maxBatchRows: 10, batchOverheadTokens: 5 }, (row) => row);
    packer.add([7, 8, 9]);
    packer.remove((row) => row === 8);
    expect(drain(packer)).toEqual([[9, 7]]);
    expect(packer.pendingTokens).toBe(0);
  });
});
