/** Base of an incremental run. */
import { contentDifferences } from "../core/content.ts";
import { latestSchema, type Lineage, type RunOptions, runIdSchema } from "../core/contracts.ts";
import { FleetError } from "../core/errors.ts";
import { findRecord } from "../core/json.ts";
import { LATEST_KEY } from "../core/layout.ts";
import type { ObjectStore } from "../core/ports.ts";
import { readRun, readWindow } from "./read-plan.ts";
import { readManifest } from "./seal.ts";

/** Value of `--since` for the run that was sealed last. */
export const SINCE_LATEST = "latest";

/**
 * Lineage of a new run: a delta of the given run if the two can be compared, otherwise a full run with the reason.
 *
 * @param params.since A run's id, or `latest`.
 * @throws FleetError `run_unknown`, `run_incomplete` when the named run cannot be built on yet.
 */
export async function resolveSince(
  store: ObjectStore,
  params: Readonly<{ since: string; options: RunOptions }>,
): Promise<Lineage> {
  const { since, options } = params;
  const full = (because: string, supersedes: string | null): Lineage => ({ kind: "full", since, because, supersedes });
  const base = since === SINCE_LATEST ? await latestSealed(store) : runIdSchema.parse(since);
  if (base === null) return full("no run of the store is sealed yet", null);
  const record = await readRun(store, base);
  if ((await readManifest(store, base)) === null) {
    throw new FleetError("run_incomplete", `run ${base} is not sealed, so nothing can build on it`, {
      cure: `wait for its workers, or see what it waits for: embedfleet status ${base}`,
    });
  }
  const differences = contentDifferences(record.options, options);
  if (differences.length > 0) return full(`run ${base} was made with other options: ${differences.join("; ")}`, base);
  if (!(await hasIndex(store, base))) return full(`run ${base} has no index of its documents`, base);
  return { kind: "delta", since, base };
}

async function latestSealed(store: ObjectStore): Promise<string | null> {
  return (await findRecord(store, LATEST_KEY, latestSchema))?.run ?? null;
}

/** Whether a run has a document index. All windows have one version, so the first one decides. */
async function hasIndex(store: ObjectStore, run: string): Promise<boolean> {
  const first = await readWindow(store, run, 0);
  return first === null || first.plan.indexSha256 !== undefined;
}
