/** Turns: one at a time, whoever asks, and free again when the holder is done or dead. */
import { randomUUID } from "node:crypto";
import { expect, inject, onTestFinished, test } from "vitest";
import { connectRedis } from "../../src/adapters/redis/connect.ts";
import { RedisTurn } from "../../src/adapters/redis/redis-turn.ts";

const redisUrl = inject("redisUrl");
const LONG_MS = 600_000;

function openTwo(): { mine: RedisTurn; other: RedisTurn; key: string } {
  const key = `test-${randomUUID()}`;
  const open = (): RedisTurn => {
    const turn = new RedisTurn({ redisUrl, key });
    onTestFinished(() => turn.close());
    return turn;
  };
  return { mine: open(), other: open(), key };
}

test("the turn is the first one's until its time has passed", async () => {
  const { mine, other } = openTwo();
  expect(await mine.take({ durationMs: 300 })).toBe(true);
  expect(await other.take({ durationMs: 300 })).toBe(false);
  await expect.poll(() => other.take({ durationMs: LONG_MS }), { timeout: 30_000 }).toBe(true);
});

test("a turn that is held is nobody else's until it is released, and others go by other names", async () => {
  const { mine, other } = openTwo();
  const held = await mine.hold({ name: "a", durationMs: LONG_MS });
  expect(held).not.toBeNull();
  expect(await other.hold({ name: "a", durationMs: LONG_MS })).toBeNull();
  expect(await mine.hold({ name: "a", durationMs: LONG_MS })).toBeNull();
  expect(await other.hold({ name: "b", durationMs: LONG_MS })).not.toBeNull();
  expect(await other.take({ durationMs: LONG_MS })).toBe(true);
  await held!.release();
  expect(await other.hold({ name: "a", durationMs: LONG_MS })).not.toBeNull();
});

test("a turn is renewed while it is held, and is free in its time when its holder is gone", async () => {
  const { mine, other, key } = openTwo();
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

test("who releases too late leaves alone what is another's by then", async () => {
  const { mine, other, key } = openTwo();
  const late = await mine.hold({ name: "a", durationMs: LONG_MS });
  const redis = connectRedis(redisUrl);
  onTestFinished(() => redis.disconnect());
  // As when its time had passed while its process was held up.
  await redis.del(`${key}:a`);
  expect(await other.hold({ name: "a", durationMs: LONG_MS })).not.toBeNull();
  await late!.release();
  expect(await mine.hold({ name: "a", durationMs: LONG_MS })).toBeNull();
});
