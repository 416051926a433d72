/** `ControlQueue` on BullMQ: its job schedulers create the ticks, and an ordinary processor works on them. */
import { DelayedError, type Job, Queue, UnrecoverableError, Worker } from "bullmq";
import type { Redis } from "ioredis";
import type { Logger } from "pino";
import { messageOf } from "../../core/errors.ts";
import type { ControlQueue, Tick, TickHandlers } from "../../core/ports.ts";
import { BLOCKING_ANSWER_TIMEOUT_MS, connectRedis } from "./connect.ts";
import { type Ask, askingServer } from "./redis-faults.ts";
import { controlQueueName, QUEUE_PREFIX } from "./queue-options.ts";

const TICKS_AT_ONCE = 4;
const ATTEMPTS = 5;
const FIRST_PAUSE_MS = 30_000;
const WAITING_STATES = ["active", "waiting", "prioritized", "delayed"] as const;

interface TickData {
  readonly schedule: string;
  /** Absent in a tick of a job scheduler, whose job id contains its due time. */
  readonly slotMs?: number;
  readonly isTriggered?: boolean;
}

export class BullControlQueue implements ControlQueue {
  readonly #params: { readonly redisUrl: string; readonly fleet: string; readonly log: Logger };
  readonly #redis: Redis;
  readonly #queue: Queue<TickData>;
  readonly #ask: Ask;
  #worker: Worker<TickData> | null = null;
  #workerRedis: Redis | null = null;

  constructor(params: Readonly<{ redisUrl: string; fleet: string; log: Logger }>) {
    this.#params = params;
    this.#ask = askingServer(params.redisUrl);
    this.#redis = connectRedis(params.redisUrl);
    this.#queue = new Queue(controlQueueName(params.fleet), { connection: this.#redis, prefix: QUEUE_PREFIX });
    // Without a listener a lost connection would end the process; ioredis reconnects by itself.
    this.#queue.on("error", () => {});
  }

  keep(schedule: Readonly<{ name: string; cron: string; tz: string }>): Promise<void> {
    return this.#ask("keep a schedule", () => this.#keep(schedule));
  }

  async #keep(schedule: Readonly<{ name: string; cron: string; tz: string }>): Promise<void> {
    const { name, cron, tz } = schedule;
    const kept = await this.#queue.getJobScheduler(name);
    if (kept?.pattern === cron && kept.tz === tz) return;
    await this.#queue.upsertJobScheduler(
      name,
      { pattern: cron, tz },
      { name: "tick", data: { schedule: name }, opts: TICK },
    );
  }

  async drop(name: string): Promise<void> {
    await this.#ask("drop a schedule", () => this.#queue.removeJobScheduler(name));
  }

  async kept(): Promise<string[]> {
    const kept = await this.#ask("list schedules", () => this.#queue.getJobSchedulers());
    return kept.map(({ key }) => key);
  }

  async add(tick: Tick): Promise<void> {
    const jobId = `${tick.isTriggered ? "trigger" : "missed"}-${tick.schedule}-${tick.slotMs}`;
    await this.#ask("queue a tick", () => this.#queue.add("tick", { ...tick }, { ...TICK, jobId }));
  }

  async pending(nowMs: number): Promise<Tick[]> {
    const jobs = await this.#ask("list ticks", () => this.#queue.getJobs([...WAITING_STATES]));
    return jobs.flatMap((job) => {
      const tick = job === undefined ? null : tickOf(job);
      return tick === null || tick.slotMs > nowMs ? [] : [tick];
    });
  }

  async work(handlers: TickHandlers): Promise<void> {
    if (this.#worker !== null) return;
    const { redisUrl, fleet, log } = this.#params;
    this.#workerRedis = connectRedis(redisUrl, { answerTimeoutMs: BLOCKING_ANSWER_TIMEOUT_MS });
    this.#worker = new Worker<TickData>(controlQueueName(fleet), (job, token) => process(job, token, handlers), {
      connection: this.#workerRedis,
      prefix: QUEUE_PREFIX,
      concurrency: TICKS_AT_ONCE,
      // When a tick's process dies, another continues it, as often as needed.
      maxStalledCount: 1000,
    });
    this.#worker.on("error", (error) => log.warn({ err: error }, "the control queue reported an error"));
    this.#worker.on("failed", (job, error) => {
      const tick = job === undefined ? null : tickOf(job);
      log.error({ ...tick, err: error }, `a tick failed: ${messageOf(error)}`);
    });
    const worker = this.#worker;
    await this.#ask("give out ticks", () => worker.waitUntilReady());
  }

  async close(): Promise<void> {
    await this.#worker?.close();
    await this.#queue.close();
    this.#workerRedis?.disconnect();
    this.#redis.disconnect();
  }
}

const TICK = {
  attempts: ATTEMPTS,
  backoff: { type: "exponential", delay: FIRST_PAUSE_MS },
  // The store has the record of a tick's outcome.
  removeOnComplete: true,
  removeOnFail: true,
} as const;

async function process(job: Job<TickData>, token: string | undefined, handlers: TickHandlers): Promise<void> {
  const tick = tickOf(job);
  if (tick === null) throw new UnrecoverableError("the job is not a tick of a schedule");
  const outcome = await handlers.onTick(tick).catch(async (error: unknown) => {
    if (job.attemptsMade + 1 >= (job.opts.attempts ?? 1)) await handlers.onGivenUp(tick, messageOf(error));
    throw error;
  });
  if (outcome.kind === "failed") throw new UnrecoverableError(outcome.reason);
  if (outcome.kind === "done") return;
  await job.moveToDelayed(Date.now() + outcome.waitMs, token);
  throw new DelayedError();
}

/** The job id of a job scheduler's tick is `repeat:<schedule>:<milliseconds>`. */
function tickOf(job: Job<TickData>): Tick | null {
  if (typeof job.data?.schedule !== "string") return null;
  const { schedule, slotMs, isTriggered } = job.data;
  if (typeof slotMs === "number") return { schedule, slotMs, isTriggered: isTriggered === true };
  const due = /^repeat:.*:(\d+)$/.exec(job.id ?? "")?.[1];
  return due === undefined ? null : { schedule, slotMs: Number(due), isTriggered: false };
}
