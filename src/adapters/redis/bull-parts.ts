/** `PartQueue` on BullMQ: a separate queue for each run, worked on by an ordinary processor, which renews its locks. */
import { type Job, Queue, UnrecoverableError, WaitingError, Worker } from "bullmq";
import type { Redis } from "ioredis";
import type { Logger } from "pino";
import { messageOf } from "../../core/errors.ts";
import {
  type MakePart,
  mayBeMadeElsewhere,
  parsePartJob,
  type PartJob,
  type PartQueue,
  type PartState,
} from "../../core/ingest.ts";
import { BLOCKING_ANSWER_TIMEOUT_MS, connectRedis } from "./connect.ts";
import { type Ask, askingServer } from "./redis-faults.ts";
import { partsQueueName, QUEUE_PREFIX } from "./queue-options.ts";

/** Most stalls of a part: one that ends every process that takes it fails the run, and not the fleet. */
const MAX_STALLED_COUNT = 10;
const STALLED_CHECK_SHARE = 1 / 3;
/** Attempts at a part when its worker could not reach a server; other workers may reach it. */
const ATTEMPTS = 3;
const FIRST_PAUSE_MS = 500;

/** States of a job that waits for a worker or has one. */
const ON_ITS_WAY: ReadonlySet<string> = new Set(["waiting", "prioritized", "delayed", "active"]);
const SHOWN_CHARS = 500;

export interface BullPartsParams {
  readonly redisUrl: string;
  readonly fleet: string;
  readonly run: string;
  /** Job lock duration in milliseconds; a dead process's parts are retried after at most 5/3 of this. */
  readonly lockDurationMs: number;
  readonly log: Logger;
}

export class BullParts implements PartQueue {
  readonly #params: BullPartsParams;
  readonly #name: string;
  readonly #ask: Ask;
  readonly #redis: Redis;
  readonly #queue: Queue<unknown>;
  readonly #stopping = new AbortController();
  #worker: Worker<unknown> | null = null;
  #workerRedis: Redis | null = null;

  constructor(params: BullPartsParams) {
    this.#params = params;
    this.#name = partsQueueName(params.fleet, params.run);
    this.#ask = askingServer(params.redisUrl);
    this.#redis = connectRedis(params.redisUrl);
    this.#queue = new Queue(this.#name, { connection: this.#redis, prefix: QUEUE_PREFIX });
    // Without a listener a lost connection would end the process; ioredis reconnects by itself.
    this.#queue.on("error", () => {});
  }

  add(job: PartJob): Promise<void> {
    return this.#ask("queue a part", () => this.#add(job));
  }

  async #add(job: PartJob): Promise<void> {
    // A failed job or remains of one would count as existing, and no worker would take the new one.
    if (!ON_ITS_WAY.has(await this.#queue.getJobState(job.part))) await this.#queue.remove(job.part);
    // The store knows what is done, so a kept job would only cost memory.
    await this.#queue.add("part", job, {
      jobId: job.part,
      attempts: ATTEMPTS,
      backoff: { type: "exponential", delay: FIRST_PAUSE_MS },
      removeOnComplete: true,
      removeOnFail: false,
    });
  }

  state(job: PartJob): Promise<PartState> {
    return this.#ask("look for a part", () => this.#state(job));
  }

  async #state(job: PartJob): Promise<PartState> {
    // Nobody in the fleet pauses it, and a lead would wait forever.
    if (await this.#queue.isPaused()) await this.#queue.resume();
    const state = await this.#queue.getJobState(job.part);
    if (state === "failed") return { kind: "failed", reason: await this.#reasonOf(job) };
    return { kind: ON_ITS_WAY.has(state) ? "queued" : "unknown" };
  }

  async #reasonOf(job: PartJob): Promise<string> {
    try {
      const reason = (await this.#queue.getJob(job.part))?.failedReason;
      return shown(typeof reason === "string" ? reason : "no reason was recorded");
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      return `its job in Redis is damaged: ${shown(error.message)}`;
    }
  }

  async remove(job: PartJob): Promise<void> {
    await this.#ask("remove a part", () => this.#queue.remove(job.part));
  }

  async work(params: Readonly<{ atOnce: number; make: MakePart }>): Promise<void> {
    const { redisUrl, lockDurationMs, log } = this.#params;
    this.#workerRedis = connectRedis(redisUrl, { answerTimeoutMs: BLOCKING_ANSWER_TIMEOUT_MS });
    this.#worker = new Worker<unknown>(this.#name, (job, token) => this.#make(job, token, params.make), {
      connection: this.#workerRedis,
      prefix: QUEUE_PREFIX,
      concurrency: params.atOnce,
      lockDuration: lockDurationMs,
      stalledInterval: Math.ceil(lockDurationMs * STALLED_CHECK_SHARE),
      maxStalledCount: MAX_STALLED_COUNT,
    });
    this.#worker.on("error", (error) => log.warn({ err: error }, "the queue of parts reported an error"));
    this.#worker.on("failed", (job, error) => log.error({ part: job?.id, err: error }, "a part failed"));
    const worker = this.#worker;
    await this.#ask("give out parts", () => worker.waitUntilReady());
  }

  async #make(job: Job<unknown>, token: string | undefined, make: MakePart): Promise<void> {
    try {
      await make(parsePartJob(job.data, { run: this.#params.run, id: job.id }), this.#stopping.signal);
    } catch (error) {
      if (this.#stopping.signal.aborted) {
        await job.moveToWait(token);
        throw new WaitingError();
      }
      throw mayBeMadeElsewhere(error) ? error : new UnrecoverableError(messageOf(error));
    }
  }

  async drop(): Promise<void> {
    this.#stopping.abort();
    await this.#worker?.close();
    await this.#ask("forget the parts", () => this.#queue.obliterate({ force: true }));
  }

  async close(): Promise<void> {
    this.#stopping.abort();
    await this.#worker?.close();
    await this.#queue.close();
    this.#workerRedis?.disconnect();
    this.#redis.disconnect();
  }
}

/** Escaped and shortened reason for display: others can write to Redis. */
function shown(reason: string): string {
  return reason.replaceAll(/\p{Cc}+/gu, " ").slice(0, SHOWN_CHARS);
}
