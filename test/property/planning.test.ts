import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type OutputShape,
  outputBytesOfRow,
  planShards,
  SHARD_LIMITS,
  type ShardLayout,
  windowLimits,
  windowTokenLimit,
} from "../../src/core/planning.ts";

const MI = 1024 * 1024;
const SHAPE: OutputShape = { dim: 1024, heads: ["dense", "sparse", "colbert"], vectors: "float32" };

const rowsOf = fc.array(
  fc.record({ tokens: fc.integer({ min: 2, max: 8192 }), carried: fc.integer({ min: 1, max: 50_000 }) }),
  { maxLength: 400 },
);
const limitsOf = fc.record({
  rows: fc.integer({ min: 1, max: 50 }),
  tokens: fc.integer({ min: 10, max: 50_000 }),
  outputBytes: fc.integer({ min: 10_000, max: 200_000_000 }),
  stagedBytes: fc.integer({ min: 1_000, max: 1_000_000 }),
});

function plan(lengths: readonly number[], rest: Partial<Parameters<typeof planShards>[0]> = {}): ShardLayout {
  return planShards({ lengths, carriedBytes: lengths.map(() => 10), shape: SHAPE, ...rest });
}

function rowsIn(layout: ShardLayout): number[][] {
  return layout.shards.map(({ start, end }) => [...layout.order.subarray(start, end)]);
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

describe("shards of any rows", () => {
  test("hold every row once, longest first, ties in corpus order", () => {
    fc.assert(
      fc.property(rowsOf, (rows) => {
        const lengths = rows.map((row) => row.tokens);
        const order = rowsIn(plan(lengths)).flat();
        expect(order).toEqual([...lengths.keys()].sort((a, b) => lengths[b]! - lengths[a]! || a - b));
      }),
    );
  });

  test("keep every limit, save for a row that exceeds one alone", () => {
    fc.assert(
      fc.property(rowsOf, limitsOf, (rows, limits) => {
        const layout = plan(
          rows.map((row) => row.tokens),
          { carriedBytes: rows.map((row) => row.carried), limits },
        );
        for (const shard of rowsIn(layout).filter((members) => members.length > 1)) {
          const members = shard.map((row) => rows[row]!);
          expect(members.length).toBeLessThanOrEqual(limits.rows);
          expect(sum(members.map((row) => row.tokens))).toBeLessThanOrEqual(limits.tokens);
          expect(sum(members.map((row) => outputBytesOfRow(row.tokens, SHAPE) + row.carried))).toBeLessThanOrEqual(
            limits.outputBytes,
          );
          expect(sum(members.map((row) => row.tokens * 4 + 56 + row.carried))).toBeLessThanOrEqual(limits.stagedBytes);
        }
      }),
    );
  });

  test("are the same each time, whatever kind of array the lengths come in", () => {
    fc.assert(
      fc.property(rowsOf, limitsOf, (rows, limits) => {
        const lengths = rows.map((row) => row.tokens);
        const carriedBytes = rows.map((row) => row.carried);
        const once = plan(lengths, { carriedBytes, limits });
        const again = planShards({ lengths: Uint32Array.from(lengths), carriedBytes, shape: SHAPE, limits });
        expect(again).toEqual(once);
      }),
    );
  });

  test("are as few as their order allows: the first row of the next one did not fit", () => {
    fc.assert(
      fc.property(rowsOf, fc.integer({ min: 1, max: 50 }), (rows, maxRows) => {
        const lengths = rows.map((row) => row.tokens);
        const share = Math.max(Math.ceil(sum(lengths) / 16), 8192);
        const shards = rowsIn(
          plan(lengths, {
            shape: { dim: 1, heads: ["dense"], vectors: "float32" },
            limits: { ...SHARD_LIMITS, rows: maxRows },
          }),
        );
        shards.slice(1).forEach((next, k) => {
          const tokens = sum(shards[k]!.map((row) => lengths[row]!)) + lengths[next[0]!]!;
          expect(shards[k]!.length === maxRows || tokens > share).toBe(true);
        });
      }),
    );
  });
});

describe("shards of a window of real size", () => {
  const random = (i: number): number => 2 + ((((i * 2_654_435_761) % 4_294_967_296) >>> 0) % 500);

  test("sixteen or so of them share a window, so that sixteen workers begin at once", () => {
    for (const rows of [4_000, 60_000]) {
      const shards = plan(
        Array.from({ length: rows }, (_, i) => random(i)),
        { shape: { dim: 1024, heads: ["dense"], vectors: "float32" } },
      ).shards;
      expect(shards.length).toBeGreaterThanOrEqual(16);
      expect(shards.length).toBeLessThanOrEqual(32);
    }
  });

  test("a small corpus is not cut into crumbs", () => {
    expect(plan(Array.from({ length: 100 }, () => 60)).shards).toHaveLength(1);
    expect(plan(Array.from({ length: 30 }, () => 1000)).shards).toHaveLength(4);
    expect(plan([]).shards).toEqual([]);
  });

  test("two of BGE-M3's longest rows with all heads fit into one", () => {
    expect(plan(Array.from({ length: 64 }, () => 8192)).shards).toHaveLength(32);
  });

  test("more shards than ids are refused", () => {
    const lengths = Array.from({ length: 10_001 }, () => 100);
    expect(() => plan(lengths, { limits: { ...SHARD_LIMITS, rows: 1 } })).toThrow(
      expect.objectContaining({ code: "bad_usage" }),
    );
    expect(plan(lengths.slice(1), { limits: { ...SHARD_LIMITS, rows: 1 } }).shards).toHaveLength(10_000);
  });
});

test("windows double from 1 Mi to 16 Mi tokens and stay there", () => {
  expect([0, 1, 2, 3, 4, 5, 900_000].map(windowTokenLimit)).toEqual([
    MI,
    2 * MI,
    4 * MI,
    8 * MI,
    16 * MI,
    16 * MI,
    16 * MI,
  ]);
  expect(windowLimits(0)).toMatchObject({ tokens: MI, rows: 262_144, documents: 262_144 });
});
