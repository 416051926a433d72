import { randomUUID } from "node:crypto";
import { inject } from "vitest";
import { openQueue } from "../../src/adapters/open-queue.ts";
import { MemoryJobs } from "../fixtures/memory-jobs.ts";
import { MemoryLeases, MemoryQueue } from "../fixtures/memory-queue.ts";
import { simulatedQueue } from "../simulation/ground.ts";
import { jobQueueSuite } from "./job-queue.suite.ts";

const redisUrl = inject("redisUrl");

jobQueueSuite("memory", () => {
  const known = new MemoryJobs();
  return { queue: () => new MemoryQueue(known), leases: () => new MemoryLeases(known) };
});

jobQueueSuite("simulation", simulatedQueue);

jobQueueSuite("Redis", () => {
  const server = openQueue({ url: redisUrl, fleet: `conformance-${randomUUID()}` });
  const queue = server.ofStore("0123456789abcdef01234567").ofModel("m");
  return {
    queue: () => queue.shards(),
    leases: (lockDurationMs) => queue.leases({ workerId: randomUUID(), lockDurationMs }),
  };
});
