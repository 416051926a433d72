import { randomUUID } from "node:crypto";
import { Queue } from "bullmq";
import { pino } from "pino";
import { expect, inject, onTestFinished, test } from "vitest";
import { BullParts } from "../../src/adapters/redis/bull-parts.ts";
import { connectRedis } from "../../src/adapters/redis/connect.ts";
import { QUEUE_PREFIX } from "../../src/adapters/redis/queue-options.ts";
import type { PartJob } from "../../src/core/ingest.ts";
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
  const part = "p000001-0123456789abcdef";
  const place = { kind: "file" as const, path: "/etc/passwd" };
  const job: PartJob = { v: 1, run, part, what: { name: "x", id: "x", place, range: null, pin: null } };
  const forged: [name: string, data: unknown, reason: string][] = [
    ["p000002-0123456789abcdef", job, `the payload speaks of part ${part} of run ${run}`],
    [part, { ...job, run: "another" }, `the payload speaks of part ${part} of run another`],
    ["p000003-0123456789abcdef", { ...job, more: 1 }, "the payload is no part"],
    ["p000004-0123456789abcdef", null, "the payload is no part"],
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
