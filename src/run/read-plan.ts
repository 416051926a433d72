/** A run's record, plan and data, as they stand in the store. */
import {
  type ClosedRecord,
  closedRecordSchema,
  MAX_PLAN_BYTES,
  type RunRecord,
  runRecordSchema,
  type WindowPlan,
  windowPlanSchema,
} from "../core/contracts.ts";
import { FleetError, hasCode } from "../core/errors.ts";
import { findRecord, readRecord } from "../core/json.ts";
import { isPlanKey, runKeys } from "../core/layout.ts";
import type { ObjectStore } from "../core/ports.ts";

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

/** Windows in order; one at a time in memory. */
export async function* readWindows(store: ObjectStore, run: string): AsyncGenerator<WindowPlan> {
  for await (const { key } of store.list({ prefix: runKeys(run).planPrefix })) {
    if (isPlanKey(key)) yield await readRecord(store, key, windowPlanSchema, MAX_PLAN_BYTES);
  }
}

/** Null while the corpus is still being read. */
export function readClosed(store: ObjectStore, run: string): Promise<ClosedRecord | null> {
  return findRecord(store, runKeys(run).closed, closedRecordSchema);
}

/** Bytes of each result file that exists, by key. */
export async function listData(store: ObjectStore, run: string): Promise<Map<string, number>> {
  const files = new Map<string, number>();
  for await (const { key, bytes } of store.list({ prefix: runKeys(run).dataPrefix })) files.set(key, bytes);
  return files;
}
