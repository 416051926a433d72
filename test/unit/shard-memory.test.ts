/** Memory that shards use one after another. */
import { expect, test } from "vitest";
import { allocateShard } from "../../src/core/batch.ts";
import type { RunRecord } from "../../src/core/contracts.ts";
import { HeldShard } from "../../workers/held-shard.ts";
import { openShardMemory, type ShardMemory } from "../../workers/shard-memory.ts";
import { MemoryPool } from "../../src/core/memory-pool.ts";
import { runOptions } from "../fixtures/run-options.ts";
import { ScriptedStore } from "../fixtures/scripted-store.ts";

const MB = 1024 * 1024;

test("however sizes change, no more memory is taken than was held at one time", () => {
  const memory = openShardMemory().shards;
  // Each may give way once to a larger one: from then on the three are used again and again.
  const seen = new Set<SharedArrayBuffer>();
  for (let round = 0; round < 100; round++) {
    const held = [1, 2, 3].map((part) => memory.take(MB + ((round * 7919 * part) % MB)));
    for (const buffer of held) seen.add(buffer);
    expect(new Set(held).size).toBe(3);
    for (const buffer of held) memory.give(buffer);
  }
  expect(seen.size).toBeLessThanOrEqual(6);
});

test("one that is too small gives way, and the smallest that is large enough is taken", () => {
  const memory = openShardMemory().shards;
  const [small, large] = [memory.take(MB), memory.take(8 * MB)];
  memory.give(large);
  memory.give(small);
  expect(memory.take(MB)).toBe(small);
  expect(memory.take(2 * MB)).toBe(large);
  memory.give(small);
  const larger = memory.take(4 * MB);
  expect(larger.byteLength).toBeGreaterThanOrEqual(4 * MB);
  memory.give(larger);
  expect(memory.take(1)).toBe(larger);
});

test("no more of it waits than is allowed", () => {
  const memory = new MemoryPool({ allocate: (bytes) => new ArrayBuffer(bytes), maxFree: 2 });
  const used = [1, 2, 3].map(() => memory.take(MB));
  for (const buffer of used) memory.give(buffer);
  const again = [1, 2, 3].map(() => memory.take(MB));
  expect(used.filter((buffer) => again.includes(buffer)).length).toBe(2);
});

test("of the shard before nothing is left where a shard reads before it writes", () => {
  const used = new SharedArrayBuffer(64 * 1024);
  new Uint8Array(used).fill(255);
  const lengths = [5, 3, 9];
  const heads = ["dense", "sparse", "colbert"] as const;
  const fresh = allocateShard({ lengths, dim: 4, heads });
  const again = allocateShard({ lengths, dim: 4, heads, take: () => used });
  expect(again.offsets).toEqual(fresh.offsets);
  expect(again.sparseCounts).toEqual(fresh.sparseCounts);
  expect(again.broken).toEqual(fresh.broken);
  const views = Object.values(again).filter((value) => ArrayBuffer.isView(value));
  expect(views.length).toBe(8);
  for (const { byteOffset } of views.filter((view) => !(view instanceof Uint8Array))) expect(byteOffset % 8).toBe(0);
  // No two of them overlap.
  const spans = views.map((view) => [view.byteOffset, view.byteOffset + view.byteLength] as const);
  const sorted = spans.toSorted(([a], [b]) => a - b);
  sorted.slice(1).forEach(([start], i) => expect(start).toBeGreaterThanOrEqual(sorted[i]![1]));
});

function hold(memory: ShardMemory, shard: string): HeldShard {
  const options = runOptions({ model: { id: "made", revision: "1", sha256: "a".repeat(64), dim: 4, maxTokens: 64 } });
  const record: RunRecord = { version: 1, run: "r", createdAt: "2026-01-01T00:00:00.000Z", inputs: [], options };
  const rows = {
    ids: ["a", "b"],
    chunks: new Uint32Array(2),
    charStarts: new Uint32Array(2),
    charEnds: new Uint32Array(2),
    textHashes: new Uint8Array(64),
    offsets: Uint32Array.of(0, 3, 6),
    tokenIds: Int32Array.of(0, 7, 2, 0, 8, 2),
    texts: null,
    kept: [],
  };
  const payload = { v: 1, run: "r", shard, start: 0, end: 8, rows: 2, tokens: 6, longest: 3 } as const;
  return new HeldShard({ id: `r-${shard}`, payload, stalls: 0 }, record, rows, memory);
}

test("a shard's memory is the next one's when its file is written", () => {
  const memory = openShardMemory();
  const [first, second] = [hold(memory, "w000000-s0000"), hold(memory, "w000000-s0001")];
  expect(second.buffers.ids.buffer).not.toBe(first.buffers.ids.buffer);
  first.free();
  expect(hold(memory, "w000000-s0002").buffers.ids.buffer).toBe(first.buffers.ids.buffer);
});

test("a file's memory is the next one's when it is in the store, and nobody's after a fault", async () => {
  const memory = openShardMemory();
  const taken: ArrayBuffer[] = [];
  const store = new ScriptedStore();
  const create = store.create.bind(store);
  store.create = (params) => {
    taken.push(params.body.buffer as ArrayBuffer);
    return create(params);
  };
  await hold(memory, "w000000-s0000").commit(store);
  store.script({ op: "create", outcome: "fail-before" });
  await expect(hold(memory, "w000000-s0001").commit(store)).rejects.toThrow("scripted");
  await hold(memory, "w000000-s0002").commit(store);
  expect(taken[1]).toBe(taken[0]);
  expect(taken[2]).not.toBe(taken[1]);
});
