/** What stands between a fleet's runs and their seals: for whoever ends and must not say that all is well. */
import { FleetError, messageOf } from "../core/errors.ts";
import { removedKey, runKeys } from "../core/layout.ts";
import type { ObjectStore } from "../core/ports.ts";
import { listActive } from "./active-runs.ts";
import { readClosed } from "./read-plan.ts";
import { whyOpen } from "./seal.ts";

/** Failed shards that a message names. */
const NAMED_FAILURES = 3;

/** A job that failed, with the reason it gave. */
export interface Failure {
  readonly shard: string;
  readonly reason: string;
}

export interface UnfinishedParams {
  readonly store: ObjectStore;
  readonly fleet: string;
  /** Runs to look at besides those that the store says the fleet is at work on. */
  readonly seen: ReadonlySet<string>;
  /** Failed jobs of a run, with their reasons. */
  readonly failures: (params: Readonly<{ run: string; limit: number }>) => Promise<readonly Failure[]>;
  /** Why a run could not be looked after; undefined when it could. */
  readonly troubleOf: (run: string) => unknown;
}

/**
 * Passes when each run is sealed, cancelled or removed.
 * @throws FleetError `run_incomplete` that names each other run, what it lacks, and what to do next
 */
export async function assertAllSealed(params: UnfinishedParams): Promise<void> {
  const { store, fleet, seen } = params;
  const runs = new Set([...(await listActive(store, fleet)), ...seen]);
  const open: string[] = [];
  const cures: string[] = [];
  for (const run of runs) {
    if (await isOver(store, run)) continue;
    const { why, cure } = await lackOf(run, params);
    open.push(`run ${run} is not sealed: ${why}`);
    cures.push(cure);
  }
  if (open.length > 0) throw new FleetError("run_incomplete", open.join("\n"), { cure: cures.join("\n  ") });
}

async function isOver(store: ObjectStore, run: string): Promise<boolean> {
  const { manifest, cancelled } = runKeys(run);
  const found = await Promise.all([manifest, cancelled, removedKey(run)].map((key) => store.stat({ key })));
  return found.some((each) => each !== null);
}

async function lackOf(run: string, params: UnfinishedParams): Promise<{ why: string; cure: string }> {
  const { store, failures, troubleOf } = params;
  const trouble = troubleOf(run);
  const resume = `embedfleet resume ${run} --out ${store.url}`;
  if (trouble !== undefined) {
    const cure = trouble instanceof FleetError ? trouble.cure : undefined;
    return { why: messageOf(trouble), cure: cure ?? `fix the cause, then: ${resume}` };
  }
  const why = (await whyOpen(store, run)) ?? "its files are there, and nobody has sealed it";
  if ((await readClosed(store, run)) === null)
    return { why, cure: `repeat the enqueue command with --run ${run}, then start workers again` };
  const failed = await failures({ run, limit: NAMED_FAILURES });
  if (failed.length === 0) return { why, cure: `${resume}, then start workers again` };
  const cure = `fix the cause, then: ${resume}, and start workers again`;
  return { why: `${why}; failed: ${sayFailures(failed)}`, cure };
}

/** The first ones, in words. */
export function sayFailures(failures: readonly Failure[]): string {
  const named = failures.slice(0, NAMED_FAILURES).map(({ shard, reason }) => `${shard}: ${reason}`);
  return named.join("; ") + (failures.length > NAMED_FAILURES ? `; and ${failures.length - NAMED_FAILURES} more` : "");
}
