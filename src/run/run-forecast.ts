/** Forecast of a run, and what it waits for. Reports "unknown" instead of a guess. */
import { COUNTED_FAILURES, type FailureGroup, groupFailures } from "../core/failures.ts";
import type { JobFailure } from "../core/ports.ts";
import type { WorkerState } from "../core/worker-state.ts";
import type { RunReport } from "./run-progress.ts";

/** Live processes of the fleet. A null member means that it could not be read. */
export interface FleetPresence {
  readonly workers: readonly WorkerState[] | null;
  /** Whether a Redis is configured and does not answer. */
  readonly isRedisAway?: boolean;
  /** Runs whose corpus is being read now. */
  readonly producers: readonly string[] | null;
  /** Reasons for which planning waits, by run. */
  readonly planningWaits?: ReadonlyMap<string, string>;
  /** Number of failed jobs of this run, as far as they were counted. */
  readonly failedJobs: number;
  /** The failed jobs, if they were read. */
  readonly failures?: readonly JobFailure[];
  /** URL of the run's store, for the commands to type. */
  readonly storeUrl?: string;
  /** Why the queue's own keys in Redis could not be read, if they are damaged. */
  readonly queueDamage?: string;
}

export interface RunForecast {
  /** Number of failed jobs of this run, up to `COUNTED_FAILURES`; null when the queue was not read. */
  readonly failedJobs: number | null;
  /** The reasons of the failed jobs, the most frequent first, each with one example. */
  readonly failures: readonly FailureGroup[];
  /** The command to type once the cause of the failures is fixed; null when no job has failed. */
  readonly nextCommand: string | null;
  /** Tokens a second that workers compute for this run now; null when no worker can be asked. */
  readonly tokensPerSecondNow: number | null;
  readonly remainingTokens: number;
  /** Remaining tokens divided by the current rate; null when unknown, and `etaUnknownBecause` gives the reason. */
  readonly etaSeconds: number | null;
  readonly etaUnknownBecause: string | null;
  /** Why nothing moves, or the next step; null when the run makes progress or is done. */
  readonly waitsFor: string | null;
}

/** Maximum number of reasons of failures in a forecast. */
const SHOWN_REASONS = 20;

export function forecastOf(report: RunReport, presence: FleetPresence): RunForecast {
  const remainingTokens = Math.max(0, report.plannedTokens - report.realTokens);
  const rate = rateOf(report.run, presence.workers);
  const isOver = report.state === "sealed" || report.state === "cancelled";
  const why = isOver ? null : whyUnknown(report, presence, rate);
  const knows = !isOver && why === null;
  const { failedJobs, failures = [] } = presence;
  const hasFailures = !isOver && failedJobs > 0;
  return {
    failedJobs: isOver ? 0 : report.queue === null ? null : failedJobs,
    failures: isOver ? [] : groupFailures(failures).slice(0, SHOWN_REASONS),
    nextCommand: hasFailures ? resumeCommand(report.run, presence.storeUrl) : null,
    tokensPerSecondNow: rate,
    remainingTokens: isOver ? 0 : remainingTokens,
    etaSeconds: knows ? Math.round(remainingTokens / Math.max(rate ?? 0, 1e-9)) : null,
    etaUnknownBecause: why,
    waitsFor: isOver ? null : whatItWaitsFor(report, presence, rate),
  };
}

function rateOf(run: string, workers: readonly WorkerState[] | null): number | null {
  if (workers === null) return null;
  const rates = workers.flatMap((worker) => worker.runs.filter((of) => of.run === run));
  return Math.round(rates.reduce((sum, { tokensPerSecond }) => sum + tokensPerSecond, 0));
}

function whyUnknown(report: RunReport, presence: FleetPresence, rate: number | null): string | null {
  const { workers, isRedisAway = false } = presence;
  if (report.state === "complete") return "it only has to be sealed";
  if (report.state === "held") return "a person has to accept it";
  if (hasOnlyFailed(report, presence)) return "its remaining jobs have failed";
  if (workers === null)
    return `${isRedisAway ? "Redis does not answer" : "no Redis was named"}, so the workers cannot be asked`;
  if (workers.length === 0) return "no worker is active";
  if (report.state === "planning") return "its corpus is still being read";
  if ((rate ?? 0) === 0) return "no worker has computed a batch of it in the last minute";
  return null;
}

function whatItWaitsFor(report: RunReport, presence: FleetPresence, rate: number | null): string | null {
  const { workers, producers } = presence;
  const { state, queue, plannedShards, shards } = report;
  if (state === "held")
    return `a person: ${report.held ?? "it is held"}; \`embedfleet seal ${report.run} --accept\` seals it anyway`;
  if (state === "complete") return "the seal: every planned shard is done, and the next reconciliation seals it";
  if (hasOnlyFailed(report, presence))
    return `a person: its remaining jobs have failed; fix the cause, then \`${resumeCommand(report.run, presence.storeUrl)}\``;
  if (state === "planning" && producers !== null && !producers.includes(report.run))
    return "its producer: its corpus was not read to the end; the same enqueue command continues it";
  const room = presence.planningWaits?.get(report.run);
  if (room !== undefined) return `room in the queue: ${room}`;
  if (workers?.length === 0) return "a worker: none is active; start one with `embedfleet work`";
  if (presence.queueDamage !== undefined)
    return `a repair of its queue in Redis (${presence.queueDamage}): workers make it at their next reconciliation, \`embedfleet resume ${report.run}\` at once`;
  const away = storeTroubleOf(workers, rate);
  if (away !== null)
    return `the store since ${away.since}: ${away.reason}; its jobs are retried until the store recovers`;
  if (queue === null) return null;
  const undone = plannedShards - shards;
  if (undone > presence.failedJobs && queue.waiting + queue.active === 0)
    return "the next reconciliation: the queue has lost its jobs, and they are queued again";
  if (state === "planning" && undone === 0) return "its producer: everything planned so far is done";
  return rate === 0 && queue.waiting > 0 ? "its turn: the workers have not reached its jobs yet" : null;
}

/**
 * Whether every planned shard that has no file has failed, so that no worker can help. Failed jobs are counted up to a
 * limit; beyond it, an empty queue that has enough of them decides.
 */
function hasOnlyFailed({ queue, plannedShards, shards }: RunReport, { failedJobs }: FleetPresence): boolean {
  const undone = plannedShards - shards;
  if (undone === 0 || queue === null || failedJobs === 0) return false;
  const isEmpty = queue.waiting + queue.active === 0;
  return failedJobs >= undone || (failedJobs >= COUNTED_FAILURES && isEmpty && queue.failed >= undone);
}

function resumeCommand(run: string, storeUrl: string | undefined): string {
  return `embedfleet resume ${run}${storeUrl === undefined ? "" : ` --out ${storeUrl}`}`;
}

/** Store trouble as reported by the workers, since the earliest; null while another worker computes for this run. */
function storeTroubleOf(
  workers: readonly WorkerState[] | null,
  rate: number | null,
): NonNullable<WorkerState["storeTrouble"]> | null {
  const troubles = (workers ?? []).flatMap(({ storeTrouble }) => storeTrouble ?? []);
  if (troubles.length === 0 || ((rate ?? 0) > 0 && troubles.length < (workers ?? []).length)) return null;
  return troubles.reduce((first, trouble) => (trouble.since < first.since ? trouble : first));
}
