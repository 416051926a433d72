/** Converts a part of a corpus to a job that names it, and back. */
import { createHash } from "node:crypto";
import { CONTRACT_VERSION, type RunRecord } from "../../src/core/contracts.ts";
import { FleetError, hasCode } from "../../src/core/errors.ts";
import { type PartJob, partId, type PartRecord, partRecordSchema } from "../../src/core/ingest.ts";
import { parseRecord } from "../../src/core/json.ts";
import { runKeys } from "../../src/core/layout.ts";
import type { ObjectStore } from "../../src/core/ports.ts";
import { namedBy, shownPlace } from "../sources/named.ts";
import type { CorpusPart } from "./sections.ts";

/** Limit on a part's record, for a thousand of the longest names and paths. */
const MAX_RECORD_BYTES = 32 * 1024 * 1024;

/** A part that is offered to other processes. */
export interface OfferedPart {
  readonly job: PartJob;
  /** The part's name in messages. */
  readonly name: string;
  /** Bytes of the part's record, which must be in the store before the job is in the queue. */
  readonly record: Uint8Array;
}

/** @param index The part's position in the corpus. */
export function offerOf(part: CorpusPart, run: string, index: number): OfferedPart {
  const content = { version: CONTRACT_VERSION, run, index, what: part };
  const record = Buffer.from(JSON.stringify(content));
  return { job: { v: CONTRACT_VERSION, run, part: idOf(index, record) }, name: part.name, record };
}

/**
 * The part that the lead has recorded under the job's name. A job comes from a queue that others can write to, but it
 * can only name an existing part or none: a part's content, and what is made of it, is bound to that name.
 *
 * @throws FleetError `job_invalid` for a part that was not offered or is not of the run's corpus, `object_corrupt`
 */
export async function partOf(
  { part }: PartJob,
  params: Readonly<{ store: ObjectStore; record: RunRecord }>,
): Promise<CorpusPart> {
  const { store, record } = params;
  const { run } = record;
  const key = runKeys(run).partRecord(part);
  const bytes = await store.read({ key, maxBytes: MAX_RECORD_BYTES }).catch((error: unknown) => {
    if (!hasCode(error, "object_missing")) throw error;
    throw new FleetError("job_invalid", `no part ${part} was offered of the corpus of run ${run}`, {
      cure: "the job is forged or outdated; nothing was read",
    });
  });
  const found = parseRecord(bytes, { schema: partRecordSchema, name: `${store.url}/${key}` });
  if (found.run !== run || idOf(found.index, bytes) !== part)
    throw new FleetError("object_corrupt", `${store.url}/${key} does not match the name of part ${part}`, {
      cure: "remove the object, and run enqueue again with the same --run id",
    });
  assertOfCorpus(found, record);
  return found.what;
}

function idOf(index: number, record: Uint8Array): string {
  return partId(index, createHash("sha256").update(record).digest("hex"));
}

function assertOfCorpus({ what }: PartRecord, { run, inputs, options }: RunRecord): void {
  const objects = "objects" in what ? what.objects : [what];
  const isNamed = namedBy(inputs, options.format);
  const stranger = objects.find(({ place }) => !isNamed(place));
  if (stranger === undefined) return;
  throw new FleetError("job_invalid", `the corpus of run ${run} has no ${shownPlace(stranger.place)}`, {
    cure: "the part is forged or from another version of embedfleet; nothing was read",
  });
}
