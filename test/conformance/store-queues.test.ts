import { randomUUID } from "node:crypto";
import { pino } from "pino";
import { expect, inject, onTestFinished, test } from "vitest";
import { openQueue } from "../../src/adapters/open-queue.ts";
import { BullLeases } from "../../src/adapters/redis/bull-leases.ts";
import { BullQueue } from "../../src/adapters/redis/bull-queue.ts";
import type { JobPayload } from "../../src/core/contracts.ts";
import { storeQueuesSuite } from "./store-queues.suite.ts";

const redisUrl = inject("redisUrl");

storeQueuesSuite("Redis", (fleet) => openQueue({ url: redisUrl, fleet }));

test("a job that was moved here from the queue of another store is left alone, and does not fail", async () => {
  const name = randomUUID();
  const [own, other] = ["0123456789abcdef01234567", "fedcba9876543210fedcba98"];
  const queue = new BullQueue({ redisUrl, name, store: other });
  onTestFinished(() => queue.close());
  const log = pino({ level: "silent" });
  const leases = new BullLeases({ redisUrl, name, store: own, workerId: "w", lockDurationMs: 30_000, log });
  onTestFinished(() => leases.close());
  const job: JobPayload = { v: 1, run: "r", shard: "w000000-s0000", start: 0, end: 8, rows: 1, tokens: 5, longest: 5 };
  await queue.enqueue({ jobs: [job] });
  expect(await leases.pull({ max: 4, wait: true })).toEqual({ jobs: [], refused: [] });
  expect(await leases.pull({ max: 4, wait: false })).toEqual({ jobs: [], refused: [] });
  expect(await queue.counts()).toEqual({ waiting: 1, active: 0, failed: 0 });
});
