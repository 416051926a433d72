/** What every queue of parts must do. */
import { randomUUID } from "node:crypto";
import { describe, expect, onTestFinished, test } from "vitest";
import { type MakePart, type PartJob, partId, type PartQueue } from "../../src/core/ingest.ts";
import { FleetError } from "../../src/core/errors.ts";

const POLL_MS = 5;

function partJob(run: string, index: number): PartJob {
  return { v: 1, run, part: partId(index, "0123456789abcdef".repeat(4)) };
}

function indexOf({ part }: PartJob): number {
  return Number(part.slice(1, 7));
}

interface Latch {
  readonly reached: Promise<void>;
  readonly open: () => void;
}

function latch(): Latch {
  let open = (): void => {};
  const reached = new Promise<void>((resolve) => (open = resolve));
  return { reached, open };
}

/** @param open One more handle on the queue of a run, as another process has one. */
export function partQueueSuite(name: string, open: (run: string) => PartQueue): void {
  describe(name, () => {
    function fresh(): { queue: PartQueue; another: () => PartQueue; job: (index: number) => PartJob } {
      const run = `r-${randomUUID()}`;
      const another = (): PartQueue => {
        const queue = open(run);
        onTestFinished(() => queue.close());
        return queue;
      };
      return { queue: another(), another, job: (index) => partJob(run, index) };
    }

    async function until(queue: PartQueue, job: PartJob, kind: string): Promise<void> {
      while ((await queue.state(job)).kind !== kind) await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }

    /** Notes what is made, and makes nothing. */
    function noting(): { made: PartJob[]; make: MakePart } {
      const made: PartJob[] = [];
      return { made, make: async (job) => void made.push(job) };
    }

    test("gives each part to one of those who work, and forgets it when it is made", async () => {
      const { queue, another, job } = fresh();
      const jobs = Array.from({ length: 20 }, (_, index) => job(index));
      for (const each of jobs) await queue.add(each);
      expect(await queue.state(jobs[0]!)).toEqual({ kind: "queued" });
      const { made, make } = noting();
      for (const worker of [queue, another(), another()]) await worker.work({ atOnce: 2, make });
      for (const each of jobs) await until(queue, each, "unknown");
      expect(made.toSorted((a, b) => (a.part < b.part ? -1 : 1))).toEqual(jobs);
    });

    test("leaves a part alone that waits or is being made, and takes one again that was made", async () => {
      const { queue, job } = fresh();
      const [begun, done] = [latch(), latch()];
      let made = 0;
      await queue.add(job(1));
      await queue.add(job(1));
      const make = async (): Promise<void> => {
        made++;
        begun.open();
        await done.reached;
      };
      await queue.work({ atOnce: 2, make });
      await begun.reached;
      await queue.add(job(1));
      expect(await queue.state(job(1))).toEqual({ kind: "queued" });
      done.open();
      await until(queue, job(1), "unknown");
      expect(made).toBe(1);
      await queue.add(job(1));
      await until(queue, job(1), "unknown");
      expect(made).toBe(2);
    });

    test("has no more than it was told made at once", async () => {
      const { queue, job } = fresh();
      let [now, most] = [0, 0];
      const make = async (): Promise<void> => {
        most = Math.max(most, ++now);
        await new Promise((resolve) => setTimeout(resolve, POLL_MS));
        now--;
      };
      for (let index = 0; index < 9; index++) await queue.add(job(index));
      await queue.work({ atOnce: 3, make });
      for (let index = 0; index < 9; index++) await until(queue, job(index), "unknown");
      expect(most).toBe(3);
    });

    test("says why a part failed, tries it no more, and again when it is added again", async () => {
      const { queue, job } = fresh();
      let attempts = 0;
      const make = async (): Promise<void> => {
        if (++attempts === 1) throw new FleetError("source_changed", "the file is another");
      };
      await queue.add(job(1));
      await queue.work({ atOnce: 1, make });
      await until(queue, job(1), "failed");
      expect(await queue.state(job(1))).toEqual({ kind: "failed", reason: "the file is another" });
      expect(attempts).toBe(1);
      await queue.add(job(1));
      await until(queue, job(1), "unknown");
      expect(attempts).toBe(2);
    });

    test.each([
      ["a server could not be reached", "store_unavailable"],
      ["the disk is full or the user refused", "store_refused"],
    ] as const)("gives a part on for which %s, and not for ever", async (_, code) => {
      const { queue, job } = fresh();
      const attempts = [0, 0];
      const make: MakePart = async (part) => {
        const index = indexOf(part);
        if (++attempts[index]! > 1 && index === 0) return;
        throw new FleetError(code, "no answer");
      };
      await queue.add(job(0));
      await queue.add(job(1));
      await queue.work({ atOnce: 2, make });
      await until(queue, job(0), "unknown");
      await until(queue, job(1), "failed");
      expect(await queue.state(job(1))).toEqual({ kind: "failed", reason: "no answer" });
      expect(attempts).toEqual([2, 3]);
    });

    test("takes a part out that waits, and leaves one that is being made", async () => {
      const { queue, job } = fresh();
      const [begun, done] = [latch(), latch()];
      const made: number[] = [];
      const make: MakePart = async (part) => {
        begun.open();
        await done.reached;
        made.push(indexOf(part));
      };
      await queue.add(job(1));
      await queue.work({ atOnce: 1, make });
      await begun.reached;
      for (const index of [2, 3]) await queue.add(job(index));
      for (const index of [1, 2, 4]) await queue.remove(job(index));
      expect(await queue.state(job(2))).toEqual({ kind: "unknown" });
      done.open();
      await until(queue, job(3), "unknown");
      expect(made).toEqual([1, 3]);
    });

    test("gives back at once what is being made where it is closed, and closes more than once", async () => {
      const { queue, another, job } = fresh();
      const begun = latch();
      const leaving = another();
      const make: MakePart = async (_, signal) => {
        begun.open();
        await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
        signal.throwIfAborted();
      };
      await queue.add(job(1));
      await leaving.work({ atOnce: 1, make });
      await begun.reached;
      await leaving.close();
      await leaving.close();
      expect(await queue.state(job(1))).toEqual({ kind: "queued" });
      const noted = noting();
      await queue.work({ atOnce: 1, make: noted.make });
      await until(queue, job(1), "unknown");
      expect(noted.made).toEqual([job(1)]);
    });

    test("forgets all, whatever becomes of it, and takes nothing any more", async () => {
      const { queue, another, job } = fresh();
      const [begun, failed] = [latch(), job(9)];
      const make: MakePart = async (part, signal) => {
        if (indexOf(part) === 9) throw new Error("broken");
        begun.open();
        await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
        signal.throwIfAborted();
      };
      await queue.add(failed);
      await queue.work({ atOnce: 1, make });
      await until(queue, failed, "failed");
      for (const index of [1, 2, 3]) await queue.add(job(index));
      await begun.reached;
      await queue.drop();
      await queue.drop();
      const other = another();
      for (const index of [1, 2, 3, 9]) expect(await other.state(job(index))).toEqual({ kind: "unknown" });
    });

    test("keeps runs apart", async () => {
      const { queue, job } = fresh();
      const { queue: other } = fresh();
      const { made, make } = noting();
      await other.work({ atOnce: 1, make });
      await queue.add(job(1));
      await other.drop();
      expect(await queue.state(job(1))).toEqual({ kind: "queued" });
      expect(made).toEqual([]);
    });
  });
}
