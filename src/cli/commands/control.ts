/** `embedfleet control`: reconciles a fleet's runs and shows them, until stopped. */
import { Access } from "../../telemetry/access.ts";
import { controlApp } from "../../control/app.ts";
import { Board } from "../../control/board.ts";
import { FleetQueue } from "../../control/fleet-queue.ts";
import { FleetWatch } from "../../control/fleet-watch.ts";
import { recordSnapshot } from "../../control/snapshot-metrics.ts";
import { rawQueueOf } from "../../adapters/open-queue.ts";
import { listen } from "../../telemetry/listen.ts";
import { Metrics } from "../../telemetry/metrics.ts";
import { ObservedStore } from "../../telemetry/observed-store.ts";
import { observeMetrics } from "../../telemetry/observe-metrics.ts";
import type { ControlCommand } from "../command-settings.ts";
import { scheduleKeyPlaces, webhookSecret } from "../environment.ts";
import { loggerOf, printLine } from "../output.ts";
import {
  assertAddresses,
  checkedServerOf,
  openStoreOf,
  probeStoreOf,
  redisOf,
  withCloser,
} from "../../fleet/open-ports.ts";
import { startNightly } from "../../fleet/host-schedules.ts";
import { programVersion } from "../../fleet/open-metrics.ts";

const LOOK_INTERVAL_MS = 2000;
/** Without one whole look for so long, or an answer of a Redis that takes writes, `/healthz` says so. */
const MAX_BLIND_MS = 60_000;

export async function control(settings: ControlCommand): Promise<void> {
  await withCloser(async (closer) => {
    const log = loggerOf(settings);
    const access = new Access({ host: settings.host, token: settings.token });
    const redisUrl = redisOf(settings);
    assertAddresses(settings);
    const queues = await checkedServerOf(settings, log);
    const version = programVersion();
    const metrics = new Metrics({ role: "control", version });
    const observe = observeMetrics(metrics);
    // It may be the first that is started, and schedules the first that comes into the store.
    const store = new ObservedStore(await openStoreOf(settings, closer, { makeRoot: true }), observe);
    await probeStoreOf(store, settings, log);
    const redisWatch = closer.add(queues.watch());
    const board = new Board();
    const secrets = { schedules: scheduleKeyPlaces(), webhook: webhookSecret() };
    const hosting = { ...settings, redis: redisUrl };
    const schedules = await startNightly({ settings: hosting, secrets, store, server: queues, closer, log });
    const watch = closer.add(
      new FleetWatch({
        store,
        fleet: settings.fleet,
        version,
        schedules,
        intervalMs: LOOK_INTERVAL_MS,
        log,
        server: queues,
        openQueue: (ofModel) => {
          const queue = new FleetQueue({
            queue: ofModel,
            store,
            keepStaging: settings.keepStaging,
            tendIntervalMs: settings.reconcileSeconds * 1000,
            log,
            observe,
          });
          const raw = rawQueueOf(queue.jobs);
          if (raw !== null) board.add(raw);
          return queue;
        },
      }),
    );
    watch.subscribe((snapshot) => recordSnapshot(metrics, snapshot));
    await watch.start();
    const shown = { store, watch, redisWatch, schedules, metrics, board };
    const app = controlApp({ ...shown, access, maxBlindMs: MAX_BLIND_MS, log });
    const server = closer.add(await listen({ app, host: settings.host, port: settings.port }));
    log.info({ url: server.url, store: store.url, fleet: settings.fleet }, "control is ready");
    // The token is behind a #, so it is in no request line and in no log of a proxy.
    if (settings.token === undefined) printLine(`dashboard  ${server.url}/#token=${access.token}`);
    const signal = await untilSignalled();
    log.info({ signal }, "control ends");
    setTimeout(() => {
      log.warn("Redis does not answer: control ends without it");
      process.exit();
    }, GOODBYE_MS).unref();
  });
}

/** Closing says goodbye to Redis, which may be gone; every act of control's is whole or repeated, so nothing is owed. */
const GOODBYE_MS = 10_000;

function untilSignalled(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    process.once("SIGINT", resolve).once("SIGTERM", resolve);
  });
}
