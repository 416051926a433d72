/** The queue's two ends on a real Redis. */
import { randomUUID } from "node:crypto";
import { pino } from "pino";
import { expect, inject, onTestFinished, test } from "vitest";
import { BullLeases } from "../../src/adapters/redis/bull-leases.ts";
import { BullQueue } from "../../src/adapters/redis/bull-queue.ts";
import { type JobPayload, PLAN_VERSION } from "../../src/core/contracts.ts";
import type { LeasedJob } from "../../src/core/ports.ts";
import { Heartbeat } from "../../src/core/heartbeat.ts";

const redisUrl = inject("redisUrl");

function job(index: number, longest: number): JobPayload {
  return {
    v: 1,
    run: "r",
    shard: `w000000-s${String(index).padStart(4, "0")}`,
    start: 0,
    end: 8,
    rows: 1,
    tokens: longest,
    longest,
  };
}

function openLeases(name: string, lockDurationMs: number, heartbeat?: Heartbeat): BullLeases {
  const log = pino({ level: "silent" });
  const leases = new BullLeases({
    redisUrl,
    name,
    workerId: randomUUID(),
    lockDurationMs,
    log,
    ...(heartbeat && { heartbeat }),
  });
  onTestFinished(() => leases.close());
  return leases;
}

function openBoth(
  lockDurationMs = 30_000,
  heartbeat?: Heartbeat,
): { queue: BullQueue; leases: BullLeases; name: string } {
  const name = `test-${randomUUID()}`;
  const queue = new BullQueue({ redisUrl, name });
  onTestFinished(() => queue.close());
  return { queue, leases: openLeases(name, lockDurationMs, heartbeat), name };
}

test("longest first, each once, gone when completed", async () => {
  const { queue, leases } = openBoth();
  const jobs = [job(0, 10), job(1, 8192), job(2, 500)];
  await queue.enqueue({ jobs });
  await queue.enqueue({ jobs });
  expect(await queue.counts()).toEqual({ waiting: 3, active: 0, failed: 0 });
  const pulled = await leases.pull({ max: 8, wait: true });
  expect(pulled.jobs.map(({ payload }) => payload.longest)).toEqual([8192, 500, 10]);
  for (const each of pulled.jobs) expect(await leases.complete({ job: each })).toBe("completed");
  expect(await leases.complete({ job: pulled.jobs[0]! })).toBe("lease-lost");
  expect(await queue.counts()).toEqual({ waiting: 0, active: 0, failed: 0 });
});

test("a worker that stops waits for no job, and closes at once", async () => {
  const { leases, name } = openBoth();
  const others = openLeases(name, 30_000);
  // Asked for the first time, BullMQ answers without waiting.
  for (const each of [leases, others]) await each.pull({ max: 1, wait: true });
  const stopping = new AbortController();
  const waits = others.pull({ max: 1, wait: true }).then(() => "another's wait is over");
  const leaves = leases.pull({ max: 1, wait: true, until: stopping.signal });
  stopping.abort();
  expect(await leaves).toEqual({ jobs: [], refused: [] });
  expect(await Promise.race([waits, leases.close().then(() => "closed")])).toBe("closed");
});

test("what is given back comes again, and what failed comes again only when it is asked for", async () => {
  const { queue, leases } = openBoth();
  await queue.enqueue({ jobs: [job(0, 5)] });
  const first = await leases.pull({ max: 1, wait: true });
  await leases.giveBack({ job: first.jobs[0]! });
  const second = await leases.pull({ max: 1, wait: true });
  expect(second.jobs[0]!.id).toBe(first.jobs[0]!.id);
  await leases.fail({ job: second.jobs[0]!, reason: "broken" });
  await queue.enqueue({ jobs: [job(0, 5)] });
  expect(await queue.counts()).toEqual({ waiting: 0, active: 0, failed: 1 });
  expect(await queue.failures({ run: "r", limit: 5 })).toEqual([{ shard: "w000000-s0000", reason: "broken" }]);
  await queue.requeue({ jobs: [job(0, 5)] });
  expect(await queue.counts()).toEqual({ waiting: 1, active: 0, failed: 0 });
});

test("failures of one run are found behind a thousand of another's, and not taken for those of a run named alike", async () => {
  const { queue, leases } = openBoth();
  const failAll = async (jobs: readonly JobPayload[]): Promise<void> => {
    await queue.enqueue({ jobs });
    for (let left = jobs.length; left > 0;) {
      const { jobs: pulled } = await leases.pull({ max: 256, wait: true });
      await Promise.all(pulled.map((each) => leases.fail({ job: each, reason: `${each.payload.run} broke` })));
      left -= pulled.length;
    }
  };
  await failAll([job(0, 5), job(1, 5)]);
  await failAll([{ ...job(7, 5), run: "r-w000000" }]);
  await failAll(Array.from({ length: 1100 }, (_, i) => ({ ...job(i, 5), run: "another" })));
  const failures = await queue.failures({ run: "r", limit: 5 });
  expect(failures.sort((a, b) => (a.shard < b.shard ? -1 : 1))).toEqual([
    { shard: "w000000-s0000", reason: "r broke" },
    { shard: "w000000-s0001", reason: "r broke" },
  ]);
  expect(await queue.failures({ run: "r", limit: 1 })).toHaveLength(1);
  expect(await queue.failures({ run: "none", limit: 5 })).toEqual([]);
});

