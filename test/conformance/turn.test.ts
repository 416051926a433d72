import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, inject, onTestFinished, test } from "vitest";
import { connectRedis } from "../../src/adapters/redis/connect.ts";
import { RedisTurn } from "../../src/adapters/redis/redis-turn.ts";
import { MemoryTurn, MemoryTurns } from "../fixtures/memory-turn.ts";
import { simulatedTurns } from "../simulation/ground.ts";
import { turnSuite } from "./turn.suite.ts";

const redisUrl = inject("redisUrl");
const LONG_MS = 600_000;

turnSuite("memory", () => {
  const turns = new MemoryTurns();
  return {
    open: () => new MemoryTurn(turns),
    pass: async (ms) => turns.pass(ms),
    forget: async (name) => turns.forget(name),
  };
});

turnSuite("simulation", simulatedTurns);

turnSuite("Redis", () => {
  const key = `test-${randomUUID()}`;
  return {
    open: () => new RedisTurn({ redisUrl, key }),
    pass: (ms) => sleep(ms + 50),
    forget: async (name) => {
      const redis = connectRedis(redisUrl);
      await redis.del(`${key}:${name}`);
      redis.disconnect();
    },
  };
});

test("a turn is renewed while it is held, and is free in its time when its holder is gone", async () => {
  const key = `test-${randomUUID()}`;
  const [mine, other] = [new RedisTurn({ redisUrl, key }), new RedisTurn({ redisUrl, key })];
  onTestFinished(() => other.close());
  const redis = connectRedis(redisUrl);
  onTestFinished(() => redis.disconnect());
  await mine.hold({ name: "a", durationMs: 3000 });
  let leftMs = await redis.pttl(`${key}:a`);
  const isLonger = async (): Promise<boolean> => {
    const [before, now] = [leftMs, await redis.pttl(`${key}:a`)];
    leftMs = now;
    return now > before;
  };
  await expect.poll(isLonger, { timeout: 30_000, interval: 20 }).toBe(true);
  await mine.close();
  await expect.poll(() => other.hold({ name: "a", durationMs: LONG_MS }), { timeout: 30_000 }).not.toBeNull();
});
