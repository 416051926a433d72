/** A run's record: created once, and from then on what the run id stands for. */
import { isDeepStrictEqual } from "node:util";
import { CONTRACT_VERSION, type RunOptions, type RunRecord, runRecordSchema } from "../core/contracts.ts";
import { FleetError, hasCode } from "../core/errors.ts";
import { readRecord, toJsonBytes } from "../core/json.ts";
import { runKeys } from "../core/layout.ts";
import type { ObjectStore } from "../core/ports.ts";

/**
 * Creates the run, or continues the one that is there.
 * @throws FleetError `run_conflict` when the id stands for other options.
 */
export async function openRun(
  store: ObjectStore,
  params: Readonly<{ run: string; inputs: readonly string[]; options: RunOptions }>,
): Promise<{ record: RunRecord; isNew: boolean }> {
  const key = runKeys(params.run).record;
  const wanted: RunRecord = runRecordSchema.parse({
    version: CONTRACT_VERSION,
    run: params.run,
    createdAt: new Date().toISOString(),
    inputs: [...params.inputs],
    options: params.options,
  });
  const isNew = (await store.create({ key, body: toJsonBytes(wanted) })) === "created";
  if (isNew) return { record: wanted, isNew };
  const record = await readRecord(store, key, runRecordSchema);
  assertSameOptions(record, wanted);
  return { record, isNew };
}

/** @throws FleetError `run_unknown` */
export async function readRun(store: ObjectStore, run: string): Promise<RunRecord> {
  try {
    return await readRecord(store, runKeys(run).record, runRecordSchema);
  } catch (error) {
    if (!hasCode(error, "object_missing")) throw error;
    throw new FleetError("run_unknown", `there is no run ${JSON.stringify(run)} in ${store.url}`, {
      cure: "check the run id and --out; `embedfleet status --out URL` lists the runs of a store",
      cause: error,
    });
  }
}

function assertSameOptions(found: RunRecord, wanted: RunRecord): void {
  const keys = Object.keys(wanted.options) as (keyof RunOptions)[];
  const differing = keys.filter((key) => !isDeepStrictEqual(found.options[key], wanted.options[key]));
  if (differing.length === 0) return;
  const changes = differing.map(
    (key) => `${key} is ${JSON.stringify(found.options[key])} there and ${JSON.stringify(wanted.options[key])} here`,
  );
  throw new FleetError("run_conflict", `run ${found.run} exists with other options: ${changes.join("; ")}`, {
    cure: "use the same options to continue it, or another --run id for a new run",
  });
}
