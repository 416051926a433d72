/** Held runs: complete or not, they are not sealed until a person accepts them. */
import {
  acceptedRecordSchema,
  type AcceptedRecord,
  type ClosedRecord,
  CONTRACT_VERSION,
  type RunRecord,
} from "../core/contracts.ts";
import { FleetError, isPassing } from "../core/errors.ts";
import { type Hold, holdOf, sayHold } from "../core/guards.ts";
import { toJsonBytes } from "../core/json.ts";
import { runKeys } from "../core/layout.ts";
import type { ObjectStore } from "../core/ports.ts";
import { assertNotCancelled } from "./cancelled.ts";
import { readWindowRejects } from "./read-lists.ts";
import { readClosed, readRun } from "./read-plan.ts";

/** The reason why a run is held; null when it is within its guards or was accepted. */
export async function findHold(
  store: ObjectStore,
  params: Readonly<{ record: RunRecord; closed: ClosedRecord }>,
): Promise<Hold | null> {
  const hold = holdOf(params.record, params.closed);
  if (hold === null || (await isAccepted(store, params.record.run))) return null;
  return hold;
}

async function isAccepted(store: ObjectStore, run: string): Promise<boolean> {
  return (await store.stat({ key: runKeys(run).accepted })) !== null;
}

/**
 * Accepts a held run, so that it can be sealed; does not seal it. Idempotent.
 *
 * @returns The reason why the run was held; null when it was not.
 * @throws FleetError `run_unknown`, `run_cancelled`; `run_incomplete` while its corpus is being read
 */
export async function acceptRun(store: ObjectStore, run: string): Promise<Hold | null> {
  const record = await readRun(store, run);
  await assertNotCancelled(store, run);
  const closed = await readClosed(store, run);
  if (closed === null)
    throw new FleetError("run_incomplete", `run ${run} cannot be accepted: its corpus has not been read to the end`, {
      cure: `repeat the enqueue command with --run ${run} first`,
    });
  const hold = await findHold(store, { record, closed });
  if (hold === null) return null;
  const accepted: AcceptedRecord = acceptedRecordSchema.parse({
    version: CONTRACT_VERSION,
    run,
    acceptedAt: new Date().toISOString(),
  });
  await store.create({ key: runKeys(run).accepted, body: toJsonBytes(accepted) });
  return hold;
}

/** One sentence on why a run is held and how to accept it; null when it is not held, or is damaged and shown as such. */
export async function whyHeld(store: ObjectStore, run: string): Promise<string | null> {
  try {
    const closed = await readClosed(store, run);
    const hold = closed === null ? null : await findHold(store, { record: await readRun(store, run), closed });
    return hold === null ? null : `${sayHold(hold)}; \`embedfleet seal ${run} --accept\` seals it anyway`;
  } catch (error) {
    if (isPassing(error)) throw error;
    return null;
  }
}

/** Most kinds of rejects that a message names. */
const NAMED_REASONS = 5;

/** The fault of a held run, for commands: the reason, an example of each kind of reject, and how to accept it. */
export async function heldFault(
  store: ObjectStore,
  params: Readonly<{ hold: Hold; closed: ClosedRecord }>,
): Promise<FleetError> {
  const { hold, closed } = params;
  const { run } = closed;
  const reasons = closed.rejects > 0 ? await countRejects(store, closed) : [];
  const named = reasons
    .slice(0, NAMED_REASONS)
    .map(({ reason, count, example }) => `${count} ${reason}, for example ${example}`);
  const lines = [`run ${run} is held and not sealed: ${sayHold(hold)}`, ...named];
  const flag = hold.guard === "maxRejects" ? "--max-rejects" : "--max-deletes";
  return new FleetError("run_held", lines.join("\n  "), {
    cure:
      `if that is right: embedfleet seal ${run} --accept --out ${store.url}\n` +
      `if not: fix the corpus or the field options, cancel this run, and start another; ${flag} sets the limit`,
  });
}

interface RejectKind {
  readonly reason: string;
  readonly count: number;
  /** Position and problem of the first one. */
  readonly example: string;
}

/** The producer's rejects by reason, the most frequent first. */
async function countRejects(store: ObjectStore, closed: ClosedRecord): Promise<RejectKind[]> {
  const kinds = new Map<string, { count: number; example: string }>();
  for await (const rejects of readWindowRejects(store, closed.run, closed)) {
    for (const { reason, detail, file, line } of rejects) {
      const kind = kinds.get(reason);
      if (kind !== undefined) kind.count++;
      else kinds.set(reason, { count: 1, example: `${file}${line === undefined ? "" : `:${line}`}: ${detail}` });
    }
  }
  return Array.from(kinds, ([reason, kind]) => ({ reason, ...kind })).toSorted((a, b) => b.count - a.count);
}
