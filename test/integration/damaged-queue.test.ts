/** A Redis that has lost or spoiled a part of a queue: what is known of its jobs then, and how they come back. */
import { randomUUID } from "node:crypto";
import { Redis } from "ioredis";
import { pino } from "pino";
import { afterAll, beforeEach, expect, inject, test } from "vitest";
import { BullLeases } from "../../src/adapters/redis/bull-leases.ts";
import { BullQueue } from "../../src/adapters/redis/bull-queue.ts";
import type { JobPayload } from "../../src/core/contracts.ts";
import { jobId } from "../../src/core/layout.ts";
import type { LeasedJob } from "../../src/core/ports.ts";
import { resumeRun } from "../../src/run/reconcile.ts";
import { MemoryQueue } from "../fixtures/memory-queue.ts";
import { plan } from "../fixtures/pretend-fleet.ts";
import { ScriptedStore } from "../fixtures/scripted-store.ts";

const redisUrl = inject("redisUrl");
const name = `test-${randomUUID()}`;
const redis = new Redis(redisUrl);
const queue = new BullQueue({ redisUrl, name });
// One for all tests: to begin one takes a thread, and most of a test's time.
const leases = new BullLeases({
  redisUrl,
  name,
  workerId: "w",
  lockDurationMs: 30_000,
  log: pino({ level: "silent" }),
});
afterAll(async () => {
  await Promise.all([queue.close(), leases.close()]);
  redis.disconnect();
});

function job(index: number, run = "r"): JobPayload {
  const shard = `w000000-s${String(index).padStart(4, "0")}`;
  return { v: 1, run, shard, start: 0, end: 8, rows: 1, tokens: 5 + index, longest: 5 + index };
}

function key(suffix: string): string {
  return `embedfleet:${name}:${suffix}`;
}

const JOBS = [job(0), job(1), job(2)];
const HASHES = JOBS.map(({ run, shard }) => key(jobId(run, shard)));
/** The third job, which comes first, and which the one worker has. */
let held: LeasedJob;

beforeEach(async () => {
  const keys = await redis.keys(key("*"));
  if (keys.length > 0) await redis.del(keys);
  await queue.enqueue({ jobs: JOBS });
  [held] = (await pull(1)) as [LeasedJob];
  expect(held.payload).toEqual(JOBS[2]);
});

async function pull(count: number): Promise<LeasedJob[]> {
  const pulled: LeasedJob[] = [];
  while (pulled.length < count) pulled.push(...(await leases.pull({ max: count - pulled.length, wait: false })).jobs);
  return pulled.toSorted((a, b) => (a.id < b.id ? -1 : 1));
}

async function payloads(count: number): Promise<JobPayload[]> {
  return (await pull(count)).map(({ payload }) => payload);
}

test("jobs in no list are unknown although their hashes are there, and are really queued again, once", async () => {
  await redis.del(key("prioritized"), key("wait"), key("active"));
  // The third one's holder goes on.
  expect(await queue.unknown({ jobs: JOBS })).toEqual(JOBS.slice(0, 2));
  const other = new BullQueue({ redisUrl, name });
  await Promise.all([queue.enqueue({ jobs: JOBS }), other.requeue({ jobs: JOBS }), queue.requeue({ jobs: JOBS })]);
  await other.close();
  expect(await queue.counts()).toEqual({ waiting: 2, active: 0, failed: 0 });
  expect(await queue.unknown({ jobs: JOBS })).toEqual([]);
  expect(await payloads(2)).toEqual(JOBS.slice(0, 2));
});

test("jobs in a list without their hashes are unknown, are dropped by workers, and come back whole", async () => {
  await redis.del(HASHES.slice(0, 2));
  expect(await queue.unknown({ jobs: JOBS })).toEqual(JOBS.slice(0, 2));
  expect((await leases.pull({ max: 1, wait: false })).jobs).toEqual([]);
  expect(await queue.counts()).toEqual({ waiting: 1, active: 1, failed: 0 });
  await queue.enqueue({ jobs: JOBS });
  expect(await payloads(2)).toEqual(JOBS.slice(0, 2));
});

test("a failed job whose hash is gone is unknown: nobody could say why it failed", async () => {
  await leases.fail({ job: held, reason: "broken" });
  expect(await queue.unknown({ jobs: JOBS })).toEqual([]);
  await redis.del(HASHES[2]!);
  expect(await queue.unknown({ jobs: JOBS })).toEqual([JOBS[2]]);
  await queue.enqueue({ jobs: JOBS });
  expect(await queue.counts()).toEqual({ waiting: 3, active: 0, failed: 0 });
});

test("jobs where no worker looks are unknown: completed and kept, put off for a year, paused long ago", async () => {
  const [a, b] = JOBS.map(({ run, shard }) => jobId(run, shard)) as [string, string];
  await redis.del(key("prioritized"));
  await redis.zadd(key("delayed"), (Date.now() + 365 * 86_400_000) * 0x1000, a);
  await redis.rpush(key("paused"), b);
  expect(await queue.unknown({ jobs: JOBS })).toEqual(JOBS.slice(0, 2));
  await queue.enqueue({ jobs: JOBS });
  expect(await redis.exists(key("delayed"), key("paused"))).toBe(0);
  expect(await payloads(2)).toEqual(JOBS.slice(0, 2));
});

