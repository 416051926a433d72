/** `embedfleet status`: a run's progress, its throughput, and what it waits for. */
import { setTimeout as sleep } from "node:timers/promises";
import { ScheduleService } from "../../control/schedules/schedule-service.ts";
import { openQueue } from "../../adapters/open-queue.ts";
import { hasCode, isPassing, messageOf } from "../../core/errors.ts";
import { COUNTED_FAILURES } from "../../core/failures.ts";
import type { ObjectStore, QueueCounts } from "../../core/ports.ts";
import type { QueueServer, ShardQueue } from "../../core/queue-server.ts";
import { readPlanningWaits, readWorkers } from "../../core/worker-state.ts";
import { listRuns } from "../../run/list-runs.ts";
import { type FleetPresence, forecastOf } from "../../run/run-forecast.ts";
import { readProgress, reportOf, type RunReport } from "../../run/run-progress.ts";
import { readRun } from "../../run/read-plan.ts";
import { RunWatch } from "../../run/run-watch.ts";
import { findStoreId } from "../../run/store-id.ts";
import type { StatusCommand } from "../command-settings.ts";
import { printJson, printLine } from "../output.ts";
import { type Closer, openStoreOf, withCloser } from "../../fleet/open-ports.ts";
import { count } from "../../core/format-figures.ts";
import { printReport, scheduleLine } from "../format-report.ts";
import { Screen } from "../screen.ts";
import { type RunStatus, statusLines } from "../status-lines.ts";

const REFRESH_INTERVAL_MS = 1000;
/** Maximum share of the time spent on taking the status, however large the run is. */
const LOOK_SHARE = 0.25;
/** When Redis takes longer than this, only the data from the store is shown. */
const ANSWER_TIMEOUT_MS = 2000;

export async function status(run: string | undefined, settings: StatusCommand): Promise<void> {
  await withCloser(async (closer) => {
    const store = await openStoreOf(settings, closer);
    if (run === undefined) return printRuns(store, settings.json);
    const look = await looker(store, run, settings, closer);
    if (settings.json) return printJson(await look());
    const last = settings.watch || process.stdout.isTTY ? await watch(look) : await look();
    if (last.state === "sealed") return printReport(last, store.url);
    for (const line of statusLines(last, { columns: process.stdout.columns ?? Infinity })) printLine(line);
  });
}

/** Returns a function that reads the run, its queue and its workers; parts that are unavailable are null. */
async function looker(
  store: ObjectStore,
  run: string,
  settings: StatusCommand,
  closer: Closer,
): Promise<() => Promise<RunStatus>> {
  const runWatch = new RunWatch({ store, run });
  const { options } = await readRun(store, run);
  const { redis: url, fleet } = settings;
  const ask =
    url === undefined
      ? null
      : await asker({ server: openQueue({ url, fleet, readOnly: true }), store, model: options.model.id, run, closer });
  return async () => {
    const snapshot = await runWatch.look();
    const { counts, ...presence } = ask === null ? UNASKED : await ask();
    const report = reportOf(snapshot, counts);
    const forecast = forecastOf(report, { ...presence, storeUrl: store.url });
    const { state } = report;
    const { failedJobs, failures, nextCommand } = forecast;
    // Failures come first, also for a reader of JSON.
    const first = { run, state, failedJobs, failures, nextCommand };
    return { ...first, ...report, ...forecast, workers: presence.workers };
  };
}

/** The data from the queue and from the active workers. */
type Answer = FleetPresence & { readonly counts: QueueCounts | null };

const UNASKED: Answer = { counts: null, workers: null, producers: null, failedJobs: 0 };

