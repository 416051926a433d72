import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connectRedis } from "../../src/adapters/redis/connect.ts";
import { type RowRef, rowLength } from "../../src/core/batch.ts";
import { DEFAULT_PACKING } from "../../src/core/packing.ts";
import { drain, type Ground, madeCorpus, openGround, openStore, plan } from "../bench/fleet.ts";
import { PacedDevice } from "../fixtures/paced-device.ts";
import { runOptions } from "../fixtures/run-options.ts";

let ground: Ground;
beforeAll(async () => (ground = await openGround()));
afterAll(() => ground.close());

const model = { id: "made", revision: "1", sha256: "a".repeat(64), dim: 4, maxTokens: 1024 };
const options = runOptions({ model, heads: ["dense"], maxTokens: 1024 });

/** Remembers the length of the rows of each batch. */
class WatchedDevice extends PacedDevice {
  readonly seen: number[][] = [];

  constructor() {
    super({ batchMs: 1, tokenMs: 1e-5, pairMs: 0 });
  }

  override embed(params: Readonly<{ rows: readonly RowRef[] }>): ReturnType<PacedDevice["embed"]> {
    this.seen.push(params.rows.map(rowLength));
    return super.embed(params);
  }
}

describe("a worker's batches", () => {
  test("what remains of a shard waits for the next shard of its length, so only the last batch is short", async () => {
    const redisUrl = ground.redis.url;
    const store = await openStore(`${ground.folder}/remainders`);
    // Shards of 81 rows, and 16 rows a batch: alone, each shard would leave one row behind.
    const lengths = Array.from({ length: 405 }, () => 100);
    const { shards } = await plan({ store, redisUrl, run: "remainders", options, ...madeCorpus(lengths) });
    expect(shards).toBe(5);
    const device = new WatchedDevice();
    const packing = { ...DEFAULT_PACKING, maxBatchTokens: 1600 };
    await drain({ store, redisUrl, options, embedder: device, vocabSize: 1000, packing });
    const sizes = device.seen.map((rows) => rows.length);
    expect(sizes.reduce((sum, rows) => sum + rows, 0)).toBe(405);
    expect(sizes.filter((rows) => rows < 16)).toEqual([5]);
  });

  test("a shard takes at most 2 KB and 50 commands of Redis", async () => {
    const redisUrl = ground.redis.url;
    const redis = connectRedis(redisUrl);
    try {
      const store = await openStore(`${ground.folder}/cost`);
      const lengths = Array.from({ length: 8000 }, () => 1000);
      const beforeBytes = await usedBytes(redis);
      await redis.config("RESETSTAT");
      const { shards } = await plan({ store, redisUrl, run: "cost", options, ...madeCorpus(lengths) });
      expect(shards).toBeGreaterThanOrEqual(48);
      expect(((await usedBytes(redis)) - beforeBytes) / shards).toBeLessThanOrEqual(2048);
      await drain({ store, redisUrl, options, embedder: new WatchedDevice(), vocabSize: 1000 });
      const calls = [...(await redis.info("commandstats")).matchAll(/calls=(\d+)/g)].map(([, count]) => Number(count));
      expect(calls.reduce((sum, count) => sum + count, 0) / shards).toBeLessThanOrEqual(50);
    } finally {
      redis.disconnect();
    }
  });

  test("of a few shards no more commands are spent on asking for jobs that are not there", async () => {
    const redisUrl = ground.redis.url;
    const redis = connectRedis(redisUrl);
    try {
      const store = await openStore(`${ground.folder}/few`);
      const lengths = Array.from({ length: 1000 }, (_, row) => 50 + (row % 80));
      const { shards } = await plan({ store, redisUrl, run: "few", options, ...madeCorpus(lengths) });
      expect(shards).toBeGreaterThanOrEqual(8);
      await redis.config("RESETSTAT");
      await drain({ store, redisUrl, options, embedder: new WatchedDevice(), vocabSize: 1000 });
      const [, pulls] = /cmdstat_evalsha:calls=(\d+)/.exec(await redis.info("commandstats"))!;
      // Each job is pulled and completed by a script; others look for stalled jobs and find the queue empty.
      expect(Number(pulls) / shards).toBeLessThanOrEqual(4);
    } finally {
      redis.disconnect();
    }
  });
});

async function usedBytes(redis: ReturnType<typeof connectRedis>): Promise<number> {
  return Number(/used_memory:(\d+)/.exec(await redis.info("memory"))![1]);
}
