/** The nightly runs of a store, which `control` hosts and `backfill` changes. */
import type { Logger } from "pino";
import { knownManifest } from "../../models/registry/registry.ts";
import { BackfillScheduler } from "../control/schedules/scheduler.ts";
import { ScheduleService } from "../control/schedules/schedule-service.ts";
import { SchedulePolicy } from "../control/schedules/policy.ts";
import { allowedInputs } from "../adapters/allowed-inputs.ts";
import { COUNTED_FAILURES, sayFailures } from "../core/failures.ts";
import type { Schedule } from "../core/schedule.ts";
import type { ObjectStore } from "../core/ports.ts";
import type { ShardQueue, StoreQueues } from "../core/queue-server.ts";
import { readRun } from "../run/read-plan.ts";
import { plan, prepare } from "./enqueue-corpus.ts";
import { findScheduleSecret, type ScheduleKeyPlaces } from "../control/schedules/schedule-key.ts";
import { type Closer, openQueueOf, withCloser } from "./open-ports.ts";
import { withDefaults } from "./check-settings.ts";
import { enqueueSettings, type ScheduleHostSettings } from "./settings.ts";

const LOOK_INTERVAL_MS = 15_000;

type HostSettings = ScheduleHostSettings & Readonly<{ redis: string }>;

/** Secrets that neither settings nor a schedule may contain. */
export interface NightlySecrets {
  readonly schedules: ScheduleKeyPlaces;
  /** Signs webhooks. */
  readonly webhook: string | undefined;
}

/** Starts the scheduler of a store's nightly runs; `closer` ends it. */
export async function startNightly(
  params: Readonly<{
    settings: HostSettings;
    secrets: NightlySecrets;
    store: ObjectStore;
    queues: StoreQueues;
    closer: Closer;
    log: Logger;
  }>,
): Promise<ScheduleService> {
  const { settings, secrets, store, queues, closer, log } = params;
  const secret = (): Promise<string | null> => findScheduleSecret(secrets.schedules);
  const { scheduleInputs: inputs, webhookHosts } = settings;
  // An unusable secret ends control now, not at two in the night.
  await secret();
  const policy = new SchedulePolicy({ secret, inputs, allowedInputs, models: settings.models, webhookHosts });
  const queue = closer.add(queues.control());
  const turn = closer.add(queues.controlTurn());
  const failures = closer.add(new Failures(queues, store));
  const scheduler = closer.add(
    new BackfillScheduler({
      store,
      queue,
      turn,
      start: async ({ schedule, run, since, signal }) =>
        startRun(
          schedule,
          { ...settings, run, ...(since !== null && { since }) },
          { signal, log, linksBelow: await policy.linksBelow(schedule) },
        ),
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
 * Starts a run like `enqueue` with the options stored in the schedule. Store, Redis and S3 are the process's
 * own, whatever the schedule names.
 */
async function startRun(
  schedule: Schedule,
  { models, ...host }: HostSettings & Readonly<{ run: string; since?: string }>,
  {
    signal,
    log,
    linksBelow,
  }: Readonly<{ signal: AbortSignal; log: Logger; linksBelow: readonly string[] | undefined }>,
): Promise<void> {
  const { inputs } = schedule;
  const { model } = schedule.options;
  // A folder of that name, wherever this process was started, must be named by a path, which takes a signature.
  if (model !== undefined && !/[/\\]/.test(model)) knownManifest(model);
  // Options that are newer than the schedule have their defaults.
  const settings = withDefaults(enqueueSettings, { models, ...schedule.options, ...host });
  await withCloser(async (closer) => {
    // The schedule was read from this store, so a missing folder means that its disk is unavailable.
    const prepared = await prepare(inputs, settings, closer, log, { makeRoot: false, linksBelow });
    const { store, model } = prepared;
    const opened = await openQueueOf(settings, { store, model: model.manifest.id }, closer, log);
    await plan({ ...prepared, ...opened, inputs, settings, closer, log, signal });
  });
}

/** Finds runs that the workers have given up. */
class Failures {
  readonly #ofStore: StoreQueues;
  readonly #store: ObjectStore;
  readonly #queues = new Map<string, ShardQueue>();

  constructor(ofStore: StoreQueues, store: ObjectStore) {
    this.#ofStore = ofStore;
    this.#store = store;
  }

  /** Null while jobs of the run are queued or active, or when none has failed. */
  async find(run: string): Promise<string | null> {
    const { options } = await readRun(this.#store, run);
    const queue = this.#queueOf(options.model.id);
    const { waiting, active, failed } = await queue.counts();
    if (failed === 0 || waiting + active > 0) return null;
    const failures = await queue.failures({ run, limit: COUNTED_FAILURES });
    if (failures.length === 0) return null;
    return `shards failed: ${sayFailures(failures)}`;
  }

  #queueOf(model: string): ShardQueue {
    const ofModel = this.#ofStore.ofModel(model);
    const queue = this.#queues.get(ofModel.name) ?? ofModel.shards();
    this.#queues.set(ofModel.name, queue);
    return queue;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#queues.values()].map((queue) => queue.close()));
  }
}
