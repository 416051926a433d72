/** What every `JobQueue`, `QueueGauge`, `JobFailures` and `JobLeases` must do: the two ends of one queue. */
import { describe, expect, onTestFinished, test } from "vitest";
import { type JobPayload, PLAN_VERSION } from "../../src/core/contracts.ts";
import type { JobFailures, JobLeases, JobQueue, LeasedJob, QueueGauge } from "../../src/core/ports.ts";

export type FullQueue = JobQueue & QueueGauge & JobFailures;

/** A queue that nobody else uses. */
export interface QueueGround {
  /** One more handle, as another process has one. */
  queue(): FullQueue;
  /** @param lockMs For how long its jobs stay its own when it is gone. */
  leases(lockMs: number): JobLeases;
}

const LOCK_MS = 30_000;
/** A job is handed out again within this and two checks. */
const SHORT_LOCK_MS = 1000;

function job(index: number, run = "r"): JobPayload {
  const shard = `w000000-s${String(index).padStart(4, "0")}`;
  return { v: 1, run, shard, start: 0, end: 8, rows: 1, tokens: 5 + index, longest: 5 + index };
}

const JOBS = [job(0), job(1), job(2)];

interface Ends {
  readonly queue: FullQueue;
  another(): FullQueue;
  readonly leases: JobLeases;
  moreLeases(lockMs?: number): JobLeases;
}

function opener(fresh: () => QueueGround): () => Ends {
  return () => {
    const ground = fresh();
    const another = (): FullQueue => {
      const queue = ground.queue();
      onTestFinished(() => queue.close());
      return queue;
    };
    const moreLeases = (lockMs = LOCK_MS): JobLeases => {
      const leases = ground.leases(lockMs);
      onTestFinished(() => leases.close());
      return leases;
    };
    return { queue: another(), another, leases: moreLeases(), moreLeases };
  };
}

/** Waits until so many have come. */
async function pull(leases: JobLeases, count: number): Promise<LeasedJob[]> {
  const pulled: LeasedJob[] = [];
  while (pulled.length < count) pulled.push(...(await leases.pull({ max: count - pulled.length, wait: true })).jobs);
  return pulled.toSorted((a, b) => (a.id < b.id ? -1 : 1));
}

const shards = (jobs: readonly JobPayload[]): string[] => jobs.map(({ shard }) => shard).toSorted();

