/** `latest.json`: the default run of readers and the base of the next nightly run. */
import { CONTRACT_VERSION, type Latest, latestSchema, type Manifest } from "../core/contracts.ts";
import { FleetError, hasCode } from "../core/errors.ts";
import { parseRecord, toJsonBytes } from "../core/json.ts";
import { LATEST_KEY, runKeys } from "../core/layout.ts";
import type { ObjectStore } from "../core/ports.ts";
import { readRun } from "./read-plan.ts";

/** Most attempts; others replace it rarely, so a few are enough. */
const ATTEMPTS = 10;

/**
 * Points `latest.json` at a sealed run, unless it points at a newer one. Which run is newer is decided by the bases of the
 * runs and, for unrelated runs, by the store's times of their manifests; neither a sealer's clock nor its delay matters.
 * Can be repeated.
 *
 * @throws FleetError `store_unavailable`; `object_corrupt` when `latest.json` is damaged
 */
export async function publishLatest(store: ObjectStore, manifest: Manifest): Promise<void> {
  const latest: Latest = { version: CONTRACT_VERSION, run: manifest.run, sealedAt: manifest.sealedAt };
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const found = await store.readVersion({ key: LATEST_KEY });
    if (found !== null && !(await takesPlaceOf(store, manifest.run, currentRun(store, found.body)))) return;
    const outcome = await store.replace({
      key: LATEST_KEY,
      body: toJsonBytes(latest),
      ifVersion: found?.version ?? null,
    });
    if (outcome === "replaced") return;
  }
  throw new FleetError(
    "store_unavailable",
    `${store.url}/${LATEST_KEY} was changed by others ${ATTEMPTS} times in a row`,
    {
      cure: `run ${manifest.run} is sealed; repeat \`embedfleet seal ${manifest.run}\` to make it the latest`,
    },
  );
}

function currentRun(store: ObjectStore, body: Uint8Array): string {
  try {
    return parseRecord(body, { schema: latestSchema, name: `${store.url}/${LATEST_KEY}` }).run;
  } catch (error) {
    if (!hasCode(error, "object_corrupt")) throw error;
    throw new FleetError("object_corrupt", error.message, {
      cure: `remove ${LATEST_KEY}, then \`embedfleet seal\` the run that should be the latest: this recreates it`,
      cause: error,
    });
  }
}

async function takesPlaceOf(store: ObjectStore, run: string, current: string): Promise<boolean> {
  if (run === current) return false;
  const sealed = await store.stat({ key: runKeys(current).manifest });
  // It was removed meanwhile.
  if (sealed === null) return true;
  // A compacted run is not newer: it only replaces the run that it was made from.
  const { lineage } = await readRun(store, run);
  if (lineage?.kind === "compact") return lineage.supersedes === current;
  if (await isBuiltOn(store, run, current)) return true;
  if (await isBuiltOn(store, current, run)) return false;
  const own = await store.stat({ key: runKeys(run).manifest });
  return own !== null && own.modifiedAtMs >= sealed.modifiedAtMs;
}

/** Whether a run builds on another, or replaced it, via any number of runs. */
async function isBuiltOn(store: ObjectStore, run: string, other: string): Promise<boolean> {
  const seen = new Set<string>();
  for (let next = await predecessor(store, run); next !== null && !seen.has(next);) {
    if (next === other) return true;
    seen.add(next);
    next = await predecessor(store, next);
  }
  return false;
}

async function predecessor(store: ObjectStore, run: string): Promise<string | null> {
  try {
    const { lineage } = await readRun(store, run);
    if (lineage === undefined) return null;
    return lineage.kind === "delta" ? lineage.base : lineage.supersedes;
  } catch (error) {
    // It was removed, because nothing needs it any more.
    if (hasCode(error, "run_unknown")) return null;
    throw error;
  }
}
