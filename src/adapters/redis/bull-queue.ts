/** The producer's side of the queue, on BullMQ. */
import { type JobsOptions, Queue } from "bullmq";
import type { Redis } from "ioredis";
import type { JobPayload } from "../../core/contracts.ts";
import { isJobOf, jobId } from "../../core/layout.ts";
import type { JobQueue, QueueCounts, QueueGauge, QueueLoad } from "../../core/ports.ts";
import { connectRedis, parseInfo, untilAnswered } from "./connect.ts";
import { JOB_NAME, jobPriority, QUEUE_PREFIX } from "./queue-options.ts";

/** Jobs a call: about 80 ms of Redis time, measured; one call for all would hold them all in memory. */
const JOBS_PER_CALL = 500;
/** Of failed jobs that are looked through. */
const IDS_PER_CALL = 1000;
const MAX_FAILED_IDS = 100_000;

export class BullQueue implements JobQueue, QueueGauge {
  readonly #redis: Redis;
  readonly #queue: Queue;

  constructor(params: Readonly<{ redisUrl: string; name: string; giveUp?: AbortSignal | undefined }>) {
    this.#redis = connectRedis(params.redisUrl, {}, params.giveUp);
    this.#queue = new Queue(params.name, { connection: this.#redis, prefix: QUEUE_PREFIX });
    // Without a listener a lost connection would end the process; ioredis reconnects by itself.
    this.#queue.on("error", () => {});
  }

  /** For tools that show BullMQ's own view of it. */
  get raw(): Queue {
    return this.#queue;
  }

  async enqueue(params: Readonly<{ jobs: readonly JobPayload[] }>): Promise<void> {
    for (let at = 0; at < params.jobs.length; at += JOBS_PER_CALL) {
      const jobs = params.jobs.slice(at, at + JOBS_PER_CALL);
      // A job id that exists is left alone, so a call cut short is simply repeated.
      await untilAnswered(() =>
        this.#queue.addBulk(jobs.map((data) => ({ name: JOB_NAME, data, opts: jobOptions(data) }))),
      );
    }
  }

  async requeue(params: Readonly<{ jobs: readonly JobPayload[] }>): Promise<void> {
    for (let at = 0; at < params.jobs.length; at += JOBS_PER_CALL) {
      const jobs = params.jobs.slice(at, at + JOBS_PER_CALL);
      await Promise.all(jobs.map((job) => this.#removeFinished(jobId(job.run, job.shard))));
      await this.enqueue({ jobs });
    }
  }

  /** A finished or failed job blocks its id for good, so it must go before it can be added again. */
  async #removeFinished(id: string): Promise<void> {
    const state = await this.#queue.getJobState(id);
    if (state === "completed" || state === "failed") await this.#queue.remove(id);
  }

  async unknown(params: Readonly<{ jobs: readonly JobPayload[] }>): Promise<JobPayload[]> {
    const unknown: JobPayload[] = [];
    for (let at = 0; at < params.jobs.length; at += JOBS_PER_CALL) {
      const jobs = params.jobs.slice(at, at + JOBS_PER_CALL);
      const exist = await this.#exist(jobs);
      unknown.push(...jobs.filter((_, i) => !exist[i]));
    }
    return unknown;
  }

  async #exist(jobs: readonly JobPayload[]): Promise<boolean[]> {
    const keys = jobs.map((job) => this.#queue.toKey(jobId(job.run, job.shard)));
    return (await Promise.all(keys.map((key) => this.#redis.exists(key)))).map((found) => found === 1);
  }

  async remove(params: Readonly<{ jobs: readonly JobPayload[] }>): Promise<number> {
    let removed = 0;
    for (let at = 0; at < params.jobs.length; at += JOBS_PER_CALL) {
      const jobs = params.jobs.slice(at, at + JOBS_PER_CALL);
      const exist = await this.#exist(jobs);
      // BullMQ says 1 of a job that is not there; 0 of one that a worker holds, which stays.
      const outcomes = await Promise.all(
        jobs.filter((_, i) => exist[i]).map((job) => this.#queue.remove(jobId(job.run, job.shard))),
      );
      removed += outcomes.filter((outcome) => outcome === 1).length;
    }
    return removed;
  }

  async counts(): Promise<QueueCounts> {
    const {
      wait = 0,
      prioritized = 0,
      delayed = 0,
      active = 0,
      failed = 0,
    } = await this.#queue.getJobCounts("wait", "prioritized", "delayed", "active", "failed");
    return { waiting: wait + prioritized + delayed, active, failed };
  }

  async load(): Promise<QueueLoad> {
    const [{ waiting, active }, memory] = await Promise.all([this.counts(), this.#redis.info("memory")]);
    const info = parseInfo(memory);
    const limitBytes = Number(info.get("maxmemory") ?? 0);
    return {
      jobs: waiting + active,
      usedBytes: Number(info.get("used_memory") ?? 0),
      limitBytes: limitBytes > 0 ? limitBytes : null,
    };
  }

  /**
   * Failed jobs of a run with the reason each gave, at most `limit`, the newest first. A queue's runs share one list
   * of failed jobs, which is looked through by ids; beyond its newest 100,000 nothing is found.
   */
  async failures(params: Readonly<{ run: string; limit: number }>): Promise<{ shard: string; reason: string }[]> {
    const { run, limit } = params;
    // What fails meanwhile moves the others on, so that a page may begin with what the one before ended with.
    const own = new Set<string>();
    for (let at = 0; at < MAX_FAILED_IDS && own.size < limit; at += IDS_PER_CALL) {
      const ids = await this.#queue.getRanges(["failed"], at, at + IDS_PER_CALL - 1);
      for (const id of ids) if (isJobOf(run, id)) own.add(id);
      if (ids.length < IDS_PER_CALL) break;
    }
    const jobs = await Promise.all([...own].slice(0, limit).map((id) => this.#queue.getJob(id)));
    return jobs
      .filter((job) => job !== undefined)
      .map((job) => ({ shard: (job.data as JobPayload).shard, reason: job.failedReason }));
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
