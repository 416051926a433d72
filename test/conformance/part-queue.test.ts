import { randomUUID } from "node:crypto";
import { Queue } from "bullmq";
import { pino } from "pino";
import { expect, inject, onTestFinished, test } from "vitest";
import { BullParts } from "../../src/adapters/redis/bull-parts.ts";
import { connectRedis } from "../../src/adapters/redis/connect.ts";
import { QUEUE_PREFIX } from "../../src/adapters/redis/queue-options.ts";
import { type PartJob, partId } from "../../src/core/ingest.ts";
import { MemoryParts, PartBoard } from "../fixtures/memory-parts.ts";
import { partQueueSuite } from "./part-queue.suite.ts";

const redisUrl = inject("redisUrl");
const log = pino({ level: "silent" });
const openRedis = (run: string): BullParts =>
  new BullParts({ redisUrl, fleet: "conformance", run, lockDurationMs: 30_000, log });

const boards = new Map<string, PartBoard>();
partQueueSuite("memory", (run) => {
  const board = boards.get(run) ?? new PartBoard();
  boards.set(run, board);
  return new MemoryParts(board);
});

partQueueSuite("Redis", openRedis);

test("a forged job in Redis is never made, and its part says why", async () => {
  const run = `r-${randomUUID()}`;
  const parts = openRedis(run);
  onTestFinished(() => parts.close());
  const redis = connectRedis(redisUrl);
  onTestFinished(() => redis.disconnect());
  const queue = new Queue(`conformance--parts-${run}`, { connection: redis, prefix: QUEUE_PREFIX });
  onTestFinished(() => queue.close());
  const digest = "0123456789abcdef".repeat(4);
  const part = partId(1, digest);
  const job: PartJob = { v: 1, run, part };
  const place = { kind: "file", path: "/etc/passwd" };
  const forged: [name: string, data: unknown, reason: string][] = [
    [partId(2, digest), job, `the payload belongs to part ${part} of run ${run}`],
    [part, { ...job, run: "another" }, `the payload belongs to part ${part} of run another`],
    [
      partId(3, digest),
      { ...job, what: { name: "x", id: "x", place, range: null, pin: null } },
      "the payload is not a valid part",
    ],
    [partId(4, digest), null, "the payload is not a valid part"],
    [
      partId(5, digest.slice(0, 16)),
      { ...job, part: partId(5, digest.slice(0, 16)) },
      "the payload is not a valid part",
    ],
  ];
  for (const [jobId, data] of forged) await queue.add("part", data, { jobId, attempts: 3 });
  const made: PartJob[] = [];
  await parts.work({ atOnce: 1, make: async (each) => void made.push(each) });
  for (const [jobId, , reason] of forged) {
    const at = { ...job, part: jobId };
    await expect.poll(() => parts.state(at)).toMatchObject({ kind: "failed", reason: expect.stringContaining(reason) });
  }
  expect(made).toEqual([]);
});

test("what is left in Redis of a part, or forged, is no reason to wait for it, and a paused queue goes on", async () => {
  const run = `r-${randomUUID()}`;
  const parts = openRedis(run);
  onTestFinished(() => parts.close());
  const redis = connectRedis(redisUrl);
  onTestFinished(() => redis.disconnect());
  const job: PartJob = { v: 1, run, part: partId(1, "0123456789abcdef".repeat(4)) };
  const key = `${QUEUE_PREFIX}:conformance--parts-${run}`;
  // A job in no list, and one that is said to be done.
  await redis.hset(`${key}:${job.part}`, { name: "part", data: JSON.stringify(job), opts: "{}", timestamp: "1" });
  expect(await parts.state(job)).toEqual({ kind: "unknown" });
  await redis.zadd(`${key}:completed`, 1, job.part);
  expect(await parts.state(job)).toEqual({ kind: "unknown" });
  const queue = new Queue(`conformance--parts-${run}`, { connection: redis, prefix: QUEUE_PREFIX });
  onTestFinished(() => queue.close());
  await queue.pause();
  await parts.add(job);
  const made: PartJob[] = [];
  await parts.work({ atOnce: 1, make: async (each) => void made.push(each) });
  await expect.poll(() => parts.state(job)).toEqual({ kind: "unknown" });
  expect(made).toEqual([job]);
});

test("the reason for which a part failed is shown without what a terminal would obey", async () => {
  const run = `r-${randomUUID()}`;
  const parts = openRedis(run);
  onTestFinished(() => parts.close());
  const redis = connectRedis(redisUrl);
  onTestFinished(() => redis.disconnect());
  const job: PartJob = { v: 1, run, part: partId(1, "0123456789abcdef".repeat(4)) };
  const key = `${QUEUE_PREFIX}:conformance--parts-${run}`;
  const fields = { name: "part", data: "{}", opts: "{}", timestamp: "1", failedReason: `\u001b[2J${"x".repeat(9999)}` };
  await redis.hset(`${key}:${job.part}`, fields);
  await redis.zadd(`${key}:failed`, 1, job.part);
  expect(await parts.state(job)).toEqual({ kind: "failed", reason: ` [2J${"x".repeat(496)}` });
  await redis.hset(`${key}:${job.part}`, "data", "{");
  expect(await parts.state(job)).toMatchObject({ kind: "failed", reason: expect.stringContaining("is damaged") });
});
