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
import { programVersion } from "../../fleet/program-version.ts";
import { ensureStoreId } from "../../run/store-id.ts";

const LOOK_INTERVAL_MS = 2000;
/** `/healthz` reports a failure after this long without a complete snapshot or an answer from a writable Redis. */
const MAX_BLIND_MS = 60_000;

export async function control(settings: ControlCommand): Promise<void> {
  await withCloser(async (closer) => {
    const log = loggerOf(settings);
    const access = new Access({ host: settings.host, token: settings.token });
    const redisUrl = redisOf(settings);
    assertAddresses(settings);
    const queueServer = await checkedServerOf(settings, log);
    const version = programVersion();
    const metrics = new Metrics({ role: "control", version });
    const observe = observeMetrics(metrics);
    // Control may be the first process to start, and schedules the first objects in the store.
    const store = new ObservedStore(await openStoreOf(settings, closer, { makeRoot: true }), observe);
    await probeStoreOf(store, settings, log);
    const queues = queueServer.ofStore(await ensureStoreId(store));
    const redisWatch = closer.add(queueServer.watch());
    const board = new Board();
    const secrets = { schedules: scheduleKeyPlaces(), webhook: webhookSecret() };
    const hosting = { ...settings, redis: redisUrl };
    const schedules = await startNightly({ settings: hosting, secrets, store, queues, closer, log });
    const watch = closer.add(
      new FleetWatch({
        store,
        fleet: settings.fleet,
        version,
        schedules,
        intervalMs: LOOK_INTERVAL_MS,
        log,
        queues,
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
    // Before it says that it is ready: whoever waits for that may stop it at once.
    const signalled = untilSignalled();
    log.info({ url: server.url, store: store.url, fleet: settings.fleet }, "control is ready");
    // The token is in the URL's fragment (#), so it is in no request line and in no proxy's log.
    if (settings.token === undefined) printLine(`dashboard  ${server.url}/#token=${access.token}`);
    const signal = await signalled;
    log.info({ signal }, "control is stopping");
    setTimeout(() => {
      log.warn("Redis does not answer: control exits without closing the connection");
      process.exit();
    }, GOODBYE_MS).unref();
  });
}

/** Limit on closing a connection to Redis, which may be gone; all writes are atomic or repeated, so none is lost. */
const GOODBYE_MS = 10_000;

function untilSignalled(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    process.once("SIGINT", resolve).once("SIGTERM", resolve);
  });
}
