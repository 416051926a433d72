/**
 * The consequences of a fault for a job and its worker, by whose fault it is. A job that another worker could
 * do returns to the queue; one that no worker could do fails.
 */
import { type ErrorCode, FleetError, messageOf } from "../src/core/errors.ts";

/**
 * - `end`: the fault is this worker's own. The job returns at once, and the worker ends: it would fail the next one.
 * - `wait`: a server is unavailable. The job returns after a delay, without a limit.
 * - `retry`: the fault may be the job's or this worker's. The job returns a few times and then fails.
 * - `fail`: no worker can do the job.
 */
export type Verdict = "end" | "wait" | "retry" | "fail";

interface Rule {
  readonly job: Verdict;
  /** Whether a restarted worker with the same settings may succeed. */
  readonly restart: boolean;
}

const OWN: Rule = { job: "end", restart: false };
const OWN_FOR_NOW: Rule = { job: "end", restart: true };
const PASSING: Rule = { job: "wait", restart: true };
const UNCLEAR: Rule = { job: "retry", restart: true };
const HOPELESS: Rule = { job: "fail", restart: true };

const RULES: Readonly<Record<ErrorCode, Rule>> = {
  // A wrong store, model, option or program, or a deficient machine: people must fix it.
  bad_usage: OWN,
  run_unknown: OWN,
  worker_unfit: OWN,
  contract_newer: OWN,
  store_refused: OWN,
  addon_missing: OWN,
  redis_unsuitable: OWN,
  model_unknown: OWN,
  model_invalid: OWN,
  model_unavailable: OWN,
  // A machine that is too small now, or a hung device.
  device_memory: OWN_FOR_NOW,
  inference_hung: OWN_FOR_NOW,
  // Servers that will be available again.
  store_unavailable: PASSING,
  redis_unavailable: PASSING,
  // The plan or the staged bytes are invalid, or the run does not exist: the same for every worker.
  job_invalid: HOPELESS,
  plan_invalid: HOPELESS,
  object_missing: HOPELESS,
  object_corrupt: HOPELESS,
  run_cancelled: HOPELESS,
  // A fault of the device or the rows.
  inference_failed: UNCLEAR,
  inference_crashed: UNCLEAR,
  // Errors of a worker that leaves runs unsealed; they state what is missing.
  run_incomplete: { job: "retry", restart: false },
  // Not raised by a worker's jobs.
  run_held: UNCLEAR,
  run_conflict: UNCLEAR,
  source_unreadable: UNCLEAR,
  source_missing: UNCLEAR,
  source_changed: UNCLEAR,
  source_refused: UNCLEAR,
  too_many_rejects: UNCLEAR,
  schedule_conflict: UNCLEAR,
  schedule_unknown: UNCLEAR,
  schedule_refused: UNCLEAR,
  webhook_failed: UNCLEAR,
  index_conflict: UNCLEAR,
  worker_failed: UNCLEAR,
  producer_failed: UNCLEAR,
};

/** An error that is not a `FleetError` is unclear, unless it reports exhausted memory. */
export function verdictOf(error: unknown): Verdict {
  return ruleOf(error).job;
}

/** Whether a worker that ended with this error may be restarted; false when it would only end again. */
export function mayRestart(error: unknown): boolean {
  return ruleOf(error).restart;
}

function ruleOf(error: unknown): Rule {
  if (error instanceof FleetError) return RULES[error.code] ?? UNCLEAR;
  return isOutOfMemory(error) ? RULES.device_memory : UNCLEAR;
}

/** Whether Node.js reports that the system denied memory. */
function isOutOfMemory(error: unknown): boolean {
  if ((error as { code?: unknown } | null)?.code === "ENOMEM") return true;
  return error instanceof RangeError && /allocation failed|out of memory/i.test(messageOf(error));
}

/** Maximum number of attempts at a job whose fault is unclear. */
export const MAX_FAULTS = 5;
const FIRST_RETRY_MS = 500;
/** Maximum delay of a retry: short enough to continue soon after an outage. */
const MAX_RETRY_MS = 30_000;

/** @param times Number of attempts so far. @returns Delay, doubling from half a second up to half a minute. */
export function retryAfterMs(times: number): number {
  return Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(times - 1, 16));
}
