/**
 * A run's record, which defines the run id: created once, and fixed before the first window is written. Until then a
 * command with other options may begin the run anew, so that a mistake does not use up the id.
 */
import { isDeepStrictEqual } from "node:util";
import { type Guards, PLAN_VERSION, type RunOptions, type RunRecord, runRecordSchema } from "../core/contracts.ts";
import { FleetError } from "../core/errors.ts";
import { findRecord, MAX_RECORD_BYTES, parseRecord, toJsonBytes } from "../core/json.ts";
import { removedKey, runKeys } from "../core/layout.ts";
import type { ObjectStore } from "../core/ports.ts";
import { knownTo } from "../core/same-model.ts";
import { readWindow } from "./read-plan.ts";
import { resolveSince } from "./since.ts";

/** Most attempts; another process replaces the record once or twice in a run's life. */
const ATTEMPTS = 10;

/** What a run is begun or continued with. */
export interface OpenRunParams {
  readonly run: string;
  readonly inputs: readonly string[];
  readonly options: RunOptions;
  /**
   * The run to build on, or `latest`; a full run when absent. It is resolved once: a continued run keeps its base.
   */
  readonly since?: string | undefined;
  /** Version of embedfleet that makes the call. */
  readonly program?: string;
  /** Version of the engine that `options` names. */
  readonly engineVersion?: string;
  /** Guards of a new run; an existing run keeps its own, and a later `enqueue` with wider ones accepts it. */
  readonly guards?: Guards;
  /** Whether the run can be begun anew until `settleRun` fixes it; by default its record is fixed at once. */
  readonly settlesLater?: boolean;
}

/**
 * Creates the run, or continues an existing one, or begins one anew of which nothing is planned and nothing is fixed.
 * @throws FleetError `run_conflict` when the id belongs to a run with other options; the errors of `resolveSince`.
 */
export async function openRun(
  store: ObjectStore,
  params: OpenRunParams,
): Promise<{ record: RunRecord; isNew: boolean }> {
  const key = runKeys(params.run).record;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const found = await findVersion(store, key);
    if (found !== null && !(await canBeginAnew(store, found.record, params)))
      return { record: assertSame(found.record, params), isNew: false };
    await assertNotRemoved(store, params.run);
    const record = await newRecord(store, params);
    const body = toJsonBytes(record);
    const outcome =
      found === null ? await store.create({ key, body }) : await store.replace({ key, body, ifVersion: found.version });
    if (outcome === "created" || outcome === "replaced") return { record, isNew: true };
  }
  throw keepsChanging(store, key);
}

/**
 * Fixes the run's record: no command begins the run anew from now on. To be called before any object is written that
 * depends on the options.
 *
 * @returns The fixed record.
 * @throws FleetError `run_conflict` when another command has begun the run anew, or removed it.
 */
export async function settleRun(store: ObjectStore, record: RunRecord): Promise<RunRecord> {
  if (record.unplanned === undefined) return record;
  const settled = settledOf(record);
  const key = runKeys(record.run).record;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const found = await findVersion(store, key);
    if (found === null || !isDeepStrictEqual(settledOf(found.record), settled)) throw begunAnew(record.run);
    if (found.record.unplanned === undefined) return settled;
    if ((await store.replace({ key, body: toJsonBytes(settled), ifVersion: found.version })) === "replaced")
      return settled;
  }
  throw keepsChanging(store, key);
}

/**
 * Checks that the record is still the settled one. Where a server ignores conditions, another command may have
 * overwritten it at the moment when it was settled.
 * @throws FleetError `run_conflict`
 */
export async function assertSettled(store: ObjectStore, settled: RunRecord): Promise<void> {
  const found = await findRecord(store, runKeys(settled.run).record, runRecordSchema);
  if (!isDeepStrictEqual(found, settled)) throw begunAnew(settled.run);
}

function settledOf(record: RunRecord): RunRecord {
  const { unplanned: _, ...settled } = record;
  return settled;
}

