/** The nightly runs of a store: what `control` hosts and `backfill` changes. */
import type { Logger } from "pino";
import { BackfillScheduler } from "../control/schedules/scheduler.ts";
import { ScheduleService } from "../control/schedules/schedule-service.ts";
import { SchedulePolicy } from "../control/schedules/policy.ts";
import { allowedInputs } from "../adapters/allowed-inputs.ts";
import { OPTIONS, PLAN_OPTIONS } from "../config.ts";
import type { Schedule } from "../core/schedule.ts";
import type { ObjectStore } from "../core/ports.ts";
import type { QueueServer, ShardQueue } from "../core/queue-server.ts";
import { readRun } from "../run/read-plan.ts";
import { type EnqueueSettings, plan, prepare } from "./enqueue-corpus.ts";
import { findScheduleSecret, type ScheduleKeyPlaces } from "../control/schedules/schedule-key.ts";
import { type Closer, openQueueOf, type StoreSettings, withCloser } from "./open-ports.ts";

const LOOK_INTERVAL_MS = 15_000;

export interface NightlyFlags extends StoreSettings {
  readonly redis: string;
  /** Where pulled models lie, unless a signed schedule says where. */
  readonly models: string;
  readonly scheduleInputs: readonly string[];
  readonly webhookHosts: readonly string[];
  readonly allowVolatileRedis: boolean;
  readonly unsafeStore: boolean;
  readonly fleet: string;
}

/** What no flag and no schedule may say. */
export interface NightlySecrets {
  readonly schedules: ScheduleKeyPlaces;
  /** Signs what webhooks are told. */
  readonly webhook: string | undefined;
}

/** Starts to keep a store's schedules and to make their runs; `closer` ends it. */
export async function startNightly(
  params: Readonly<{
    flags: NightlyFlags;
    secrets: NightlySecrets;
    store: ObjectStore;
    server: QueueServer;
    closer: Closer;
    log: Logger;
  }>,
): Promise<ScheduleService> {
  const { flags, secrets, store, server, closer, log } = params;
  const secret = (): Promise<string | null> => findScheduleSecret(secrets.schedules);
  const { scheduleInputs: inputs, webhookHosts } = flags;
  // A secret that cannot be used ends control now, and not at two in the night.
  await secret();
  const policy = new SchedulePolicy({ secret, inputs, allowedInputs, models: flags.models, webhookHosts });
  const queue = closer.add(server.control());
  const turn = closer.add(server.controlTurn());
  const failures = closer.add(new Failures(server, store));
  const scheduler = closer.add(
    new BackfillScheduler({
      store,
      queue,
      turn,
      start: ({ schedule, run, since, signal }) =>
        startRun(schedule, { ...flags, run, ...(since !== null && { since }) }, signal, log),
      findFailure: (run) => failures.find(run),
      policy,
      webhookSecret: secrets.webhook,
      intervalMs: LOOK_INTERVAL_MS,
      log,
    }),
  );
  await scheduler.start();
  return new ScheduleService({ store, queue, policy, keepForMs: LOOK_INTERVAL_MS });
}

/**
 * As `enqueue` would with the options that the schedule was added with. Where store, Redis and S3 are is the process's
 * own, whatever the schedule says.
 */
async function startRun(
  schedule: Schedule,
  { models, ...host }: NightlyFlags & Readonly<{ run: string; since?: string }>,
  signal: AbortSignal,
  log: Logger,
): Promise<void> {
  const { inputs } = schedule;
  const producerThreads: unknown = OPTIONS.producerThreads().defaultValue;
  const own = { ...planDefaults(), producerThreads, models };
  const settings = { ...own, ...schedule.options, ...host } as unknown as EnqueueSettings;
  await withCloser(async (closer) => {
    // The schedule came out of this store: it is there, or its disk is away.
    const prepared = await prepare(inputs, settings, closer, log, { makeRoot: false });
    const opened = await openQueueOf(settings, prepared.model.manifest.id, closer, log);
    await plan({ ...prepared, ...opened, inputs, settings, closer, log, signal });
  });
}

/** The options of a plan out of a command's flags, by the names that handlers know them by. */
export function planOptionsOf(flags: Readonly<Record<string, unknown>>): Schedule["options"] {
  const given = PLAN_OPTIONS.map((name) => OPTIONS[name]())
    .map((option) => [option.attributeName(), flags[option.attributeName()], option.defaultValue] as const)
    // This machine's own folder of models means nothing on another; one that was said is meant.
    .filter(([name, value, byDefault]) => value !== undefined && !(name === "models" && value === byDefault))
    .map(([name, value]) => [name, value]);
  return JSON.parse(JSON.stringify(Object.fromEntries(given))) as Schedule["options"];
}

/** For options that came after a schedule was added. */
function planDefaults(): Record<string, unknown> {
  return Object.fromEntries(
    PLAN_OPTIONS.map((name) => OPTIONS[name]()).map((option) => [option.attributeName(), option.defaultValue]),
  );
}

/** Runs that the workers have given up on. */
class Failures {
  readonly #server: QueueServer;
  readonly #store: ObjectStore;
  readonly #queues = new Map<string, ShardQueue>();

  constructor(server: QueueServer, store: ObjectStore) {
    this.#server = server;
    this.#store = store;
  }

  /** Null while anything is still queued or worked on, or nothing of the run has failed. */
  async find(run: string): Promise<string | null> {
    const { options } = await readRun(this.#store, run);
    const queue = this.#queueOf(options.model.id);
    const { waiting, active, failed } = await queue.counts();
    if (failed === 0 || waiting + active > 0) return null;
    const failures = await queue.failures({ run, limit: 3 });
    if (failures.length === 0) return null;
    return `shards failed: ${failures.map(({ shard, reason }) => `${shard}: ${reason}`).join("; ")}`;
  }

  #queueOf(model: string): ShardQueue {
    const ofModel = this.#server.ofModel(model);
    const queue = this.#queues.get(ofModel.name) ?? ofModel.shards();
    this.#queues.set(ofModel.name, queue);
    return queue;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#queues.values()].map((queue) => queue.close()));
  }
}
