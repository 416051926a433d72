/** `embedfleet run`: enqueue, workers and seal on this machine. */
import { fileURLToPath } from "node:url";
import type { Logger } from "pino";
import { chooseDevice, deviceName } from "../../../models/device.ts";
import type { Model } from "../../../models/open-model.ts";
import { Supervisor } from "../../../workers/supervisor.ts";
import type { BullQueue } from "../../adapters/redis/bull-queue.ts";
import { PrivateRedis } from "../../adapters/redis/private-redis.ts";
import { queueName } from "../../adapters/redis/queue-options.ts";
import { FleetError } from "../../core/errors.ts";
import type { ObjectStore } from "../../core/ports.ts";
import { readProgress, type RunReport } from "../../run/progress.ts";
import { unmarkActive } from "../../run/active-runs.ts";
import { sealRun } from "../../run/seal.ts";
import { loggerOf, openQueueOf, printJson, withCloser } from "../context.ts";
import { startProgress } from "../progress.ts";
import { printReport } from "../report.ts";
import { type EnqueueFlags, newRunId, plan, prepare } from "./enqueue.ts";
import type { WorkFlags } from "./work.ts";

const POLL_INTERVAL_MS = 500;

export interface RunFlags extends EnqueueFlags, Omit<WorkFlags, "exitWhenDone"> {
  readonly workers: number;
}

export async function run(inputs: readonly string[], given: RunFlags): Promise<void> {
  await withCloser(async (closer) => {
    const log = loggerOf(given);
    // Its workers would each refuse it, after the corpus was read.
    chooseDevice(given.device);
    const { store, model, tokenizer, corpus, observe } = await prepare(inputs, given, closer, log);
    const redis = given.redis ?? closer.add(await PrivateRedis.start()).url;
    const runId = given.run ?? newRunId();
    // Nobody else can reach a private queue, so nobody else's workers may think the run theirs.
    const fleet = given.redis === undefined ? `private-${runId}` : given.fleet;
    // That a private server persists nothing is by design, so only warnings about a given one are said.
    const allowVolatileRedis = given.redis === undefined || given.allowVolatileRedis;
    const flags: RunFlags = { ...given, redis, fleet, run: runId, allowVolatileRedis };
    const queue = await openQueueOf(flags, model.manifest.id, closer, given.redis === undefined ? quiet(log) : log);
    const env = { ...process.env, ...secretsOf(flags) };
    const supervisor = new Supervisor({ argv: workerArguments(flags, model), env, log });
    closer.add({ close: () => supervisor.stop() });
    supervisor.start(flags.workers);
    const stopped = untilSignalled();
    const failed = supervisor.ended().then(() => new Promise<never>(() => {}));
    const planned = plan({ inputs, flags, corpus, store, queue, model, tokenizer, observe, closer, log });
    const { run: id } = await Promise.race([planned, failed, stopped]);
    await Promise.race([untilComplete({ store, queue, run: id, log }), failed, stopped]);
    await supervisor.stop();
    const outcome = await sealRun({ store, run: id, keepStaging: flags.keepStaging });
    if (outcome.kind === "open")
      throw new FleetError("run_incomplete", `run ${id} cannot be sealed: ${outcome.reason}`);
    await unmarkActive(store, { fleet: queueName(fleet, model.manifest.id), run: id });
    const report = await readProgress({ store, run: id, queue: null });
    if (flags.json) printJson(report);
    else printReport(report, store.url);
  });
}

function quiet(log: Logger): Logger {
  return log.child({}, { level: "error" });
}

/** A worker's command line: what the run was given, and this very program. */
function workerArguments(flags: RunFlags, model: Model): string[] {
  const main = fileURLToPath(new URL("../main.js", import.meta.url));
  const threads = Math.max(1, Math.floor(flags.threads / flags.workers));
  const args: [string, string | number | undefined][] = [
    ["--out", flags.out],
    ["--fleet", flags.fleet],
    ["--model", flags.model],
    ["--models", flags.models],
    ["--precision", model.precision],
    ["--device", flags.device === "auto" ? "auto" : deviceName(flags.device)],
    ["--threads", threads],
    ["--max-batch-tokens", flags.maxBatchTokens],
    ["--max-batch-rows", flags.maxBatchRows],
    ["--max-batch-seconds", flags.maxBatchSeconds],
    ["--max-held-bytes", flags.maxHeldBytes],
    ["--cache-folder", flags.cacheFolder],
    ["--lock-seconds", flags.lockSeconds],
    ["--tend-seconds", flags.tendSeconds],
    ["--s3-endpoint", flags.s3Endpoint],
    ["--s3-region", flags.s3Region],
    ["--s3-timeout-seconds", flags.s3TimeoutSeconds],
    // Their ordinary lines would drown the run's own, and their warnings would repeat it.
    ["--log-level", flags.logLevel === "debug" ? "debug" : "error"],
  ];
  const given = args.flatMap(([flag, value]) => (value === undefined ? [] : [flag, String(value)]));
  const switches = [
    flags.keepStaging ? "--keep-staging" : [],
    flags.unsafeStore ? "--unsafe-store" : [],
    flags.allowVolatileRedis ? "--allow-volatile-redis" : [],
  ];
  return [main, "work", ...given, ...switches.flat()];
}

/** What may hold a password: `ps` shows a command line to everyone, and an environment to nobody else. */
function secretsOf(flags: RunFlags): NodeJS.ProcessEnv {
  const { redis, metricsPush } = flags;
  return { REDIS_URL: redis, ...(metricsPush !== undefined && { EMBEDFLEET_METRICS_PUSH: metricsPush }) };
}

function untilSignalled(): Promise<never> {
  return new Promise((_, reject) => {
    const stop = (signal: NodeJS.Signals): void =>
      reject(
        new FleetError("run_incomplete", `stopped by ${signal}`, {
          cure: "the same command with the same --run id continues",
        }),
      );
    process.once("SIGINT", stop).once("SIGTERM", stop);
  });
}

async function untilComplete(
  params: Readonly<{ store: ObjectStore; queue: BullQueue; run: string; log: Logger }>,
): Promise<RunReport> {
  const { store, queue, run } = params;
  const progress = startProgress("embedding", "rows");
  try {
    for (;;) {
      const report = await readProgress({ store, run, queue: await queue.counts() });
      progress.update(report.rows, report.plannedRows);
      if (report.state === "complete" || report.state === "sealed") return report;
      await assertCanFinish(queue, report);
      await new Promise((resolve) => setTimeout(resolve, POLL_INTERVAL_MS));
    }
  } finally {
    progress.stop();
  }
}

/** With failed jobs and nothing left to do, waiting longer would be waiting for ever. */
async function assertCanFinish(queue: BullQueue, report: RunReport): Promise<void> {
  if (report.queue === null || report.queue.failed === 0 || report.queue.waiting + report.queue.active > 0) return;
  const failures = await queue.failures({ run: report.run, limit: 3 });
  if (failures.length === 0) return;
  const reasons = failures.map(({ shard, reason }) => `${shard}: ${reason}`).join("; ");
  throw new FleetError("run_incomplete", `run ${report.run} has shards that failed: ${reasons}`, {
    cure: `mend the cause, then: embedfleet resume ${report.run}`,
  });
}
