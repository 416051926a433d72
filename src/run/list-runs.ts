/** The runs of a store. */
import { latestSchema } from "../core/contracts.ts";
import { FleetError } from "../core/errors.ts";
import { findRecord } from "../core/json.ts";
import { LATEST_KEY } from "../core/layout.ts";
import type { ObjectStore } from "../core/ports.ts";

/** Ids of all runs, ascending. */
export async function listRuns(store: ObjectStore): Promise<string[]> {
  const runs: string[] = [];
  for await (const { key } of store.list({ prefix: "runs/" })) {
    const match = /^runs\/([^/]+)\/run\.json$/.exec(key);
    if (match !== null) runs.push(match[1]!);
  }
  return runs;
}

/** @throws FleetError `run_unknown` when no run of the store has been sealed. */
export async function latestRun(store: ObjectStore): Promise<string> {
  const latest = await findRecord(store, LATEST_KEY, latestSchema);
  if (latest !== null) return latest.run;
  throw new FleetError("run_unknown", `no run in ${store.url} is sealed yet`, {
    cure: "name a run, or check --out; `embedfleet status --out URL` lists the runs of a store",
  });
}
