/** Several workers on one machine: one process each, on the devices in turn, restarted by a supervisor. */
import { fileURLToPath } from "node:url";
import type { Logger } from "pino";
import { chooseEngine } from "../../models/choose-engine.ts";
import type { InferenceEngine } from "../../models/engine.ts";
import type { Model } from "../../models/registry/open-model.ts";
import { Supervisor } from "../../workers/supervisor.ts";
import { childEnvironment } from "../core/child-environment.ts";
import type { Device } from "../core/device-name.ts";
import type { WorkCommand, WorkerProcess } from "./command-settings.ts";

const SCRIPT = fileURLToPath(new URL("./worker.process.js", import.meta.url));

export interface WorkerPlace {
  readonly device: Device;
  /** CPU threads for the model. */
  readonly threads: number;
}

/**
 * At least one worker per device. Workers on the CPU divide its threads; those on other devices
 * need a core or two each, which is not reserved.
 *
 * @param engine ONNX Runtime by default.
 * @throws FleetError `bad_usage` when a device is named that the engine cannot open on this machine.
 */
export function placesOf(
  settings: Pick<WorkCommand, "device" | "workers" | "threads">,
  engine: InferenceEngine = chooseEngine(undefined),
): WorkerPlace[] {
  const devices = settings.device.map((choice) => engine.chooseDevice(choice));
  const count = Math.max(settings.workers, devices.length);
  const places = Array.from({ length: count }, (_, i) => devices[i % devices.length]!);
  const onCpu = places.filter(({ kind }) => kind === "cpu").length;
  const share = Math.max(1, Math.floor(settings.threads / Math.max(1, onCpu)));
  return places.map((device) => ({ device, threads: device.kind === "cpu" ? share : settings.threads }));
}

/** A supervisor, not yet started. Each process is sent its settings, including passwords: `ps` shows command lines. */
export function superviseWorkers(
  params: Readonly<{
    settings: WorkCommand;
    model: Model;
    places: readonly WorkerPlace[];
    logLevel: WorkCommand["logLevel"];
    /** Workers cannot share a port, so each takes the next one; null when they serve no metrics. */
    firstMetricsPort: number | null;
    log: Logger;
  }>,
): Supervisor {
  const { settings, model, places, logLevel, firstMetricsPort, log } = params;
  const { metricsPort: _parents, workers: _all, ...shared } = settings;
  const messages = places.map((place, index): WorkerProcess => {
    // 0 takes a free port for each.
    const metricsPort = firstMetricsPort === null ? null : firstMetricsPort === 0 ? 0 : firstMetricsPort + index;
    const own = { ...place, precision: model.precision, logLevel };
    return { ...shared, ...own, ...(metricsPort !== null && { metricsPort }) };
  });
  const argvs = places.map(() => [SCRIPT]);
  return new Supervisor({ argvs, messages, env: childEnvironment(), log });
}