/** Connects to Redis. @throws FleetError `redis_unavailable` at first; a Redis that goes away later is waited for. */
async function asker(
  params: Readonly<{ server: QueueServer; store: ObjectStore; model: string; run: string; closer: Closer }>,
): Promise<() => Promise<Answer>> {
  const { server, store, model, run, closer } = params;
  await server.check({ allowVolatile: true });
  // Prints nothing, but disconnects from a server that another has replaced.
  closer.add(server.watch());
  const id = await findStoreId(store);
  // A store without an identity has no queue yet.
  if (id === null) return async () => UNASKED;
  const ofModel = server.ofStore(id).ofModel(model);
  const queue = closer.add(ofModel.shards());
  const workers = closer.add(ofModel.workers());
  const producers = closer.add(ofModel.producers());
  const ask = async (): Promise<Answer> => ({
    ...(await countJobs(queue, run)),
    workers: await readWorkers(workers),
    producers: await producers.present(),
    planningWaits: await readPlanningWaits(producers),
  });
  // A request to an absent Redis waits until it is back, so one pending request is enough.
  let asked: Promise<Answer> | null = null;
  return () => {
    asked ??= ask().finally(() => (asked = null));
    return Promise.race([asked, sleep(ANSWER_TIMEOUT_MS, { ...UNASKED, isRedisAway: true }, { ref: false })]);
  };
}

/** Counts jobs without changing anything: damaged keys are reported, and the queue's other users repair them. */
async function countJobs(
  queue: ShardQueue,
  run: string,
): Promise<Pick<Answer, "counts" | "failedJobs" | "failures" | "queueDamage">> {
  try {
    const counts = await queue.counts();
    const failures = counts.failed === 0 ? [] : await queue.failures({ run, limit: COUNTED_FAILURES });
    return { counts, failedJobs: failures.length, failures };
  } catch (error) {
    if (!hasCode(error, "redis_unsuitable")) throw error;
    return { counts: null, failedJobs: 0, queueDamage: messageOf(error) };
  }
}

/** Redraws until the run is over or the reader interrupts. @returns The last status. */
async function watch(look: () => Promise<RunStatus>): Promise<RunStatus> {
  const screen = new Screen(process.stdout);
  const interrupted = new AbortController();
  const interrupt = (): void => interrupted.abort();
  process.once("SIGINT", interrupt).once("SIGTERM", interrupt);
  try {
    for (;;) {
      const startedMs = performance.now();
      const seen = await look();
      const isOver = seen.state === "sealed" || seen.state === "cancelled";
      if (isOver || interrupted.signal.aborted) return seen;
      screen.draw(statusLines(seen, { columns: screen.columns }));
      const tookMs = performance.now() - startedMs;
      const pauseMs = Math.max(REFRESH_INTERVAL_MS, tookMs * (1 / LOOK_SHARE - 1));
      await sleep(pauseMs, undefined, { signal: interrupted.signal }).catch(() => {});
    }
  } finally {
    screen.clear();
    process.removeListener("SIGINT", interrupt).removeListener("SIGTERM", interrupt);
  }
}

/** A run in the store that cannot be read; it does not affect the others. */
interface DamagedRun {
  readonly run: string;
  readonly state: "damaged";
  readonly problem: string;
}

async function printRuns(store: ObjectStore, json: boolean): Promise<void> {
  const reports: (RunReport | DamagedRun)[] = [];
  for (const run of await listRuns(store)) reports.push(await readOrSay(store, run));
  if (json) return printJson(reports);
  for (const schedule of await new ScheduleService({ store, queue: null }).list()) printLine(scheduleLine(schedule));
  if (reports.length === 0) printLine(`no runs in ${store.url}`);
  for (const report of reports) printLine(runLine(report));
}

async function readOrSay(store: ObjectStore, run: string): Promise<RunReport | DamagedRun> {
  try {
    const report = await readProgress({ store, run, queue: null });
    if (report.run === run) return report;
    return { run, state: "damaged", problem: `its record names another run, ${report.run}` };
  } catch (error) {
    if (isPassing(error)) throw error;
    return { run, state: "damaged", problem: messageOf(error) };
  }
}

function runLine(report: RunReport | DamagedRun): string {
  const name = `${report.run.padEnd(28)} ${report.state.padEnd(10)}`;
  if (report.state === "damaged") return `${name} ${report.problem}`;
  const { rows, plannedRows, rejects } = report;
  return `${name} ${count(rows)} of ${count(plannedRows)} rows, ${count(rejects)} rejected`;
}
