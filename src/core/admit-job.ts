/** Validation of queued jobs before a worker takes them; others can write to the queue. */
import { type JobPayload, jobPayloadSchema } from "./contracts.ts";
import { messageOf } from "./errors.ts";
import { assertContractKnown } from "./json.ts";
import { jobId } from "./layout.ts";

const SHOWN_CHARS = 500;

/**
 * @param id The job's id in the queue.
 * @returns The payload, or the reason why the job is refused.
 */
export function admitJob(id: string, data: unknown): JobPayload | string {
  const parsed = jobPayloadSchema.safeParse(data);
  if (!parsed.success) return `the payload is not a valid job: ${messageOf(parsed.error).slice(0, SHOWN_CHARS)}`;
  const { run, shard } = parsed.data;
  return id === jobId(run, shard) ? parsed.data : `the payload belongs to job ${jobId(run, shard)}`;
}

/** @throws FleetError `contract_newer` for a job that a newer version queued. */
export function assertJobKnown(id: string, data: unknown): void {
  assertContractKnown((data as { v?: unknown } | null)?.v, `the payload of job ${id}`);
}
