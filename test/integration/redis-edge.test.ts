/** Every port on Redis throws coded faults, whatever the server says: on a real one that is full, forbids or is gone. */
import { randomUUID } from "node:crypto";
import { Redis } from "ioredis";
import { pino } from "pino";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { openQueue } from "../../src/adapters/open-queue.ts";
import type { JobPayload } from "../../src/core/contracts.ts";
import { partId } from "../../src/core/ingest.ts";
import type { QueueServer, StoreQueues } from "../../src/core/queue-server.ts";
import { startRedis, type TestRedis } from "../fixtures/redis-server.ts";

let redis: TestRedis;
let admin: Redis;
beforeAll(async () => {
  redis = await startRedis();
  admin = new Redis(redis.url);
});
afterAll(async () => {
  admin.disconnect();
  await redis.stop();
});

const place = { start: 0, end: 8, rows: 1, tokens: 8, longest: 8 };
const JOB: JobPayload = { v: 1, run: "r", shard: "w000000-s0000", ...place };
const PART = { v: 1 as const, run: "r", part: partId(0, "0".repeat(64)) };

const STORE = "0123456789abcdef01234567";

type Call = (server: StoreQueues) => Promise<unknown>;

/** Every call on every port that writes. */
const WRITES: Record<string, Call> = {
  "JobQueue.enqueue": (server) => using(server.ofModel("m").shards(), (queue) => queue.enqueue({ jobs: [JOB] })),
  "JobQueue.requeue": (server) => using(server.ofModel("m").shards(), (queue) => queue.requeue({ jobs: [JOB] })),
  "Presence.announce": (server) => using(server.ofModel("m").workers(), (workers) => workers.announce("w")),
  "Turn.take": (server) => using(server.ofModel("m").turn(), (turn) => turn.take({ durationMs: 9 })),
  "Turn.hold": (server) => using(server.ofModel("m").turn(), (turn) => turn.hold({ name: "a", durationMs: 9 })),
  "PartQueue.add": (server) => using(server.parts({ run: "r", lockDurationMs: 30_000 }), (parts) => parts.add(PART)),
  "ControlQueue.keep": (server) =>
    using(server.control(), (control) => control.keep({ name: "n", cron: "0 2 * * *", tz: "UTC" })),
  "ControlQueue.add": (server) =>
    using(server.control(), (control) => control.add({ schedule: "n", slotMs: 1, isTriggered: true })),
};

const READS: Record<string, Call> = {
  "JobQueue.counts": (server) => using(server.ofModel("m").shards(), (queue) => queue.counts()),
  "JobQueue.unknown": (server) => using(server.ofModel("m").shards(), (queue) => queue.unknown({ jobs: [JOB] })),
  "QueueGauge.load": (server) => using(server.ofModel("m").shards(), (queue) => queue.load()),
  "JobFailures.failures": (server) =>
    using(server.ofModel("m").shards(), (queue) => queue.failures({ run: "r", limit: 1 })),
  "Presence.states": (server) => using(server.ofModel("m").workers(), (workers) => workers.states()),
  "PartQueue.state": (server) =>
    using(server.parts({ run: "r", lockDurationMs: 30_000 }), (parts) => parts.state(PART)),
  "ControlQueue.kept": (server) => using(server.control(), (control) => control.kept()),
  "ControlQueue.pending": (server) => using(server.control(), (control) => control.pending(0)),
};

async function using<T extends { close(): Promise<unknown> }, R>(port: T, act: (port: T) => Promise<R>): Promise<R> {
  onTestFinished(async () => void (await port.close().catch(() => {})));
  return act(port);
}

function open(url = redis.url, giveUp?: AbortSignal): QueueServer {
  return openQueue({ url, fleet: `f-${randomUUID()}`, log: pino({ level: "silent" }), giveUp });
}

async function expectFaults(calls: Record<string, Call>, code: string, said: RegExp, url = redis.url): Promise<void> {
  for (const [name, call] of Object.entries(calls)) {
    const found = await call(open(url).ofStore(STORE)).then(
      () => "no fault",
      (error: unknown) => error,
    );
    expect(found, name).toMatchObject({ name: "FleetError", code, cure: expect.stringMatching(/\w/) });
    expect((found as Error).message, name).toMatch(said);
    expect((found as Error).message, name).not.toContain("SECRET");
    expect((found as Error).cause, name).toBeInstanceOf(Error);
  }
}

test("a server that is full is away for now", async () => {
  await admin.config("SET", "maxmemory", "1");
  onTestFinished(() => void admin.config("SET", "maxmemory", "0"));
  await expectFaults(WRITES, "redis_unavailable", /^Redis at redis:\/\/127\.0\.0\.1:\d+ could not [a-z ]+: .*OOM/);
});

test("a user that lacks a permission is told so, without its password", async () => {
  await admin.acl("SETUSER", "poor", "on", ">SECRET", "~*", "&*", "+@connection", "+info", "+client");
  const url = redis.url.replace("//", "//poor:SECRET@");
  await expectFaults({ ...WRITES, ...READS }, "redis_unsuitable", /NOPERM/, url);
});

test("something else under a presence's key is said, and so is a password that is wrong", async () => {
  const server = open().ofStore(STORE);
  const { name } = server.ofModel("m");
  await admin.set(`embedfleet:${STORE}-${name}:workers`, "not a set");
  const workers = server.ofModel("m").workers();
  onTestFinished(() => workers.close());
  await expect(workers.present()).rejects.toMatchObject({
    code: "redis_unsuitable",
    message: expect.stringContaining("could not list processes: WRONGTYPE"),
  });
  await expect(open(redis.url.replace("//", "//poor:wrong@")).check({ allowVolatile: true })).rejects.toMatchObject({
    code: "redis_unsuitable",
    message: expect.stringContaining("WRONGPASS"),
  });
});

test("a server that is waited for no longer is away", async () => {
  const giveUp = new AbortController();
  const server = open("redis://127.0.0.1:1", giveUp.signal).ofStore(STORE);
  const queue = server.ofModel("m").shards();
  const counted = queue.counts();
  giveUp.abort();
  await expect(counted).rejects.toMatchObject({ code: "redis_unavailable" });
});
