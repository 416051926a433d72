/**
 * The worker's side of the queue, on BullMQ in manual mode: jobs are pulled in bulk, so that they can be packed together,
 * and the tasks of `Worker.run()` are implemented here: renewing locks (from a separate thread), checking for stalled jobs,
 * handling jobs that the queue itself has failed.
 */
import { randomUUID } from "node:crypto";
import { type Job, UnrecoverableError, Worker } from "bullmq";
import type { Redis } from "ioredis";
import type { Logger } from "pino";
import { admitJob, assertJobKnown } from "../../core/admit-job.ts";
import type { JobPayload } from "../../core/contracts.ts";
import { messageOf } from "../../core/errors.ts";
import type { JobLeases, LeasedJob, Pulled, RefusedJob } from "../../core/ports.ts";
import { Heartbeat } from "../../core/heartbeat.ts";
import { type Observe, unobserved } from "../../core/telemetry.ts";
import { ANSWER_TIMEOUT_MS, connectRedis } from "./connect.ts";
import { LeaseRenewal } from "./lease-renewal.ts";
import { isDamage, repairKeys } from "./queue-health.ts";
import { type Ask, askingServer, isPassingFault } from "./redis-faults.ts";
import { QUEUE_PREFIX, queueBase } from "./queue-options.ts";

/**
 * Interval of renewals and of checks for stalled jobs, as a share of a lock's duration: two renewals may fail before
 * the lock is lost. Jobs of a killed worker are available again within lock + 2 x check: 50 s for 30 s.
 */
const RENEW_SHARE = 1 / 3;
const STALLED_CHECK_SHARE = 1 / 3;
/**
 * Preempted machines stall every job they hold, repeatedly in a bad night, and no job may fail for that; a job that is at
 * fault itself is detected by its second stall and run alone. So this limit only ends an infinite loop.
 */
const MAX_STALLED_COUNT = 1000;
const WAIT_SECONDS = 2;
/** Longer than BullMQ waits for jobs, including its own answer. */
const MIN_ANSWER_TIMEOUT_MS = (WAIT_SECONDS + 2) * 1000;
const PAUSE_MS = 1000;
/** Time for which a job of another store is left alone: long enough that it costs nothing. */
const FOREIGN_PAUSE_MS = 60_000;
const DEFAULT_MAX_SILENT_MS = 600_000;

/** BullMQ's codes for: the lock is gone, another has it, the job is gone, the job is not active. */
const LEASE_LOST_CODES = new Set([-1, -2, -3, -6]);

const NOTHING_PULLED: Pulled = { jobs: [], refused: [] };

interface Lease {
  readonly job: Job<unknown>;
  readonly token: string;
}

/** Queue, worker and lock duration. */
export interface BullLeasesParams {
  readonly redisUrl: string;
  readonly name: string;
  /** Id of the worker's store: jobs of other stores are left alone. By default jobs of every store are handed out. */
  readonly store?: string;
  readonly workerId: string;
  readonly lockDurationMs: number;
  /** Heartbeat on which renewals depend; without signs of life, leases lapse. */
  readonly heartbeat?: Heartbeat;
  readonly log: Logger;
  readonly observe?: Observe;
  /** Aborts to stop waiting for Redis: no more jobs are pulled, and leases lapse. */
  readonly giveUp?: AbortSignal;
}

export class BullLeases implements JobLeases {
  readonly #redis: Redis;
  readonly #base: string;
  readonly #store: string | undefined;
  readonly #ask: Ask;
  readonly #worker: Worker<unknown>;
  readonly #log: Logger;
  readonly #observe: Observe;
  readonly #leases = new Map<string, Lease>();
  readonly #renewal: LeaseRenewal;
  readonly #giveUp: AbortSignal | undefined;
  #started: Promise<void> | null = null;
  #closed: Promise<void> | null = null;
  /** A pull whose caller has left: its jobs go back. */
  #left: Promise<unknown> = Promise.resolve();

