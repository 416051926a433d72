/**
 * What becomes of a job and of its worker after a fault. One question decides: whose is it? What another worker could
 * do goes back to the queue; only what none could do fails.
 */
import { type ErrorCode, FleetError, messageOf } from "../src/core/errors.ts";

/**
 * - `end`: the fault is this worker's own. The job goes back at once, and the worker ends: it would spoil the next one.
 * - `wait`: a server is away. The job goes back for a while, as often as it takes.
 * - `retry`: it may be the job's or this worker's. The job goes back a few times and then fails.
 * - `fail`: no worker can do the job.
 */
export type Verdict = "end" | "wait" | "retry" | "fail";

interface Rule {
  readonly job: Verdict;
  /** Whether a worker that ended with it may do better when it is started again as it was. */
  readonly restart: boolean;
}

const OWN: Rule = { job: "end", restart: false };
const OWN_FOR_NOW: Rule = { job: "end", restart: true };
const PASSING: Rule = { job: "wait", restart: true };
const UNCLEAR: Rule = { job: "retry", restart: true };
const HOPELESS: Rule = { job: "fail", restart: true };

const RULES: Readonly<Record<ErrorCode, Rule>> = {
  // Wrong store, model, options or program, or a machine that lacks something: for people to mend.
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
  // A machine that is too small now, or a device that hangs.
  device_memory: OWN_FOR_NOW,
  inference_hung: OWN_FOR_NOW,
  // Servers that will be back.
  store_unavailable: PASSING,
  redis_unavailable: PASSING,
  // The plan or the staged bytes are wrong, or the run is nobody's: the same everywhere.
  job_invalid: HOPELESS,
  plan_invalid: HOPELESS,
  object_missing: HOPELESS,
  object_corrupt: HOPELESS,
  run_cancelled: HOPELESS,
  // A device's fault, or the rows'.
  inference_failed: UNCLEAR,
  inference_crashed: UNCLEAR,
  // How a worker ends that leaves runs unsealed; they say what is missing.
  run_incomplete: { job: "retry", restart: false },
  // No worker meets these over a job.
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

/** What is no `FleetError` is unclear, unless it says that memory has run out. */
export function verdictOf(error: unknown): Verdict {
  return ruleOf(error).job;
}

/** Whether a worker that ended with this may be started again as it was; false when it would only end again. */
export function mayRestart(error: unknown): boolean {
  return ruleOf(error).restart;
}

function ruleOf(error: unknown): Rule {
  if (error instanceof FleetError) return RULES[error.code] ?? UNCLEAR;
  return isOutOfMemory(error) ? RULES.device_memory : UNCLEAR;
}

/** What Node.js throws for memory that the system does not give. */
function isOutOfMemory(error: unknown): boolean {
  if ((error as { code?: unknown } | null)?.code === "ENOMEM") return true;
  return error instanceof RangeError && /allocation failed|out of memory/i.test(messageOf(error));
}

/** Attempts at a job whose fault is unclear, the last one included. */
export const MAX_FAULTS = 5;
const FIRST_RETRY_MS = 500;
/** Of a store that is away: short enough to go on soon when it is back. */
const MAX_RETRY_MS = 30_000;

/** @param times How often it was tried. @returns Doubling from half a second up to half a minute. */
export function retryAfterMs(times: number): number {
  return Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(times - 1, 16));
}