async function findVersion(
  store: ObjectStore,
  key: string,
): Promise<{ readonly record: RunRecord; readonly version: string } | null> {
  const found = await store.readVersion({ key, maxBytes: MAX_RECORD_BYTES });
  if (found === null) return null;
  const record = parseRecord(found.body, { schema: runRecordSchema, name: `${store.url}/${key}` });
  return { record, version: found.version };
}

/** Whether nothing is planned or fixed of the run, and the command is not the one that began it. */
async function canBeginAnew(store: ObjectStore, found: RunRecord, params: OpenRunParams): Promise<boolean> {
  if (found.unplanned === undefined || params.settlesLater !== true) return false;
  const isSame = conflictOf(found, params) === null && isDeepStrictEqual(found.inputs, inputsOf(params));
  // The flag alone would do, except on a server that ignores conditions.
  return !isSame && (await readWindow(store, found.run, 0)) === null;
}

async function newRecord(store: ObjectStore, params: OpenRunParams): Promise<RunRecord> {
  const { run, options, since, program, engineVersion, guards, settlesLater } = params;
  const lineage = since === undefined ? undefined : await resolveSince(store, { since, options });
  return runRecordSchema.parse({
    version: PLAN_VERSION,
    run,
    createdAt: new Date().toISOString(),
    inputs: inputsOf(params),
    ...(program !== undefined && { program }),
    ...(engineVersion !== undefined && { engineVersion }),
    options,
    ...(lineage && { lineage }),
    ...(guards && { guards }),
    ...(settlesLater === true && { unplanned: true }),
  });
}

/** Helpers compare their inputs with these. */
function inputsOf({ inputs }: OpenRunParams): string[] {
  return inputs.map((input) => input.replace(/^s3:\/\//i, "s3://"));
}

/** Refuses a removed run's id: a worker that was disconnected could still write into that run. */
async function assertNotRemoved(store: ObjectStore, run: string): Promise<void> {
  if ((await store.stat({ key: removedKey(run) })) === null) return;
  throw new FleetError("run_conflict", `run ${run} was removed, and the id of a removed run is not used again`, {
    cure: "use another --run id",
  });
}

function assertSame(found: RunRecord, wanted: OpenRunParams): RunRecord {
  const conflict = conflictOf(found, wanted);
  if (conflict !== null) throw conflict;
  return found;
}

/** The difference between a run and what a command wants of it; null when the command may continue it. */
function conflictOf(found: RunRecord, wanted: OpenRunParams): FleetError | null {
  const changes = optionChanges(found, wanted);
  if (changes.length > 0) {
    return new FleetError("run_conflict", `run ${found.run} exists with other options: ${changes.join("; ")}`, {
      cure: "use the same options to continue it, or another --run id for a new run",
    });
  }
  const { lineage } = found;
  const since = lineage === undefined || lineage.kind === "compact" ? undefined : lineage.since;
  if (since === wanted.since && lineage?.kind !== "compact") return null;
  const began = since === undefined ? "without --since" : `with --since ${since}`;
  return new FleetError("run_conflict", `run ${found.run} was started ${began}`, {
    cure: "pass the same option to continue it, or use another --run id for a new run",
  });
}

function optionChanges(found: RunRecord, given: OpenRunParams): string[] {
  const wanted = knownTo(found.options, given.options);
  // An option that is absent where it is off, such as `prompt`, may be in either.
  const keys = [...new Set([...Object.keys(found.options), ...Object.keys(wanted)])] as (keyof RunOptions)[];
  const said = (value: unknown): string => JSON.stringify(value) ?? "unset";
  return keys
    .filter((key) => !isDeepStrictEqual(found.options[key], wanted[key]))
    .map((key) => `${key} is ${said(found.options[key])} there and ${said(wanted[key])} here`);
}

function begunAnew(run: string): FleetError {
  return new FleetError(
    "run_conflict",
    `run ${run} was begun anew by another command, or removed, before anything was planned`,
    {
      cure: `let the other command finish, or use another --run id`,
    },
  );
}

function keepsChanging(store: ObjectStore, key: string): FleetError {
  return new FleetError("store_unavailable", `${store.url}/${key} was changed by others ${ATTEMPTS} times in a row`, {
    cure: "start one command at a time for a run, and repeat this one",
  });
}
