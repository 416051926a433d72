/** Gives up a job after a fault, by the rules of `verdict.ts`. If the queue is unreachable, the job's lease lapses. */
import type { Logger } from "pino";
import type { Clock } from "../src/core/clock.ts";
import { hasCode, messageOf } from "../src/core/errors.ts";
import type { JobLeases, LeasedJob, ObjectStore } from "../src/core/ports.ts";
import { type Observe, unobserved } from "../src/core/telemetry.ts";
import { findPlannedJob } from "../src/run/read-plan.ts";
import { MAX_FAULTS, retryAfterMs, type Verdict, verdictOf } from "./verdict.ts";

/** Pause when a server is unavailable: the next job would fail as well. */
const PAUSE_MS = 1000;

export interface Refusal {
  readonly job: LeasedJob;
  /** The operation that failed. */
  readonly what: "loaded" | "written" | "completed";
  readonly error: unknown;
}

export class Refuser {
  readonly #store: ObjectStore;
  readonly #leases: JobLeases;
  readonly #log: Logger;
  readonly #clock: Clock;
  readonly #observe: Observe;

  constructor(
    params: Readonly<{ store: ObjectStore; leases: JobLeases; log: Logger; clock: Clock; observe?: Observe }>,
  ) {
    this.#store = params.store;
    this.#leases = params.leases;
    this.#clock = params.clock;
    this.#log = params.log;
    this.#observe = params.observe ?? unobserved;
  }

  /** @returns The verdict on the job; with `end` the worker must end. */
  async refuse({ job, what, error }: Refusal): Promise<Verdict> {
    const verdict = verdictOf(error);
    const { starts = 1, faults = 0 } = job;
    const of = { run: job.payload.run, shard: job.payload.shard, err: error };
    if (verdict === "end") {
      this.#log.error(of, "this worker cannot do a job, which returns to the queue for others; the worker stops");
      await this.giveBack(job);
      return "end";
    }
    if (verdict === "wait") {
      // Without a limit: an outage is not the job's fault, and `status` shows what it waits for.
      if (hasCode(error, "store_unavailable")) this.#observe({ kind: "store-wait", reason: error.message });
      const afterMs = retryAfterMs(starts);
      this.#log.warn({ ...of, starts, afterMs }, `a shard could not be ${what} and goes back to the queue for a while`);
      await this.giveBack(job, afterMs);
      await this.#clock.sleep(PAUSE_MS);
      return "wait";
    }
    if (verdict === "retry" && faults + 1 < MAX_FAULTS) {
      const afterMs = retryAfterMs(faults + 1);
      this.#log.warn({ ...of, faults: faults + 1, afterMs }, `a shard could not be ${what} and will be tried again`);
      await this.#tell(job, this.#leases.retry({ job, afterMs, reason: messageOf(error) }));
      return "retry";
    }
    if (await this.#isUnplanned(job)) {
      this.#log.warn(of, "this store's plan does not have the job, which may be a copy's of the store; it is dropped");
      await this.#tell(job, this.#leases.complete({ job }));
      return "fail";
    }
    this.#log.error(of, "a job cannot be done");
    const reason = verdict === "fail" ? messageOf(error) : `tried ${MAX_FAULTS} times, last: ${messageOf(error)}`;
    await this.#tell(job, this.#leases.fail({ job, reason }));
    return "fail";
  }

  /** Whether the store can be read and has not planned the job: then it is not this store's to fail. */
  async #isUnplanned({ payload }: LeasedJob): Promise<boolean> {
    const planned = await findPlannedJob(this.#store, payload).catch(() => undefined);
    return planned === null;
  }

  giveBack(job: LeasedJob, afterMs = 0): Promise<void> {
    return this.#tell(job, this.#leases.giveBack({ job, ...(afterMs > 0 && { afterMs }) }));
  }

  async #tell(job: LeasedJob, told: Promise<unknown>): Promise<void> {
    await told.catch((error: unknown) => {
      this.#log.warn({ shard: job.id, err: error }, "a job could not be returned or failed; its lease will lapse");
    });
  }
}
