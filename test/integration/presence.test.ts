/** Who is at work, told by Redis's clock. */
import { randomUUID } from "node:crypto";
import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { RedisPresence } from "../../src/adapters/redis/redis-presence.ts";
import { startRedis, type TestRedis } from "../fixtures/redis-server.ts";

let server: TestRedis;
beforeAll(async () => (server = await startRedis()));
afterAll(() => server.stop());

function presence(key: string): RedisPresence {
  const made = new RedisPresence({ redisUrl: server.url, key });
  onTestFinished(() => made.close());
  return made;
}

test("who announces itself is seen with what it says, and who withdraws is not", async () => {
  const key = randomUUID();
  const [one, other] = [presence(key), presence(key)];
  await one.announce("one", () => ({ says: "hello" }));
  await other.announce("other");
  expect((await other.present()).toSorted()).toEqual(["one", "other"]);
  expect((await other.states()).get("one")).toEqual({ says: "hello" });
  await one.withdraw("one");
  expect(await other.present()).toEqual(["other"]);
});

test("one whose state has lapsed in Redis is gone for all, whatever this machine's clock says", async () => {
  const key = randomUUID();
  const [one, other] = [presence(key), presence(key)];
  await one.announce("one");
  const realNow = Date.now;
  onTestFinished(() => void (Date.now = realNow));
  Date.now = () => realNow() + 3_600_000;
  expect(await other.present()).toEqual(["one"]);
  const redis = new Redis(server.url);
  onTestFinished(() => redis.disconnect());
  await redis.del(`${key}:one`);
  expect(await other.present()).toEqual([]);
  expect(await redis.zrange(key, "0", "-1")).toEqual([]);
});
