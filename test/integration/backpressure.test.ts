/** Producers wait for the workers: on a real Redis of the test's own, that is filled and emptied. */
import { Redis } from "ioredis";
import { pino } from "pino";
import { expect, onTestFinished, test } from "vitest";
import { Backpressure } from "../../producers/backpressure.ts";
import { BullQueue } from "../../src/adapters/redis/bull-queue.ts";
import { checkRedis } from "../../src/adapters/redis/connect.ts";
import type { FleetEvent } from "../../src/core/telemetry.ts";
import { cli, startCli } from "../fixtures/cli.ts";
import { makeCorpus } from "../fixtures/made-corpus.ts";
import { type RedisOptions, startRedis, type TestRedis } from "../fixtures/redis-server.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";

async function server(options: RedisOptions = {}): Promise<TestRedis> {
  const redis = await startRedis(options);
  onTestFinished(() => redis.stop());
  return redis;
}

function jobs(
  count: number,
): { v: 1; run: string; shard: string; start: number; end: number; rows: number; tokens: number; longest: number }[] {
  const shardOf = (i: number): string =>
    `w${String(Math.floor(i / 10_000)).padStart(6, "0")}-s${String(i % 10_000).padStart(4, "0")}`;
  const place = { start: 0, end: 8, rows: 1, tokens: 5, longest: 5 };
  return Array.from({ length: count }, (_, i) => ({ v: 1, run: "r", shard: shardOf(i), ...place }));
}

async function pressureOn(
  redis: TestRedis,
  maxBacklog: number,
): Promise<{ queue: BullQueue; pressure: Backpressure; client: Redis; events: FleetEvent[] }> {
  const queue = new BullQueue({ redisUrl: redis.url, name: "q" });
  const client = new Redis(redis.url);
  onTestFinished(async () => {
    client.disconnect();
    await queue.close();
  });
  const events: FleetEvent[] = [];
  const log = pino({ level: "silent" });
  const observe = (event: FleetEvent): void => void events.push(event);
  const pressure = new Backpressure({ gauge: queue, maxBacklog, log, observe, checkIntervalMs: 10 });
  return { queue, pressure, client, events };
}

/** Resolves when it waits; fails when it got through first. */
async function untilWaiting(pressure: Backpressure, through: Promise<void>): Promise<void> {
  let isThrough = false;
  void through.then(() => (isThrough = true));
  while (pressure.waitsFor === null) {
    expect(isThrough).toBe(false);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

test("a backlog at its cap holds a window back until there is room, and an empty queue takes any window", async () => {
  const { queue, pressure, client, events } = await pressureOn(await server(), 100);
  await pressure.untilRoom({ jobs: 1000 });
  await queue.enqueue({ jobs: jobs(60) });
  await pressure.untilRoom({ jobs: 10 });
  expect(events).toEqual([]);
  const through = pressure.untilRoom({ jobs: 50 });
  await untilWaiting(pressure, through);
  expect(pressure.waitsFor).toBe("60 jobs are queued and --max-backlog is 100");
  await client.flushall();
  await through;
  expect(pressure.waitsFor).toBeNull();
  expect(events.length).toBeGreaterThan(0);
  for (const event of events) expect(event).toMatchObject({ kind: "backpressure", limit: "backlog" });
});

test("a producer that waits for room can be told to go", async () => {
  const { queue, pressure } = await pressureOn(await server(), 100);
  await queue.enqueue({ jobs: jobs(60) });
  const told = new AbortController();
  const through = pressure.untilRoom({ jobs: 50, signal: told.signal });
  const outcome = expect(through).rejects.toThrow("told to go");
  await untilWaiting(
    pressure,
    through.catch(() => {}),
  );
  told.abort(new Error("told to go"));
  await outcome;
  expect(pressure.waitsFor).toBeNull();
});

test("planning waits before Redis is 60 % full, and goes on when it is emptier", async () => {
  const { queue, pressure, client } = await pressureOn(await server(), 1_000_000);
  await queue.enqueue({ jobs: jobs(1) });
  const { usedBytes } = await queue.load();
  await client.config("SET", "maxmemory", String(Math.round(usedBytes / 0.2)));
  let planned = 1;
  let through = pressure.untilRoom({ jobs: 200 });
  for (; pressure.waitsFor === null; through = pressure.untilRoom({ jobs: 200 })) {
    await Promise.race([through, new Promise((resolve) => setTimeout(resolve, 100))]);
    if (pressure.waitsFor !== null) break;
    planned += 200;
    await queue.enqueue({ jobs: jobs(planned) });
  }
  const full = await queue.load();
  expect(full.usedBytes / full.limitBytes!).toBeLessThan(0.6);
  expect(full.usedBytes / full.limitBytes!).toBeGreaterThan(0.5);
  await client.config("SET", "maxmemory", String(usedBytes * 20));
  await through;
});

test("a Redis that keeps nothing on disk is refused, unless it is named as volatile", async () => {
  const { url } = await server({ args: ["--appendonly", "no"] });
  await expect(checkRedis(url, { allowVolatile: false })).rejects.toMatchObject({
    code: "redis_unsuitable",
    cure: expect.stringContaining("--allow-volatile-redis"),
  });
  expect(await checkRedis(url, { allowVolatile: true })).toEqual([expect.stringContaining("nothing on disk")]);
  const snapshots = await server({ args: ["--appendonly", "no", "--save", "900 1"] });
  expect(await checkRedis(snapshots.url, { allowVolatile: false })).toEqual([
    expect.stringContaining("only snapshots"),
  ]);
});

test("a producer waits for another's backlog, says so in its log and in status, and goes on by itself", async () => {
  const redis = await server();
  const folder = await tempFolder();
  const corpus = join(folder, "corpus.jsonl");
  await writeFile(corpus, makeCorpus({ documents: 20, seed: 1, maxWords: 20 }));
  const common = ["--out", `file://${folder}/out`, "--redis", redis.url, "--log-level", "warn"];
  expect((await cli(["enqueue", corpus, ...common, "--run", "first"])).code).toBe(0);
  const second = startCli(["enqueue", corpus, ...common, "--run", "second", "--max-backlog", "1"]);
  let waitsFor: string | null = null;
  while (waitsFor?.startsWith("room in the queue") !== true) {
    const { stdout } = await cli(["status", "second", ...common, "--json"]);
    ({ waitsFor } = JSON.parse(stdout === "" ? '{"waitsFor":null}' : stdout) as { waitsFor: string | null });
  }
  expect(waitsFor).toContain("--max-backlog is 1");
  const worker = await cli(["work", ...common, "--threads", "1", "--exit-when-done"]);
  expect(worker.code, worker.stderr).toBe(0);
  const { code, stderr } = await second.finished;
  expect(code, stderr).toBe(0);
  expect(stderr).toContain("planning waits for the workers");
});