export function jobQueueSuite(name: string, fresh: () => QueueGround): void {
  const open = opener(fresh);
  describe(`${name}: JobQueue`, () => {
    test("a job that is there is left alone, and more than one may add the same", async () => {
      const { queue, another } = open();
      expect(await queue.counts()).toEqual({ waiting: 0, active: 0, failed: 0 });
      await queue.enqueue({ jobs: [] });
      await Promise.all([queue.enqueue({ jobs: JOBS }), another().enqueue({ jobs: JOBS })]);
      await queue.enqueue({ jobs: JOBS });
      await another().requeue({ jobs: JOBS });
      expect(await queue.counts()).toEqual({ waiting: 3, active: 0, failed: 0 });
    });

    test("it takes more jobs than one call to a server should have", async () => {
      const { queue } = open();
      const jobs = Array.from({ length: 1200 }, (_, index) => job(index));
      await queue.enqueue({ jobs });
      expect(await queue.counts()).toEqual({ waiting: 1200, active: 0, failed: 0 });
      expect(await queue.unknown({ jobs: [...jobs, job(2000)] })).toEqual([job(2000)]);
      expect(await queue.remove({ jobs })).toBe(1200);
    });

    test("unknown are those that no worker has or will get, in the order in which they were asked for", async () => {
      const { queue, leases } = open();
      expect(await queue.unknown({ jobs: [] })).toEqual([]);
      expect(await queue.unknown({ jobs: JOBS.toReversed() })).toEqual(JOBS.toReversed());
      await queue.enqueue({ jobs: JOBS });
      const [active, failed, done] = (await pull(leases, 3)) as [LeasedJob, LeasedJob, LeasedJob];
      await leases.fail({ job: failed, reason: "broken" });
      await leases.complete({ job: done });
      expect(await queue.unknown({ jobs: JOBS })).toEqual([done.payload]);
      await leases.giveBack({ job: active, afterMs: 60_000 });
      expect(await queue.unknown({ jobs: JOBS })).toEqual([done.payload]);
    });

    test("a failed job comes again only when it is asked for, and afresh", async () => {
      const { queue, leases } = open();
      await queue.enqueue({ jobs: JOBS });
      const [failed, held] = (await pull(leases, 2)) as [LeasedJob, LeasedJob];
      await leases.fail({ job: failed, reason: "broken" });
      await queue.enqueue({ jobs: JOBS });
      expect(await queue.counts()).toEqual({ waiting: 1, active: 1, failed: 1 });
      await queue.requeue({ jobs: JOBS });
      expect(await queue.counts()).toEqual({ waiting: 2, active: 1, failed: 0 });
      expect(await queue.failures({ run: "r", limit: 9 })).toEqual([]);
      expect(await leases.complete({ job: held })).toBe("completed");
      for (const each of await pull(leases, 2)) expect(each).toMatchObject({ starts: 1, faults: 0, stalls: 0 });
    });

    test("what waits or has failed is taken out, and what is worked on stays", async () => {
      const { queue, leases } = open();
      await queue.enqueue({ jobs: JOBS });
      const [failed, held] = (await pull(leases, 2)) as [LeasedJob, LeasedJob];
      await leases.fail({ job: failed, reason: "broken" });
      expect(await queue.remove({ jobs: [...JOBS, job(9)] })).toBe(2);
      expect(await queue.counts()).toEqual({ waiting: 0, active: 1, failed: 0 });
      expect(await leases.complete({ job: held })).toBe("completed");
    });
  });

  describe(`${name}: QueueGauge`, () => {
    test("it counts what waits and is worked on, and says what the server has and may have", async () => {
      const { queue, leases } = open();
      await queue.enqueue({ jobs: JOBS });
      const [held] = (await pull(leases, 1)) as [LeasedJob];
      const { jobs, usedBytes, limitBytes } = await queue.load();
      expect(jobs).toBe(3);
      expect(usedBytes).toBeGreaterThan(0);
      expect(limitBytes ?? Infinity).toBeGreaterThan(0);
      await leases.fail({ job: held, reason: "broken" });
      expect((await queue.load()).jobs).toBe(2);
    });
  });

  describe(`${name}: JobFailures`, () => {
    test("they are of one run, with their reasons, and no more than are asked for", async () => {
      const { queue, leases } = open();
      await queue.enqueue({ jobs: [job(0), job(1), job(0, "r-w000000"), job(0, "other")] });
      for (const each of await pull(leases, 4)) await leases.fail({ job: each, reason: `${each.id} broke` });
      const failures = await queue.failures({ run: "r", limit: 9 });
      expect(failures.toSorted((a, b) => (a.shard < b.shard ? -1 : 1))).toEqual([
        { shard: job(0).shard, reason: `r-${job(0).shard} broke` },
        { shard: job(1).shard, reason: `r-${job(1).shard} broke` },
      ]);
      expect(await queue.failures({ run: "r", limit: 1 })).toHaveLength(1);
      expect(await queue.failures({ run: "none", limit: 9 })).toEqual([]);
    });
  });

  describe(`${name}: JobLeases`, () => {
    test("each job is handed out once, as many at a time as are asked for, and is gone when it is completed", async () => {
      const { queue, leases, moreLeases } = open();
      expect(await leases.pull({ max: 4, wait: false })).toEqual({ jobs: [], refused: [] });
      await queue.enqueue({ jobs: [...JOBS, job(3)] });
      const first = (await leases.pull({ max: 2, wait: true })).jobs;
      const second = (await moreLeases().pull({ max: 9, wait: true })).jobs;
      expect([first.length, second.length]).toEqual([2, 2]);
      expect(shards([...first, ...second].map(({ payload }) => payload))).toEqual(shards([...JOBS, job(3)]));
      for (const each of first) expect(each).toMatchObject({ stalls: 0, starts: 1, faults: 0 });
      for (const each of first) expect(await leases.complete({ job: each })).toBe("completed");
      expect(await queue.counts()).toEqual({ waiting: 0, active: 2, failed: 0 });
    });

    test("who holds no lease settles nothing, and is told only of a completion", async () => {
      const { queue, leases, moreLeases } = open();
      await queue.enqueue({ jobs: JOBS });
      const [held] = (await pull(leases, 1)) as [LeasedJob];
      const other = moreLeases();
      expect(await other.complete({ job: held })).toBe("lease-lost");
      await other.giveBack({ job: held });
      await other.retry({ job: held, afterMs: 1, reason: "not mine" });
      await other.fail({ job: held, reason: "not mine" });
      expect(await queue.counts()).toEqual({ waiting: 2, active: 1, failed: 0 });
      expect(await leases.complete({ job: held })).toBe("completed");
      expect(await leases.complete({ job: held })).toBe("lease-lost");
      await leases.fail({ job: held, reason: "too late" });
      expect(await queue.counts()).toEqual({ waiting: 2, active: 0, failed: 0 });
    });

    test("what is given back comes again at once, or when its time has come, and counts no fault", async () => {
      const { queue, leases } = open();
      await queue.enqueue({ jobs: [job(0)] });
      await leases.giveBack({ job: (await pull(leases, 1))[0]! });
      expect(await queue.counts()).toEqual({ waiting: 1, active: 0, failed: 0 });
      const [second] = (await leases.pull({ max: 1, wait: false })).jobs;
      expect(second).toMatchObject({ starts: 2, faults: 0, stalls: 0 });
      await leases.giveBack({ job: second!, afterMs: 600 });
      expect(await leases.pull({ max: 1, wait: false })).toEqual({ jobs: [], refused: [] });
      expect(await queue.counts()).toEqual({ waiting: 1, active: 0, failed: 0 });
      expect((await pull(leases, 1))[0]).toMatchObject({ starts: 3, faults: 0, stalls: 0 });
    });

    test("a wait for jobs that is ended takes no job along", async () => {
      const { queue, leases, moreLeases } = open();
      const stopping = new AbortController();
      const leaves = leases.pull({ max: 1, wait: true, until: stopping.signal });
      stopping.abort();
      expect(await leaves).toEqual({ jobs: [], refused: [] });
      await queue.enqueue({ jobs: [job(0)] });
      expect(await leases.pull({ max: 1, wait: true, until: stopping.signal })).toEqual({ jobs: [], refused: [] });
      expect((await pull(moreLeases(), 1)).map(({ stalls }) => stalls)).toEqual([0]);
    });

    test("a fault is counted, whoever had it", async () => {
      const { queue, leases, moreLeases } = open();
      await queue.enqueue({ jobs: [job(0)] });
      await leases.retry({ job: (await pull(leases, 1))[0]!, afterMs: 300, reason: "it broke" });
      expect(await queue.counts()).toEqual({ waiting: 1, active: 0, failed: 0 });
      const other = moreLeases();
      const [again] = (await pull(other, 1)) as [LeasedJob];
      expect(again).toMatchObject({ starts: 2, faults: 1, stalls: 0 });
      await other.retry({ job: again, afterMs: 1, reason: "it broke again" });
      expect((await pull(leases, 1))[0]).toMatchObject({ starts: 3, faults: 2 });
    });

    test("a job that is given up is handed to nobody any more", async () => {
      const { queue, leases } = open();
      await queue.enqueue({ jobs: [job(0)] });
      await leases.fail({ job: (await pull(leases, 1))[0]!, reason: "broken" });
      expect(await leases.pull({ max: 1, wait: false })).toEqual({ jobs: [], refused: [] });
      expect(await queue.counts()).toEqual({ waiting: 0, active: 0, failed: 1 });
      expect(await queue.failures({ run: "r", limit: 9 })).toEqual([{ shard: job(0).shard, reason: "broken" }]);
    });

    test("the jobs of one who is gone are another's in time, who is told that they stalled", async () => {
      const { queue, moreLeases } = open();
      const [gone, alive] = [moreLeases(SHORT_LOCK_MS), moreLeases(SHORT_LOCK_MS)];
      await queue.enqueue({ jobs: JOBS });
      expect(await pull(gone, 3)).toHaveLength(3);
      await gone.close();
      for (const each of await pull(alive, 3)) {
        expect(each.stalls).toBe(1);
        expect(await alive.complete({ job: each })).toBe("completed");
      }
      expect(await queue.counts()).toEqual({ waiting: 0, active: 0, failed: 0 });
    });

    test("a forged payload is refused, says why, and fails", async () => {
      const { queue, leases } = open();
      await queue.enqueue({ jobs: [{ ...job(0), run: "../../etc" }] });
      const { jobs, refused } = await leases.pull({ max: 4, wait: true });
      expect(jobs).toEqual([]);
      expect(refused).toEqual([
        { id: `../../etc-${job(0).shard}`, reason: expect.stringContaining("the payload is not a valid job") },
      ]);
      expect(await queue.counts()).toEqual({ waiting: 0, active: 0, failed: 1 });
    });

    test("a payload of a newer program is given back with all that came with it, and ends the worker", async () => {
      const { queue, leases } = open();
      const newer = { ...job(1), v: PLAN_VERSION + 1 } as unknown as JobPayload;
      await queue.enqueue({ jobs: [job(0), newer] });
      await expect(leases.pull({ max: 4, wait: true })).rejects.toMatchObject({
        code: "contract_newer",
        message: expect.stringContaining(`contract version ${PLAN_VERSION + 1}`),
      });
      expect(await queue.counts()).toEqual({ waiting: 2, active: 0, failed: 0 });
    });
  });
}
