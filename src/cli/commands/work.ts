/** `embedfleet work`: one worker, or several in processes of their own. */
import { hasCode } from "../../core/errors.ts";
import { assertAddresses, modelOf, redisOf } from "../../fleet/open-ports.ts";
import { startWorker } from "../../fleet/start-worker.ts";
import { loggerOf, printJson } from "../output.ts";
import { reportFailure } from "../report-failure.ts";
import { placesOf, superviseWorkers, type WorkerPlace, type WorkFlags } from "../worker-processes.ts";

export async function work(flags: WorkFlags): Promise<void> {
  const [first, ...others] = placesOf(flags);
  if (others.length === 0) return workAt(first!, flags);
  const log = loggerOf(flags);
  assertAddresses({ ...flags, redis: redisOf(flags) });
  const model = await modelOf(flags, log);
  const { logLevel, metricsPort: firstMetricsPort = null } = flags;
  const supervisor = superviseWorkers({ flags, model, places: [first!, ...others], logLevel, firstMetricsPort, log });
  const stop = (): void => void supervisor.stop();
  process.once("SIGTERM", stop).once("SIGINT", stop);
  supervisor.start();
  await supervisor.ended().finally(() => supervisor.stop());
}

async function workAt(place: WorkerPlace, flags: WorkFlags): Promise<void> {
  const log = loggerOf(flags);
  const worker = await startWorker({ ...flags, ...place, redis: redisOf(flags), log }).catch(endIfHung);
  const stop = (): void => void worker.stop();
  process.once("SIGTERM", stop).once("SIGINT", stop);
  // Whoever reads this may send a signal at once.
  const { name, device, model, precision, store } = worker;
  log.info({ worker: name, device, model, precision, threads: place.threads, store }, "the worker is ready");
  const counts = await worker.done.catch(endIfHung);
  log.info({ worker: name, ...counts }, "the worker ends");
  if (flags.json) printJson({ worker: name, device: worker.device, ...counts });
}

/** A thread inside a native call can be neither terminated nor joined, so an ordinary exit would wait for it for ever. */
function endIfHung(error: unknown): never {
  if (!hasCode(error, "inference_hung")) throw error;
  reportFailure(error);
  process.kill(process.pid, "SIGKILL");
  throw error;
}
