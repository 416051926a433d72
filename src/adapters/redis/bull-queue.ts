/** `JobQueue`, `QueueGauge` and `JobFailures` on BullMQ. */
import { type JobsOptions, Queue } from "bullmq";
import type { Redis } from "ioredis";
import type { JobPayload } from "../../core/contracts.ts";
import { isJobOf, jobId } from "../../core/layout.ts";
import type { JobFailure, QueueCounts, QueueLoad } from "../../core/ports.ts";
import type { ShardQueue } from "../../core/queue-server.ts";
import { connectRedis, parseInfo, untilAnswered } from "./connect.ts";
import { type Ask, askingServer } from "./redis-faults.ts";
import { isDamage, type JobState, repairKeys, type Sweep, sweepJobs } from "./queue-health.ts";
import { JOB_NAME, jobPriority, QUEUE_PREFIX, queueBase } from "./queue-options.ts";

/** Jobs per call: about 80 ms of Redis time, measured; one call for all would hold them all in memory. */
const JOBS_PER_CALL = 500;
/** Ids of failed jobs per call. */
const IDS_PER_CALL = 1000;
const MAX_FAILED_IDS = 100_000;

export class BullQueue implements ShardQueue {
  readonly #redis: Redis;
  readonly #queue: Queue;
  readonly #base: string;
  readonly #ask: Ask;
  readonly #repaired = new Set<string>();
  readonly #readOnly: boolean;
  readonly #store: string | undefined;

