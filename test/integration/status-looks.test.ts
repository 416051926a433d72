/** To look at a run changes nothing in Redis, whatever has become of it there. */
import { randomUUID } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, inject, onTestFinished, test } from "vitest";
import { BullQueue } from "../../src/adapters/redis/bull-queue.ts";
import { producersKey, queueBase, workersKey } from "../../src/adapters/redis/queue-options.ts";
import { enqueueCorpus } from "../../src/fleet/enqueue-corpus.ts";
import { cli } from "../fixtures/cli.ts";
import { makeCorpus } from "../fixtures/made-corpus.ts";
import { queueNameIn } from "../fixtures/queue-name.ts";

const redisUrl = inject("redisUrl");
const fleet = randomUUID();
let name: string;
let folder: string;
let out: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "embedfleet-test-"));
  out = join(folder, "out");
  const corpus = join(folder, "corpus.jsonl");
  await writeFile(corpus, makeCorpus({ documents: 3, seed: 21, maxWords: 10 }));
  await enqueueCorpus({ inputs: [corpus], out, redis: redisUrl, fleet, model: "mini", run: "r" });
  name = await queueNameIn(out, fleet, "mini");
});

afterAll(() => rm(folder, { recursive: true, force: true }));

function openRedis(): Redis {
  const redis = new Redis(redisUrl);
  onTestFinished(() => redis.disconnect());
  return redis;
}

/** Every key of the fleet, as Redis would save it. */
async function dumpOf(redis: Redis): Promise<Map<string, string | undefined>> {
  const keys = (await redis.keys("*")).filter((key) => key.includes(fleet)).toSorted();
  const dumps = await Promise.all(keys.map((key) => redis.dumpBuffer(key)));
  return new Map(keys.map((key, i) => [key, dumps[i]?.toString("hex")]));
}

const DAMAGES: [string, (redis: Redis, base: string) => Promise<unknown>][] = [
  ["the queue is sound", async () => {}],
  ["the queue's own record is lost", (redis, base) => redis.del(`${base}meta`)],
  ["workers and producers have faded away", (redis) => fade(redis)],
  ["lists are of a wrong type", (redis, base) => redis.mset(`${base}failed`, "damage", `${base}wait`, "damage")],
];

async function fade(redis: Redis): Promise<void> {
  for (const key of [workersKey(name), producersKey(name)]) await redis.zadd(key, 0, "died-long-ago");
}

test.each(DAMAGES)("status changes nothing where %s", async (_, damage) => {
  const redis = openRedis();
  await damage(redis, queueBase(name));
  const before = await dumpOf(redis);
  expect(before.size).toBeGreaterThan(3);
  const { code, stdout, stderr } = await cli(["status", "r", "--out", out, "--redis", redisUrl, "--fleet", fleet]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  expect(stdout).toContain("waits for  a worker: none is active");
  expect(await dumpOf(redis)).toEqual(before);
});

test("a queue that only looks says what is damaged, and one that works on it repairs it", async () => {
  const redis = openRedis();
  await redis.set(`${queueBase(name)}failed`, "damage");
  const [looks, works] = [true, false].map((readOnly) => new BullQueue({ redisUrl, name, readOnly }));
  onTestFinished(async () => void (await Promise.all([looks!.close(), works!.close()])));
  await expect(looks!.counts()).rejects.toThrow("WRONGTYPE");
  expect(await redis.get(`${queueBase(name)}failed`)).toBe("damage");
  expect((await works!.counts()).failed).toBe(0);
  expect(await redis.exists(`${queueBase(name)}failed`)).toBe(0);
});
