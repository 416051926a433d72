/** A run's record: created once; from then on it defines the run id. */
import { isDeepStrictEqual } from "node:util";
import { type Guards, PLAN_VERSION, type RunOptions, type RunRecord, runRecordSchema } from "../core/contracts.ts";
import { FleetError } from "../core/errors.ts";
import { findRecord, readRecord, toJsonBytes } from "../core/json.ts";
import { removedKey, runKeys } from "../core/layout.ts";
import type { ObjectStore } from "../core/ports.ts";
import { knownTo } from "../core/same-model.ts";
import { resolveSince } from "./since.ts";

/**
 * Creates the run, or continues an existing one.
 *
 * @param params.since The run to build on, or `latest`; a full run when absent. It is resolved once: a continued run keeps
 * its base.
 * @param params.guards Guards of a new run; an existing run keeps its own, and a later `enqueue` with wider ones accepts it.
 * @param params.program Version of embedfleet that makes the call.
 * @param params.engineVersion Version of the engine that `options` names.
 * @throws FleetError `run_conflict` when the id belongs to a run with other options; the errors of `resolveSince`.
 */
export async function openRun(
  store: ObjectStore,
  params: Readonly<{
    run: string;
    inputs: readonly string[];
    options: RunOptions;
    since?: string | undefined;
    program?: string;
    engineVersion?: string;
    guards?: Guards;
  }>,
): Promise<{ record: RunRecord; isNew: boolean }> {
  const { run, inputs, options, since, program, engineVersion, guards } = params;
  const key = runKeys(run).record;
  const found = since === undefined ? null : await findRecord(store, key, runRecordSchema);
  if (found !== null) return { record: assertSame(found, params), isNew: false };
  await assertNotRemoved(store, run);
  const lineage = since === undefined ? undefined : await resolveSince(store, { since, options });
  const wanted = runRecordSchema.parse({
    version: PLAN_VERSION,
    run,
    createdAt: new Date().toISOString(),
    // Helpers compare their inputs with these.
    inputs: inputs.map((input) => input.replace(/^s3:\/\//i, "s3://")),
    ...(program !== undefined && { program }),
    ...(engineVersion !== undefined && { engineVersion }),
    options,
    ...(lineage && { lineage }),
    ...(guards && { guards }),
  });
  const isNew = (await store.create({ key, body: toJsonBytes(wanted) })) === "created";
  return { record: isNew ? wanted : assertSame(await readRecord(store, key, runRecordSchema), params), isNew };
}

/** Refuses a removed run's id: a worker that was disconnected could still write into that run. */
async function assertNotRemoved(store: ObjectStore, run: string): Promise<void> {
  if ((await store.stat({ key: removedKey(run) })) === null) return;
  throw new FleetError("run_conflict", `run ${run} was removed, and the id of a removed run is not used again`, {
    cure: "use another --run id",
  });
}

function assertSame(
  found: RunRecord,
  wanted: Readonly<{ options: RunOptions; since?: string | undefined }>,
): RunRecord {
  assertSameOptions(found, wanted);
  const { lineage } = found;
  const since = lineage === undefined || lineage.kind === "compact" ? undefined : lineage.since;
  if (since === wanted.since && lineage?.kind !== "compact") return found;
  const began = since === undefined ? "without --since" : `with --since ${since}`;
  throw new FleetError("run_conflict", `run ${found.run} was started ${began}`, {
    cure: "pass the same option to continue it, or use another --run id for a new run",
  });
}

function assertSameOptions(found: RunRecord, given: Readonly<{ options: RunOptions }>): void {
  const wanted = knownTo(found.options, given.options);
  // An option that is absent where it is off, such as `prompt`, may be in either.
  const keys = [...new Set([...Object.keys(found.options), ...Object.keys(wanted)])] as (keyof RunOptions)[];
  const differing = keys.filter((key) => !isDeepStrictEqual(found.options[key], wanted[key]));
  if (differing.length === 0) return;
  const changes = differing.map(
    (key) =>
      `${key} is ${JSON.stringify(found.options[key]) ?? "unset"} there and ${JSON.stringify(wanted[key]) ?? "unset"} here`,
  );
  throw new FleetError("run_conflict", `run ${found.run} exists with other options: ${changes.join("; ")}`, {
    cure: "use the same options to continue it, or another --run id for a new run",
  });
}