  /**
   * @param params.store Id of the store of all its jobs, which they carry; by default they carry none.
   * @param params.readOnly For read-only commands: nothing in Redis changes, and damage there is a fault.
   */
  constructor(
    params: Readonly<{
      redisUrl: string;
      name: string;
      store?: string;
      giveUp?: AbortSignal | undefined;
      readOnly?: boolean;
    }>,
  ) {
    const { readOnly = false } = params;
    this.#readOnly = readOnly;
    this.#store = params.store;
    this.#redis = connectRedis(params.redisUrl, {}, params.giveUp);
    this.#base = queueBase(params.name);
    this.#ask = askingServer(params.redisUrl);
    this.#queue = new Queue(params.name, {
      connection: this.#redis,
      prefix: QUEUE_PREFIX,
      // BullMQ would write its version there.
      skipMetasUpdate: readOnly,
    });
    // Without a listener a lost connection would end the process; ioredis reconnects by itself.
    this.#queue.on("error", () => {});
  }

  /** BullMQ's own queue, for tools that display it. */
  get raw(): Queue {
    return this.#queue;
  }

  /** Repaired keys, mostly keys of another type than BullMQ's. */
  get repaired(): readonly string[] {
    return [...this.#repaired].toSorted();
  }

  async enqueue(params: Readonly<{ jobs: readonly JobPayload[] }>): Promise<void> {
    // Remains of a lost job would block its id.
    await this.#ask("queue jobs", () => this.#add(params.jobs, "lost", ["lost"]));
  }

  async requeue(params: Readonly<{ jobs: readonly JobPayload[] }>): Promise<void> {
    await this.#ask("queue jobs again", () => this.#add(params.jobs, "finished", ["lost", "failed"]));
  }

  async #add(jobs: readonly JobPayload[], sweep: Sweep, wanted: readonly JobState[]): Promise<void> {
    await this.#sweep(jobs, sweep, async (part, states) => {
      const missing = part.filter((_, i) => wanted.includes(states[i]!));
      // An existing job id is left alone, so others may add it meanwhile, and an interrupted call is simply repeated.
      await untilAnswered(() =>
        this.#queue.addBulk(missing.map((job) => ({ name: JOB_NAME, data: this.#dataOf(job), opts: jobOptions(job) }))),
      );
    });
  }

  #dataOf(job: JobPayload): JobPayload {
    return this.#store === undefined ? job : { ...job, store: this.#store };
  }

  async unknown(params: Readonly<{ jobs: readonly JobPayload[] }>): Promise<JobPayload[]> {
    const unknown: JobPayload[] = [];
    await this.#ask("look for jobs", () =>
      this.#sweep(params.jobs, "look", (part, states) => {
        unknown.push(...part.filter((_, i) => states[i] === "lost"));
      }),
    );
    return unknown;
  }

  async remove(params: Readonly<{ jobs: readonly JobPayload[] }>): Promise<number> {
    let removed = 0;
    await this.#ask("remove jobs", () =>
      this.#sweep(params.jobs, "all", (_, states) => {
        removed += states.filter((state) => state === "queued" || state === "failed").length;
      }),
    );
    return removed;
  }

  async #sweep(
    jobs: readonly JobPayload[],
    sweep: Sweep,
    then: (part: readonly JobPayload[], states: readonly JobState[]) => Promise<void> | void,
  ): Promise<void> {
    for (let at = 0; at < jobs.length; at += JOBS_PER_CALL) {
      const part = jobs.slice(at, at + JOBS_PER_CALL);
      const ids = part.map((job) => jobId(job.run, job.shard));
      const { states, repaired } = await sweepJobs(this.#redis, { base: this.#base, ids, sweep });
      for (const key of repaired) this.#repaired.add(key);
      await then(part, states);
    }
  }

  /** Repairs a damaged key when a call finds it, so that no process has to stay to repair the queue; not in read-only mode. */
  async #mending<T>(act: () => Promise<T>): Promise<T> {
    try {
      return await act();
    } catch (error) {
      if (this.#readOnly || !isDamage(error)) throw error;
      for (const key of await repairKeys(this.#redis, this.#base)) this.#repaired.add(key);
      return act();
    }
  }

  counts(): Promise<QueueCounts> {
    return this.#ask("count jobs", () => this.#counts());
  }

  async #counts(): Promise<QueueCounts> {
    const {
      wait = 0,
      prioritized = 0,
      delayed = 0,
      active = 0,
      failed = 0,
    } = await this.#mending(() => this.#queue.getJobCounts("wait", "prioritized", "delayed", "active", "failed"));
    return { waiting: wait + prioritized + delayed, active, failed };
  }

  async load(): Promise<QueueLoad> {
    const [{ waiting, active }, memory] = await this.#ask("report its memory", () =>
      Promise.all([this.#counts(), this.#redis.info("memory")]),
    );
    const info = parseInfo(memory);
    const limitBytes = Number(info.get("maxmemory") ?? 0);
    return {
      jobs: waiting + active,
      usedBytes: Number(info.get("used_memory") ?? 0),
      limitBytes: limitBytes > 0 ? limitBytes : null,
    };
  }

  /**
   * Failed jobs of a run. A queue's runs share one list of failed jobs, which is searched by ids; only its newest 100,000
   * are searched.
   */
  failures(params: Readonly<{ run: string; limit: number }>): Promise<JobFailure[]> {
    return this.#ask("list failed jobs", () => this.#failures(params));
  }

  async #failures(params: Readonly<{ run: string; limit: number }>): Promise<JobFailure[]> {
    const { run, limit } = params;
    // Jobs that fail meanwhile shift the list, so that a page may begin with the end of the one before.
    const own = new Set<string>();
    for (let at = 0; at < MAX_FAILED_IDS && own.size < limit; at += IDS_PER_CALL) {
      const ids = await this.#mending(() => this.#queue.getRanges(["failed"], at, at + IDS_PER_CALL - 1));
      for (const id of ids) if (isJobOf(run, id)) own.add(id);
      if (ids.length < IDS_PER_CALL) break;
    }
    const jobs = await Promise.all([...own].slice(0, limit).map((id) => this.#queue.getJob(id)));
    return jobs
      .filter((job) => job !== undefined)
      .map((job) => ({ shard: (job.data as JobPayload).shard, reason: job.failedReason }));
  }

  isPaused(): Promise<boolean> {
    return this.#ask("say whether the queue is paused", () => this.#queue.isPaused());
  }

  async close(): Promise<void> {
    await this.#queue.close();
    this.#redis.disconnect();
  }
}

function jobOptions(job: JobPayload): JobsOptions {
  return {
    jobId: jobId(job.run, job.shard),
    priority: jobPriority(job.longest),
    attempts: 1,
    // The store knows what is done; a kept job would only cost memory and block its id.
    removeOnComplete: true,
    removeOnFail: false,
  };
}
