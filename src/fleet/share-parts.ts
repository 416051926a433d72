/** Shares one corpus between several machines: one makes the plan, and all of them read and tokenise its parts. */
import type { Logger } from "pino";
import type { Chunker } from "../../producers/chunking/chunker.ts";
import { makePart, type PartTools } from "../../producers/parts/make-part.ts";
import type { ReadItem } from "../../producers/parts/read-parts.ts";
import { SHARED_CUT, SharedReader } from "../../producers/parts/shared-reader.ts";
import { Buckets } from "../../producers/sources/buckets.ts";
import type { Corpus } from "../../producers/corpus.ts";
import { placeOpener } from "../../producers/parts/parts.ts";
import type { RunRecord } from "../core/contracts.ts";
import type { PartJob, PartQueue } from "../core/ingest.ts";
import { FleetError } from "../core/errors.ts";
import { runKeys } from "../core/layout.ts";
import type { ObjectStore } from "../core/ports.ts";
import type { StoreQueues } from "../core/queue-server.ts";
import type { Observe } from "../core/telemetry.ts";
import { readClosed } from "../run/read-plan.ts";
import type { Closer } from "./open-ports.ts";
import { programVersion } from "./program-version.ts";
import type { StoreSettings } from "./settings.ts";

/** Parts in progress per machine: while the last batches of one are cut, the first of the next are. */
const PARTS_AT_ONCE = 2;

export interface SharedParams {
  readonly settings: Readonly<{ lockSeconds: number; distributed?: boolean; inputsBelow?: readonly string[] }> &
    Pick<StoreSettings, "s3Endpoint" | "s3Region">;
  readonly queues: StoreQueues;
  readonly store: ObjectStore;
  readonly record: RunRecord;
  readonly chunker: Chunker;
  readonly closer: Closer;
  readonly log: Logger;
  readonly observe: Observe;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Offers the parts of a corpus to helpers, and takes some as well.
 *
 * @returns The documents, each with its chunks, in order; null when nothing is left to share.
 */
export async function shareParts(
  params: SharedParams & Readonly<{ corpus: Corpus }>,
): Promise<{ items: AsyncIterable<ReadItem>; finish: () => Promise<void> } | null> {
  const { settings, store, record, corpus, log, signal } = params;
  const { run } = record;
  // A complete plan is only compared with the corpus, which needs no tokens.
  if (settings.distributed !== true || (await readClosed(store, run)) !== null) return null;
  const { queue } = await takeParts(params);
  log.info({ run }, `others may help with: embedfleet produce ${run}`);
  const reader = new SharedReader({ store, queue, run, signal });
  const finish = async (): Promise<void> => {
    await queue.drop();
    for await (const { key } of store.list({ prefix: runKeys(run).partsPrefix })) await store.remove({ key });
  };
  return { items: corpus.items(reader, SHARED_CUT), finish };
}

/**
 * Makes parts until `closer` ends it.
 *
 * @returns `made`: the number of parts so far.
 * @throws FleetError `run_conflict` when the run was started with another version of embedfleet
 */
export async function takeParts(params: SharedParams): Promise<{ queue: PartQueue; made: () => number }> {
  const { settings, queues, store, record, chunker, closer, log, observe } = params;
  assertSameProgram(record);
  const { lockSeconds, s3Endpoint: endpoint, s3Region: region, inputsBelow } = settings;
  const buckets = closer.add(new Buckets({ endpoint, region }));
  const tools: PartTools = {
    store,
    record,
    chunker,
    open: placeOpener((name) => buckets.get(name), inputsBelow),
    observe,
  };
  const queue = closer.add(queues.parts({ run: record.run, lockDurationMs: lockSeconds * 1000 }));
  let made = 0;
  const make = async (job: PartJob, stopping: AbortSignal): Promise<void> => {
    log.debug({ part: job.part }, "a part was started");
    await makePart(job, tools, stopping);
    made++;
    log.debug({ part: job.part }, "a part is made");
  };
  await queue.work({ atOnce: PARTS_AT_ONCE, make });
  return { queue, made: () => made };
}

/** Requires the same version: another may cut differently, and the plan would depend on who made which part. */
function assertSameProgram({ run, program = "an earlier version" }: RunRecord): void {
  const own = programVersion();
  if (program === own) return;
  throw new FleetError("run_conflict", `run ${run} was started with embedfleet ${program}, but this is ${own}`, {
    cure: "use the same version on all machines that share its corpus, or continue the run without --distributed",
  });
}
