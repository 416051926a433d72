/** Several workers on one machine: a process each, over the devices in turn, kept alive by a supervisor. */
import { fileURLToPath } from "node:url";
import type { Logger } from "pino";
import { chooseEngine } from "../../models/choose-engine.ts";
import type { InferenceEngine } from "../../models/engine.ts";
import type { Model } from "../../models/registry/open-model.ts";
import { Supervisor } from "../../workers/supervisor.ts";
import { type Device, type DeviceChoice, deviceName } from "../core/device-name.ts";
import type { WorkerSettings } from "../fleet/start-worker.ts";
import type { LogFlags } from "./output.ts";

export interface WorkFlags extends WorkerSettings, LogFlags {
  readonly device: readonly DeviceChoice[];
  readonly workers: number;
  readonly json: boolean;
}

export interface WorkerPlace {
  readonly device: Device;
  /** CPU threads of its model. */
  readonly threads: number;
}

/**
 * At least one worker a device. Those on the CPU divide its threads among them; those on other devices
 * need a core or two each, which is theirs as it comes.
 *
 * @param engine ONNX Runtime by default.
 * @throws FleetError `bad_usage` when a device is named that the engine cannot open on this machine.
 */
export function placesOf(
  flags: Pick<WorkFlags, "device" | "workers" | "threads">,
  engine: InferenceEngine = chooseEngine(undefined),
): WorkerPlace[] {
  const devices = flags.device.map((choice) => engine.chooseDevice(choice));
  const count = Math.max(flags.workers, devices.length);
  const places = Array.from({ length: count }, (_, i) => devices[i % devices.length]!);
  const onCpu = places.filter(({ kind }) => kind === "cpu").length;
  const share = Math.max(1, Math.floor(flags.threads / Math.max(1, onCpu)));
  return places.map((device) => ({ device, threads: device.kind === "cpu" ? share : flags.threads }));
}

/** Not yet started. */
export function superviseWorkers(
  params: Readonly<{
    flags: WorkFlags;
    model: Model;
    places: readonly WorkerPlace[];
    logLevel: string;
    /** Neighbours cannot share one, so each takes the next; null where they serve none. */
    firstMetricsPort: number | null;
    log: Logger;
  }>,
): Supervisor {
  const { flags, model, places, logLevel, firstMetricsPort, log } = params;
  const argvs = places.map((place, index) => {
    // 0 takes a free one each.
    const metricsPort = firstMetricsPort === null ? undefined : firstMetricsPort === 0 ? 0 : firstMetricsPort + index;
    return workerArguments({ flags, model, place, metricsPort, logLevel });
  });
  return new Supervisor({ argvs, env: { ...process.env, ...secretsOf(flags) }, log });
}

/** A worker's command line: what its parent was given, and this very program. */
function workerArguments(
  params: Readonly<{
    flags: WorkFlags;
    model: Model;
    place: WorkerPlace;
    metricsPort: number | undefined;
    logLevel: string;
  }>,
): string[] {
  const { flags, model, place, metricsPort, logLevel } = params;
  const main = fileURLToPath(new URL("./main.js", import.meta.url));
  const args: [string, string | number | undefined][] = [
    ["--out", flags.out],
    ["--fleet", flags.fleet],
    ["--model", flags.model],
    ["--models", flags.models],
    ["--precision", model.precision],
    ["--engine", chooseEngine(flags.engine, model.manifest).name],
    ["--device", deviceName(place.device)],
    ["--threads", place.threads],
    ["--max-batch-tokens", flags.maxBatchTokens],
    ["--max-batch-rows", flags.maxBatchRows],
    ["--max-batch-seconds", flags.maxBatchSeconds],
    ["--max-held-bytes", flags.maxHeldBytes],
    ["--cache-folder", flags.cacheFolder],
    ["--lock-seconds", flags.lockSeconds],
    ["--tend-seconds", flags.tendSeconds],
    ["--metrics-port", metricsPort],
    ["--metrics-host", metricsPort === undefined ? undefined : flags.metricsHost],
    ["--s3-endpoint", flags.s3Endpoint],
    ["--s3-region", flags.s3Region],
    ["--s3-timeout-seconds", flags.s3TimeoutSeconds],
    ["--log-level", logLevel],
  ];
  const given = args.flatMap(([flag, value]) => (value === undefined ? [] : [flag, String(value)]));
  const switches = [
    flags.exitWhenDone ? "--exit-when-done" : [],
    flags.json ? "--json" : [],
    flags.keepStaging ? "--keep-staging" : [],
    flags.unsafeStore ? "--unsafe-store" : [],
    flags.allowVolatileRedis ? "--allow-volatile-redis" : [],
  ];
  return [main, "work", ...given, ...switches.flat()];
}

/** What may hold a password: `ps` shows a command line to everyone, and an environment to nobody else. */
function secretsOf({ redis, metricsPush, token }: WorkFlags): NodeJS.ProcessEnv {
  return {
    REDIS_URL: redis,
    ...(metricsPush !== undefined && { EMBEDFLEET_METRICS_PUSH: metricsPush }),
    ...(token !== undefined && { EMBEDFLEET_TOKEN: token }),
  };
}
