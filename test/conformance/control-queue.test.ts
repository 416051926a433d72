import { randomUUID } from "node:crypto";
import { inject } from "vitest";
import { openQueue } from "../../src/adapters/open-queue.ts";
import { controlQueueSuite } from "./control-queue.suite.ts";

controlQueueSuite("Redis", () => {
  const server = openQueue({ url: inject("redisUrl"), fleet: randomUUID() }).ofStore("0123456789abcdef01234567");
  return () => server.control();
});
