/** Faults with codes. An expected outcome is a union in a return type; a fault is a `FleetError`. */
import { ZodError } from "zod";

/** Kinds of faults. */
export type ErrorCode =
  | "bad_usage"
  | "source_unreadable"
  | "source_missing"
  | "source_changed"
  | "source_refused"
  | "too_many_rejects"
  | "run_conflict"
  | "run_unknown"
  | "run_incomplete"
  | "run_cancelled"
  | "run_held"
  | "plan_invalid"
  | "schedule_conflict"
  | "schedule_unknown"
  | "schedule_refused"
  | "webhook_failed"
  | "job_invalid"
  | "worker_unfit"
  | "contract_newer"
  | "object_missing"
  | "object_corrupt"
  | "store_unavailable"
  | "store_refused"
  | "addon_missing"
  | "index_conflict"
  | "redis_unavailable"
  | "redis_unsuitable"
  | "model_unknown"
  | "model_invalid"
  | "model_unavailable"
  | "inference_failed"
  | "device_memory"
  | "inference_crashed"
  | "inference_hung"
  | "worker_failed"
  | "producer_failed";

/** Further fields of a fault. */
export interface FleetErrorOptions {
  /** What the reader can do about it, in one sentence. */
  readonly cure?: string;
  readonly cause?: unknown;
}

/** A fault: what failed, where, why, and how to fix it. */
export class FleetError extends Error {
  readonly code: ErrorCode;
  readonly cure: string | undefined;

  /** @param message What failed, where and why, with the ids and numbers that matter. */
  constructor(code: ErrorCode, message: string, options: FleetErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "FleetError";
    this.code = code;
    this.cure = options.cure;
  }
}

/** A fault as plain data, for other threads and machines; its cause is left out. */
export interface FaultFields {
  readonly code: string;
  readonly message: string;
  readonly cure: string | null;
}

export function toFaultFields({ code, message, cure }: FleetError): FaultFields {
  return { code, message, cure: cure ?? null };
}

/** The error itself, or one with this code for an error that has none. */
export function asFleetError(error: unknown, code: ErrorCode): FleetError {
  return error instanceof FleetError ? error : new FleetError(code, messageOf(error), { cause: error });
}

export function fromFaultFields({ code, message, cure }: FaultFields): FleetError {
  return new FleetError(code as ErrorCode, message, cure === null ? {} : { cure });
}

export function hasCode(error: unknown, code: ErrorCode): error is FleetError {
  return error instanceof FleetError && error.code === code;
}

/** Whether the store or Redis is temporarily unreachable, so that the request itself is not at fault. */
export function isPassing(error: unknown): boolean {
  return hasCode(error, "store_unavailable") || hasCode(error, "redis_unavailable");
}

/** Message of the outermost error of a chain, for embedding in another message. */
export function messageOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return messageOf(error.errors[0]);
  if (error instanceof ZodError) return issuesOf(error);
  if (error instanceof Error) return error.message || error.name;
  return String(error);
}

const SHOWN_ISSUES = 3;

/** Mismatches with a schema, in one line; zod's own message is a page of JSON. */
function issuesOf({ issues }: ZodError): string {
  const shown = issues.slice(0, SHOWN_ISSUES).map(({ path, message }) => {
    const where = path.map(String).join(".");
    return where === "" ? message : `${where}: ${message}`;
  });
  return [...shown, ...(issues.length > SHOWN_ISSUES ? [`and ${issues.length - SHOWN_ISSUES} more`] : [])].join("; ");
}