  constructor(params: BullLeasesParams) {
    this.#log = params.log;
    this.#observe = params.observe ?? unobserved;
    this.#giveUp = params.giveUp;
    // A completed job is no longer renewed, and its lease outlives two renewals.
    const aRenewalMs = params.lockDurationMs * RENEW_SHARE;
    const answerTimeoutMs = Math.min(ANSWER_TIMEOUT_MS, Math.max(MIN_ANSWER_TIMEOUT_MS, aRenewalMs));
    this.#redis = connectRedis(params.redisUrl, { answerTimeoutMs }, params.giveUp);
    this.#base = queueBase(params.name);
    this.#store = params.store;
    this.#ask = askingServer(params.redisUrl);
    this.#worker = new Worker<unknown>(params.name, null, {
      connection: this.#redis,
      prefix: QUEUE_PREFIX,
      name: params.workerId,
      lockDuration: params.lockDurationMs,
      // Redis accepts whole milliseconds only; with a fraction every check would fail.
      stalledInterval: Math.ceil(params.lockDurationMs * STALLED_CHECK_SHARE),
      maxStalledCount: MAX_STALLED_COUNT,
      drainDelay: WAIT_SECONDS,
      autorun: false,
    });
    this.#worker.on("error", (error) => {
      this.#log.warn({ err: error }, "the queue connection reported an error");
      if (isDamage(error)) void this.#repair();
    });
    const {
      redisUrl,
      name,
      lockDurationMs,
      log,
      heartbeat = new Heartbeat({ maxSilentMs: DEFAULT_MAX_SILENT_MS }),
    } = params;
    const intervalMs = lockDurationMs * RENEW_SHARE;
    this.#renewal = new LeaseRenewal({
      redisUrl,
      name,
      lockDurationMs,
      intervalMs,
      heartbeat,
      log,
      observe: this.#observe,
    });
  }

  async pull(params: Readonly<{ max: number; wait: boolean; until?: AbortSignal }>): Promise<Pulled> {
    const { until } = params;
    // The stalled check returns the jobs of dead workers to the queue; manual mode lacks it.
    await this.#ask("check for stalled jobs", () => this.#start());
    if (until?.aborted === true) return NOTHING_PULLED;
    const pulled = this.#ask("give out jobs", () => this.#pullOrPause(params));
    return until === undefined ? pulled : this.#orLeft(pulled, until);
  }

  #orLeft(pulled: Promise<Pulled>, until: AbortSignal): Promise<Pulled> {
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        const isReturned = async (): Promise<unknown> =>
          Promise.all((await pulled).jobs.map((job) => this.giveBack({ job })));
        this.#left = isReturned().catch((error: unknown) =>
          this.#log.warn({ reason: messageOf(error) }, "a pull that was ended early failed; its leases expire"),
        );
        resolve(NOTHING_PULLED);
      };
      until.addEventListener("abort", leave, { once: true });
      pulled.then(resolve, reject).finally(() => until.removeEventListener("abort", leave));
    });
  }

  #start(): Promise<void> {
    this.#started ??= this.#renewal.ready
      .then(() => this.#worker.startStalledCheckTimer())
      .catch((error: unknown) => {
        this.#started = null;
        throw error;
      });
    return this.#started;
  }

  async #pullOrPause(params: Readonly<{ max: number; wait: boolean }>): Promise<Pulled> {
    try {
      return await this.#orGivenUp(this.#pull(params));
    } catch (error) {
      if (this.#giveUp?.aborted === true) return NOTHING_PULLED;
      if (isDamage(error)) await this.#repair();
      else if (!isPassingFault(error)) throw error;
      this.#log.warn({ reason: messageOf(error) }, "Redis hands out no jobs for now");
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      return NOTHING_PULLED;
    }
  }

  /** Never throws: a reconciler queues the jobs again that it cannot repair. */
  async #repair(): Promise<void> {
    const keys = await repairKeys(this.#redis, this.#base).catch(() => []);
    if (keys.length > 0) this.#log.warn({ keys }, "keys of the queue were damaged and have been removed");
  }

  /** Stops waiting for a pull on abort. BullMQ waits for jobs on a separate connection, which may hang. */
  #orGivenUp(pulled: Promise<Pulled>): Promise<Pulled> {
    return new Promise((resolve, reject) => {
      const leave = (): void => resolve(NOTHING_PULLED);
      this.#giveUp?.addEventListener("abort", leave, { once: true });
      pulled.then(resolve, reject).finally(() => this.#giveUp?.removeEventListener("abort", leave));
    });
  }

  async #pull(params: Readonly<{ max: number; wait: boolean }>): Promise<Pulled> {
    const token = randomUUID();
    const first = params.wait ? await this.#worker.getNextJob(token, { block: true }) : undefined;
    if (params.wait && first === undefined) return NOTHING_PULLED;
    const more = params.max - (first === undefined ? 0 : 1);
    const rest = await Promise.allSettled(
      Array.from({ length: more }, () => this.#worker.getNextJob(token, { block: false })),
    );
    const failed = rest.find((answer) => answer.status === "rejected");
    // Some calls may have pulled a job anyway, and those jobs are leased.
    const jobs = rest.map((answer) => (answer.status === "fulfilled" ? answer.value : undefined));
    const pulled = await this.#admit(
      [first, ...jobs].filter((job) => job !== undefined),
      token,
    );
    if (failed !== undefined && pulled.jobs.length === 0) throw failed.reason;
    return pulled;
  }

  async #admit(pulled: readonly Job<unknown>[], token: string): Promise<Pulled> {
    for (const job of pulled) {
      this.#leases.set(job.id ?? "", { job, token });
      this.#renewal.hold(job.id ?? "", token);
    }
    await this.#assertKnown(pulled);
    const jobs: LeasedJob[] = [];
    const refused: RefusedJob[] = [];
    for (const job of pulled) {
      const id = job.id ?? "";
      if (isEmpty(job)) {
        this.#log.warn({ job: id }, "only the id of a job was left; it is dropped, and queued again if it is planned");
        await this.#complete(id);
        continue;
      }
      const verdict = job.deferredFailure || admitJob(id, job.data);
      if (typeof verdict === "string") {
        await this.#fail(id, verdict);
        refused.push({ id, reason: verdict });
      } else if (this.#isForeign(verdict)) {
        this.#log.warn({ job: id, store: verdict.store }, "a job of another store is in this queue; it is left alone");
        await this.#settle(id, ({ job }) => job.moveToDelayed(Date.now() + FOREIGN_PAUSE_MS, token));
      } else {
        const { stalledCounter: stalls, attemptsStarted: starts, attemptsMade: faults } = job;
        const { store: _, ...payload } = verdict;
        jobs.push({ id, payload, stalls, starts, faults });
      }
    }
    return { jobs, refused };
  }

  /** Whether a job was moved here from the queue of another store, which only that store's workers can do. */
  #isForeign({ store }: JobPayload): boolean {
    return store !== undefined && this.#store !== undefined && store !== this.#store;
  }

  /** Returns all pulled jobs when one is of a newer version, because this worker will then end. */
  async #assertKnown(pulled: readonly Job<unknown>[]): Promise<void> {
    try {
      for (const { id = "", data } of pulled) assertJobKnown(id, data);
    } catch (error) {
      for (const { id = "" } of pulled) await this.#settle(id, (lease) => lease.job.moveToWait(lease.token));
      throw error;
    }
  }

  async complete(params: Readonly<{ job: LeasedJob }>): Promise<"completed" | "lease-lost"> {
    return (await this.#complete(params.job.id)) ? "completed" : "lease-lost";
  }

  #complete(id: string): Promise<boolean> {
    return this.#settle(id, (lease) => {
      // A job whose options were lost would be kept.
      lease.job.opts.removeOnComplete = true;
      return lease.job.moveToCompleted("", lease.token, false);
    });
  }

  async giveBack(params: Readonly<{ job: LeasedJob; afterMs?: number }>): Promise<void> {
    const { job, afterMs = 0 } = params;
    await this.#settle(job.id, (lease) =>
      afterMs > 0 ? lease.job.moveToDelayed(Date.now() + afterMs, lease.token) : lease.job.moveToWait(lease.token),
    );
  }

  async retry(params: Readonly<{ job: LeasedJob; afterMs: number; reason: string }>): Promise<void> {
    const { job, afterMs, reason } = params;
    await this.#settle(job.id, (lease) => {
      // The worker limits the number of attempts.
      lease.job.opts.attempts = Infinity;
      lease.job.opts.backoff = { type: "fixed", delay: afterMs };
      return lease.job.moveToFailed(new Error(reason), lease.token, false);
    });
  }

  async fail(params: Readonly<{ job: LeasedJob; reason: string }>): Promise<void> {
    await this.#fail(params.job.id, params.reason);
  }

  async #fail(id: string, reason: string): Promise<void> {
    await this.#settle(id, (lease) => lease.job.moveToFailed(new UnrecoverableError(reason), lease.token, false));
  }

  /**
   * @returns False when the lease was lost, which proves nothing about the work: a reply may have been cut off after the
   * command ran, Redis may have been wiped, or the wait for it may have ended. The store is authoritative.
   */
  #settle(id: string, act: (lease: Lease) => Promise<unknown>): Promise<boolean> {
    return this.#ask(`settle job ${id}`, () => this.#trySettle(id, act));
  }

  async #trySettle(id: string, act: (lease: Lease) => Promise<unknown>): Promise<boolean> {
    const lease = this.#leases.get(id);
    if (lease === undefined) return false;
    this.#leases.delete(id);
    this.#renewal.settle(id);
    try {
      await act(lease);
      return true;
    } catch (error) {
      const code = (error as { code?: unknown }).code;
      const isLost = typeof code === "number" && LEASE_LOST_CODES.has(code);
      // A reconciler queues the job again if it is missing; the damage is not the job's fault.
      const isDamaged = isDamage(error);
      if (isDamaged) await this.#repair();
      if (!isLost && !isDamaged && this.#giveUp?.aborted !== true) throw error;
      this.#observe({ kind: "leases", outcome: "lost", count: 1 });
      this.#log.info({ job: id, code }, "a lease was lost before its job was settled");
      return false;
    }
  }

  /** Closes the connections. Leases still held lapse by themselves; return them first where that matters. */
  close(): Promise<void> {
    this.#closed ??= (async () => {
      await this.#renewal.close();
      // By force: otherwise it waits for a pull that waits for a job.
      await this.#worker.close(true);
      if (this.#giveUp?.aborted !== true) await this.#left;
      this.#redis.disconnect();
    })();
    return this.#closed;
  }
}

/** Whether a list still contains the id of a job whose hash is gone, or contains it twice. */
function isEmpty(job: Job<unknown>): boolean {
  return typeof job.data === "object" && job.data !== null && Object.keys(job.data).length === 0;
}