const WRONG_KEYS = ["wait", "active", "prioritized", "delayed", "failed", "completed", "marker", "stalled"];
const WRONG_COUNTS = ["events", "meta", "pc", "id", "stalled-check"];

test.each([...WRONG_KEYS, ...WRONG_COUNTS])("a key %s of a wrong type is removed, and the jobs go on", async (bad) => {
  await redis.del(key(bad));
  await (["pc", "id", "stalled-check"].includes(bad) ? redis.rpush(key(bad), "damage") : redis.set(key(bad), "damage"));
  expect(await queue.unknown({ jobs: JOBS })).toEqual(bad === "prioritized" ? JOBS.slice(0, 2) : []);
  expect(queue.repaired).toContain(bad);
  await queue.enqueue({ jobs: JOBS });
  for (const each of await pull(2)) expect(await leases.complete({ job: each })).toBe("completed");
  expect((await queue.counts()).waiting).toBe(0);
});

test.each(["pc", "id"])("a count %s that is no number is removed", async (bad) => {
  await redis.set(key(bad), "many");
  await queue.requeue({ jobs: [job(7)] });
  expect(await queue.unknown({ jobs: [job(7)] })).toEqual([]);
});

test("a check for stalled jobs that another seems to do for ever is done again", async () => {
  await redis.set(key("stalled-check"), "1");
  await queue.unknown({ jobs: JOBS });
  expect(await redis.exists(key("stalled-check"))).toBe(0);
});

const DAMAGES: [string, (hash: string) => Promise<unknown>][] = [
  ["is no hash", (hash) => redis.multi().del(hash).set(hash, "damage").exec()],
  ["has data that is no JSON", (hash) => redis.hset(hash, "data", "{")],
  ["has another job's data", (hash) => redis.hset(hash, "data", JSON.stringify(job(1)))],
  ["has options that are no JSON", (hash) => redis.hset(hash, "opts", "?")],
  ["has a count that is no number", (hash) => redis.hset(hash, "ats", "many")],
  ["is locked for ever", (hash) => redis.set(`${hash}:lock`, "nobody")],
  ["has a lock that is no lock", (hash) => redis.rpush(`${hash}:lock`, "nobody")],
];

test.each(DAMAGES)("a job that %s is replaced", async (_, damage) => {
  await damage(HASHES[0]!);
  expect(await queue.unknown({ jobs: JOBS })).toEqual([JOBS[0]]);
  await queue.enqueue({ jobs: JOBS });
  expect(await queue.unknown({ jobs: JOBS })).toEqual([]);
  expect(await payloads(2)).toEqual(JOBS.slice(0, 2));
});

test("damage that workers meet first does not end them", async () => {
  await redis.hset(HASHES[0]!, "ats", "many");
  await redis.hset(HASHES[1]!, "data", "{");
  await redis.set(key("wait"), "damage");
  const pulled: LeasedJob[] = [];
  while (pulled.length < 2) {
    pulled.push(...(await leases.pull({ max: 4, wait: true })).jobs);
    await queue.enqueue({ jobs: await queue.unknown({ jobs: JOBS }) });
  }
  expect(pulled.map(({ id }) => id).toSorted()).toEqual(["r-w000000-s0000", "r-w000000-s0001"]);
});

test("another run's jobs stay as they are, whatever is done for one", async () => {
  const others = [job(0, "r-w000000"), job(1, "r-w000000")];
  await queue.enqueue({ jobs: others });
  const damaged = key("r-w000000-w000000-s0001");
  await redis.hset(damaged, "data", "{");
  const before = await redis.hgetall(damaged);
  await queue.requeue({ jobs: JOBS });
  expect(await queue.remove({ jobs: JOBS })).toBe(2);
  expect(await redis.hgetall(damaged)).toEqual(before);
  expect(await payloads(1)).toEqual([others[0]]);
});

test("resume does not say that jobs are queued that are not there afterwards", async () => {
  const store = new ScriptedStore();
  const { closed } = await plan(store, { run: "r", corpus: [["d", "a text"]] });
  class ForgetfulQueue extends MemoryQueue {
    override async requeue(): Promise<void> {}
  }
  const resuming = resumeRun({ store, queue: new ForgetfulQueue(), fleet: "f", run: "r" });
  await expect(resuming).rejects.toMatchObject({
    code: "run_incomplete",
    message: expect.stringMatching(/^1 jobs of/),
  });
  const found = { planned: closed.shards, done: 0, queued: closed.shards, lost: 0 };
  expect(await resumeRun({ store, queue: new MemoryQueue(), fleet: "f", run: "r" })).toEqual(found);
});
