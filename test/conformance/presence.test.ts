import { randomUUID } from "node:crypto";
import { expect, inject, onTestFinished, test } from "vitest";
import { connectRedis } from "../../src/adapters/redis/connect.ts";
import { RedisPresence } from "../../src/adapters/redis/redis-presence.ts";
import { presenceSuite } from "./presence.suite.ts";

const redisUrl = inject("redisUrl");

presenceSuite("Redis", () => {
  const key = randomUUID();
  const ask = async (act: (redis: ReturnType<typeof connectRedis>) => Promise<unknown>): Promise<void> => {
    const redis = connectRedis(redisUrl);
    await act(redis);
    redis.disconnect();
  };
  return {
    open: () => new RedisPresence({ redisUrl, key }),
    lapse: (name) => ask((redis) => redis.del(`${key}:${name}`)),
    damage: (name) => ask((redis) => redis.set(`${key}:${name}`, "{")),
  };
});

test("one whose state has lapsed in Redis is gone for all, whatever this machine's clock says", async () => {
  const key = randomUUID();
  const open = (): RedisPresence => {
    const made = new RedisPresence({ redisUrl, key });
    onTestFinished(() => made.close());
    return made;
  };
  const [one, other] = [open(), open()];
  await one.announce("one");
  const realNow = Date.now;
  onTestFinished(() => void (Date.now = realNow));
  Date.now = () => realNow() + 3_600_000;
  expect(await other.present()).toEqual(["one"]);
  const redis = connectRedis(redisUrl);
  onTestFinished(() => redis.disconnect());
  await redis.del(`${key}:one`);
  expect(await other.present()).toEqual([]);
  expect(await redis.zrange(key, "0", "-1")).toEqual([]);
});
