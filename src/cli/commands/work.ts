/** `embedfleet work`: runs one worker here, or several in processes of their own. */
import { hasCode } from "../../core/errors.ts";
import { assertAddresses, engineOf, modelOf, redisOf } from "../../fleet/open-ports.ts";
import { startWorker } from "../../fleet/start-worker.ts";
import type { WorkCommand, WorkerProcess } from "../command-settings.ts";
import { loggerOf, printJson } from "../output.ts";
import { reportFailure } from "../report-failure.ts";
import { placesOf, superviseWorkers, type WorkerPlace } from "../worker-processes.ts";

export async function work(settings: WorkCommand): Promise<void> {
  const [first, ...others] = placesOf(settings, engineOf(settings));
  if (others.length === 0) return workAt(first!, settings);
  const log = loggerOf(settings);
  assertAddresses({ ...settings, redis: redisOf(settings) });
  const model = await modelOf(settings, log);
  const { logLevel, metricsPort: firstMetricsPort = null } = settings;
  const supervisor = superviseWorkers({
    settings,
    model,
    places: [first!, ...others],
    logLevel,
    firstMetricsPort,
    log,
  });
  const stop = (): void => void supervisor.stop();
  process.once("SIGTERM", stop).once("SIGINT", stop);
  supervisor.start();
  await supervisor.ended().finally(() => supervisor.stop());
}

/**
 * Runs one worker in this process.
 * @param onReady Called when it has opened its model and takes jobs.
 */
export async function workAt(
  place: WorkerPlace,
  settings: Omit<WorkerProcess, "device">,
  onReady: () => void = () => {},
): Promise<void> {
  const log = loggerOf(settings);
  const worker = await startWorker({ ...settings, ...place, redis: redisOf(settings), log }).catch(endIfHung);
  const stop = (): void => void worker.stop();
  process.once("SIGTERM", stop).once("SIGINT", stop);
  // A reader of this line may send a signal at once.
  const { name, device, model, precision, engine, store } = worker;
  const { threads } = place;
  log.info({ worker: name, device, model, precision, engine, threads, store }, "the worker is ready");
  onReady();
  const counts = await worker.done.catch(endIfHung);
  log.info({ worker: name, ...counts }, "the worker has stopped");
  if (settings.json) printJson({ worker: name, device: worker.device, ...counts });
}

/** Exits at once: a thread inside a native call can be neither terminated nor joined, and would block a normal exit. */
function endIfHung(error: unknown): never {
  if (!hasCode(error, "inference_hung")) throw error;
  reportFailure(error);
  process.kill(process.pid, "SIGKILL");
  throw error;
}
