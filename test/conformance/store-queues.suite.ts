/** What every `QueueServer` must do for stores that share a fleet's name: nothing of one is seen by another. */
import { randomUUID } from "node:crypto";
import { describe, expect, onTestFinished, test } from "vitest";
import type { JobPayload } from "../../src/core/contracts.ts";
import { type PartJob, partId } from "../../src/core/ingest.ts";
import type { JobLeases, Pulled } from "../../src/core/ports.ts";
import type { QueueServer, ShardQueue, StoreQueues } from "../../src/core/queue-server.ts";

const [HERE, THERE] = ["0123456789abcdef01234567", "fedcba9876543210fedcba98"];
const JOB: JobPayload = { v: 1, run: "r", shard: "w000000-s0000", start: 0, end: 8, rows: 1, tokens: 5, longest: 5 };
const NOTHING = { waiting: 0, active: 0, failed: 0 };

function kept<T extends { close(): Promise<unknown> }>(port: T): T {
  onTestFinished(async () => void (await port.close()));
  return port;
}

/** @param open One more handle on a fleet's server, as another process has one. */
export function storeQueuesSuite(name: string, open: (fleet: string) => QueueServer): void {
  function openTwo(): [here: StoreQueues, there: StoreQueues] {
    const server = open(randomUUID());
    return [server.ofStore(HERE), server.ofStore(THERE)];
  }

  describe(`${name}: the queues of two stores`, () => {
    test("each worker gets the jobs of its own store, which have the same ids in both", async () => {
      const [here, there] = openTwo().map((queues) => queues.ofModel("m")) as [
        ReturnType<StoreQueues["ofModel"]>,
        ReturnType<StoreQueues["ofModel"]>,
      ];
      const [own, other] = [kept(here.shards()), kept(there.shards())] as [ShardQueue, ShardQueue];
      const worker: JobLeases = kept(here.leases({ workerId: "w", lockDurationMs: 30_000 }));
      await other.enqueue({ jobs: [{ ...JOB, tokens: 6 }] });
      expect(await worker.pull({ max: 4, wait: false })).toEqual({ jobs: [], refused: [] });
      await own.enqueue({ jobs: [JOB] });
      const pulled: Pulled = await worker.pull({ max: 4, wait: true });
      expect(pulled.jobs.map(({ payload }) => payload)).toEqual([JOB]);
      await worker.fail({ job: pulled.jobs[0]!, reason: "broken" });
      expect(await other.failures({ run: "r", limit: 9 })).toEqual([]);
      expect(await own.remove({ jobs: [JOB] })).toBe(1);
      expect(await own.counts()).toEqual(NOTHING);
      expect(await other.counts()).toEqual({ ...NOTHING, waiting: 1 });
      // The name by which a store's markers, metrics and API know the queue is the same for both.
      expect(here.name).toBe(there.name);
    });

    test("workers, producers, turns, parts and schedules of one are not the other's", async () => {
      const [here, there] = openTwo();
      const durationMs = 30_000;
      for (const port of ["workers", "producers"] as const) {
        const [own, other] = [kept(here.ofModel("m")[port]()), kept(there.ofModel("m")[port]())];
        await other.announce("p");
        expect(await own.present(), port).toEqual([]);
      }
      for (const turnOf of [
        (queues: StoreQueues) => queues.ofModel("m").turn(),
        (queues: StoreQueues) => queues.controlTurn(),
      ]) {
        const [own, other] = [kept(turnOf(here)), kept(turnOf(there))];
        expect([await other.take({ durationMs }), await own.take({ durationMs })]).toEqual([true, true]);
        expect([await other.hold({ name: "a", durationMs }), await own.hold({ name: "a", durationMs })]).not.toContain(
          null,
        );
      }
      const part: PartJob = { v: 1, run: "r", part: partId(0, "0".repeat(64)) };
      const [ownParts, otherParts] = [here, there].map((queues) =>
        kept(queues.parts({ run: "r", lockDurationMs: durationMs })),
      );
      await otherParts!.add(part);
      expect(await ownParts!.state(part)).toEqual({ kind: "unknown" });
      expect(await otherParts!.state(part)).toEqual({ kind: "queued" });
      const [ownSchedules, otherSchedules] = [kept(here.control()), kept(there.control())];
      await otherSchedules.keep({ name: "nightly", cron: "0 2 * * *", tz: "UTC" });
      expect(await ownSchedules.kept()).toEqual([]);
      await ownSchedules.drop("nightly");
      expect(await otherSchedules.kept()).toEqual(["nightly"]);
    });
  });
}
