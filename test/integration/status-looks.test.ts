/** To look at a run changes nothing in Redis, whatever has become of it there. */
import { randomUUID } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
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

test("where every job has failed, the reason, its count and the next command come first, and no worker is asked for", async () => {
  const broken = ["--out", out, "--redis", redisUrl, "--fleet", `${fleet}-broken`];
  const corpus = join(folder, "many.jsonl");
  await writeFile(corpus, makeCorpus({ documents: 150, seed: 22 }));
  await cli(["enqueue", corpus, ...broken, "--run", "broken", "--log-level", "silent"]);
  await rm(join(out, "runs/broken/plan/w000000.arrows"));
  const worked = await cli(["work", ...broken, "--exit-when-done", "--threads", "1", "--log-level", "silent"]);
  const { shards } = JSON.parse(await readFile(join(out, "runs/broken/plan/closed.json"), "utf8")) as {
    shards: number;
  };
  expect(shards).toBeGreaterThan(2);
  expect({ code: worked.code, stderr: worked.stderr }).toEqual({
    code: 1,
    stderr: expect.stringMatching(new RegExp(`w000000.arrows \\(and ${shards - 1} more jobs? like it\\)`)) as string,
  });

  const next = `embedfleet resume broken --out file://${out}`;
  const { stdout } = await cli(["status", "broken", ...broken]);
  const lines = stdout.split("\n");
  expect(lines[1]).toBe(`failed     ${shards} jobs`);
  expect(lines[2]).toMatch(/^ +\d+ x there is no object .*w000000.arrows, for example in shard w000000-s\d{4}$/);
  expect(lines[3]).toBe(`next       fix the cause, then: ${next}`);
  expect(stdout).not.toContain("a worker");
  const json = JSON.parse((await cli(["status", "broken", ...broken, "--json"])).stdout) as Record<string, unknown>;
  expect(Object.keys(json).slice(0, 5)).toEqual(["run", "state", "failedJobs", "failures", "nextCommand"]);
  expect(json).toMatchObject({ failedJobs: shards, failures: [{ jobs: shards }], nextCommand: next });
  expect(json["waitsFor"]).toContain("its remaining jobs have failed");
});