test("the jobs of a worker that died are another's within the lock and two checks", async () => {
  const lockDurationMs = 3000;
  const { queue, leases: dead, name } = openBoth(lockDurationMs);
  const alive = openLeases(name, lockDurationMs);
  await queue.enqueue({ jobs: [job(0, 5), job(1, 6)] });
  expect((await dead.pull({ max: 2, wait: true })).jobs.map(({ stalls }) => stalls)).toEqual([0, 0]);
  await dead.close();
  const diedAtMs = performance.now();
  const recovered = [];
  while (recovered.length < 2) recovered.push(...(await alive.pull({ max: 2, wait: true })).jobs);
  expect(recovered.map(({ stalls }) => stalls)).toEqual([1, 1]);
  console.log(`RECOVERED after a death in ${Math.round(performance.now() - diedAtMs)} ms (lock 3 s, promise 5 s)`);
  // Twice the promise, for machines as busy as those that run tests.
  expect(performance.now() - diedAtMs).toBeLessThan(2 * lockDurationMs * (1 + 2 / 3));
});

test("a main thread held up for longer than the lock keeps its jobs", async () => {
  const { queue, leases } = openBoth(2000);
  await queue.enqueue({ jobs: [job(0, 5), job(1, 6)] });
  const { jobs } = await leases.pull({ max: 2, wait: true });
  expect(jobs).toHaveLength(2);
  // As a long native call or a collection of garbage would: nothing runs on this thread meanwhile.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5000);
  for (const each of jobs) expect(await leases.complete({ job: each })).toBe("completed");
});

test("a device that gives no answer loses its jobs to another worker", async () => {
  const heartbeat = new Heartbeat({ maxSilentMs: 200 });
  const { queue, leases: hung, name } = openBoth(1000, heartbeat);
  await queue.enqueue({ jobs: [job(0, 5), job(1, 6)] });
  const { jobs } = await hung.pull({ max: 2, wait: true });
  heartbeat.deviceWorks();
  const other = openLeases(name, 1000);
  const recovered: LeasedJob[] = [];
  while (recovered.length < 2) recovered.push(...(await other.pull({ max: 2, wait: true })).jobs);
  expect(recovered.map(({ stalls }) => stalls)).toEqual([1, 1]);
  expect(await hung.complete({ job: jobs[0]! })).toBe("lease-lost");
});

test("a forged payload is refused and fails with its reason", async () => {
  const { queue, leases } = openBoth();
  await queue.enqueue({ jobs: [{ ...job(0, 5), run: "../../etc" }] });
  const pulled = await leases.pull({ max: 4, wait: true });
  expect(pulled.jobs).toEqual([]);
  expect(pulled.refused[0]!.reason).toContain("the payload is not a valid job");
  expect((await queue.counts()).failed).toBe(1);
});

test("a payload of a newer program is given back with all that came with it, and ends the worker", async () => {
  const { queue, leases } = openBoth();
  const newer = { ...job(1, 6), v: PLAN_VERSION + 1 } as unknown as JobPayload;
  await queue.enqueue({ jobs: [job(0, 5), newer] });
  await expect(leases.pull({ max: 4, wait: true })).rejects.toMatchObject({
    code: "contract_newer",
    message: expect.stringContaining(`contract version ${PLAN_VERSION + 1}`),
  });
  expect(await queue.counts()).toEqual({ waiting: 2, active: 0, failed: 0 });
});

test("what is given back for a while comes when that has passed, and a fault is counted", async () => {
  const { queue, leases } = openBoth();
  await queue.enqueue({ jobs: [job(0, 5)] });
  const [first] = (await leases.pull({ max: 1, wait: true })).jobs;
  expect(first).toMatchObject({ starts: 1, faults: 0 });
  await leases.giveBack({ job: first!, afterMs: 300 });
  expect((await leases.pull({ max: 1, wait: false })).jobs).toEqual([]);
  expect(await queue.counts()).toEqual({ waiting: 1, active: 0, failed: 0 });
  const second = await pullOne(leases);
  expect(second).toMatchObject({ starts: 2, faults: 0 });
  await leases.retry({ job: second, afterMs: 300, reason: "it broke" });
  expect(await queue.counts()).toEqual({ waiting: 1, active: 0, failed: 0 });
  expect(await queue.unknown({ jobs: [job(0, 5)] })).toEqual([]);
  expect(await pullOne(leases)).toMatchObject({ starts: 3, faults: 1 });
});

async function pullOne(leases: BullLeases): Promise<LeasedJob> {
  for (;;) {
    const { jobs } = await leases.pull({ max: 1, wait: true });
    if (jobs.length > 0) return jobs[0]!;
  }
}
