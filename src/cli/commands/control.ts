/** `embedfleet control`: reconciles a fleet's runs and shows them, until stopped. */
import { Access } from "../../telemetry/access.ts";
import { controlApp } from "../../control/app.ts";
import { Board } from "../../control/board.ts";
import { FleetQueue } from "../../control/fleet-queue.ts";
import { FleetWatch } from "../../control/fleet-watch.ts";
import { recordSnapshot } from "../../control/snapshot-metrics.ts";
import { checkRedis } from "../../adapters/redis/connect.ts";
import { listen } from "../../telemetry/listen.ts";
import { Metrics } from "../../telemetry/metrics.ts";
import { ObservedStore } from "../../telemetry/observed-store.ts";
import { observeMetrics } from "../../telemetry/observe-metrics.ts";
import { scheduleKeyPlaces, webhookSecret } from "../../config.ts";
import { loggerOf, printLine, type StoreFlags } from "../output.ts";
import {
  assertAddresses,
  openStoreOf,
  probeStoreOf,
  redisOf,
  watchRedisOf,
  withCloser,
} from "../../fleet/open-ports.ts";
import { startNightly } from "../../fleet/host-schedules.ts";
import { programVersion } from "../../fleet/open-metrics.ts";

const LOOK_INTERVAL_MS = 2000;
/** Without one whole look for so long, or an answer of a Redis that takes writes, `/healthz` says so. */
const MAX_BLIND_MS = 60_000;

export interface ControlFlags extends StoreFlags {
  readonly redis?: string;
  readonly allowVolatileRedis: boolean;
  readonly unsafeStore: boolean;
  readonly fleet: string;
  readonly host: string;
  readonly port: number;
  readonly token?: string;
  readonly keepStaging: boolean;
  readonly tendSeconds: number;
  readonly models: string;
  readonly scheduleInputs: readonly string[];
  readonly webhookHosts: readonly string[];
}

export async function control(flags: ControlFlags): Promise<void> {
  await withCloser(async (closer) => {
    const log = loggerOf(flags);
    const access = new Access({ host: flags.host, token: flags.token });
    const redisUrl = redisOf(flags);
    assertAddresses(flags);
    for (const warning of await checkRedis(redisUrl, { allowVolatile: flags.allowVolatileRedis })) log.warn(warning);
    const version = programVersion();
    const metrics = new Metrics({ role: "control", version });
    const observe = observeMetrics(metrics);
    // It may be the first that is started, and schedules the first that comes into the store.
    const store = new ObservedStore(await openStoreOf(flags, closer, { makeRoot: true }), observe);
    await probeStoreOf(store, flags, log);
    const redisWatch = watchRedisOf(flags, closer, log);
    const board = new Board();
    const secrets = { schedules: scheduleKeyPlaces(), webhook: webhookSecret() };
    const schedules = await startNightly({ flags: { ...flags, redis: redisUrl }, secrets, store, closer, log });
    const watch = closer.add(
      new FleetWatch({
        store,
        fleet: flags.fleet,
        version,
        schedules,
        intervalMs: LOOK_INTERVAL_MS,
        log,
        openQueue: (name) => {
          const queue = new FleetQueue({
            redisUrl,
            name,
            store,
            keepStaging: flags.keepStaging,
            tendIntervalMs: flags.tendSeconds * 1000,
            log,
            observe,
          });
          board.add(queue.jobs.raw);
          return queue;
        },
      }),
    );
    watch.subscribe((snapshot) => recordSnapshot(metrics, snapshot));
    await watch.start();
    const shown = { store, watch, redisWatch, schedules, metrics, board };
    const app = controlApp({ ...shown, access, maxBlindMs: MAX_BLIND_MS, log });
    const server = closer.add(await listen({ app, host: flags.host, port: flags.port }));
    log.info({ url: server.url, store: store.url, fleet: flags.fleet }, "control is ready");
    // The token is behind a #, so it is in no request line and in no log of a proxy.
    if (flags.token === undefined) printLine(`dashboard  ${server.url}/#token=${access.token}`);
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
