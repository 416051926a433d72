/** Readers of a run's record, plan and data. */
import {
  type ClosedRecord,
  closedRecordSchema,
  type JobPayload,
  MAX_PLAN_BYTES,
  type RunRecord,
  runRecordSchema,
  type WindowPlan,
  windowPlanSchema,
} from "../core/contracts.ts";
import { FleetError, hasCode } from "../core/errors.ts";
import { findRecord, parseRecord, readRecord } from "../core/json.ts";
import { indexOfWindow, runKeys, windowId, windowOfShard } from "../core/layout.ts";
import { jobOf } from "../core/planning.ts";
import { PlanProof } from "../core/plan-proof.ts";
import type { ObjectStore } from "../core/ports.ts";
import { mapConcurrent } from "./map-concurrent.ts";

/** Plans read concurrently, of up to a megabyte each: enough to hide a store's latency. */
const PLANS_IN_FLIGHT = 4;

/** @throws FleetError `run_unknown` */
export async function readRun(store: ObjectStore, run: string): Promise<RunRecord> {
  try {
    return assertOfRun(store, run, await readRecord(store, runKeys(run).record, runRecordSchema));
  } catch (error) {
    if (!hasCode(error, "object_missing")) throw error;
    throw new FleetError("run_unknown", `there is no run ${JSON.stringify(run)} in ${store.url}`, {
      cure: "check the run id and --out; `embedfleet status --out URL` lists the runs of a store",
      cause: error,
    });
  }
}

/** Refuses a record of another run. @throws FleetError `object_corrupt` */
export function assertOfRun<T extends Readonly<{ run: string }>>(store: ObjectStore, run: string, record: T): T {
  if (record.run === run) return record;
  throw new FleetError("object_corrupt", `a record of run ${run} in ${store.url} belongs to run ${record.run}`, {
    cure: "it was copied there, or the store returns another object; the run cannot be read",
  });
}

/** The closed record; null while the corpus is still being read. */
export async function readClosed(store: ObjectStore, run: string): Promise<ClosedRecord | null> {
  const closed = await findRecord(store, runKeys(run).closed, closedRecordSchema);
  return closed === null ? null : assertOfRun(store, run, closed);
}

/** The closed record of a sealed run, which always has one. @throws FleetError `plan_invalid` */
export async function requireClosed(store: ObjectStore, run: string): Promise<ClosedRecord> {
  const closed = await readClosed(store, run);
  if (closed !== null) return closed;
  throw invalidPlan(store, run, "plan/closed.json does not exist");
}

/** One window's plan, and its bytes as stored. */
export interface StoredPlan {
  readonly plan: WindowPlan;
  readonly bytes: Uint8Array;
}

/** The plan of one window; null when it is not planned. @throws FleetError `object_corrupt` */
export async function readWindow(store: ObjectStore, run: string, index: number): Promise<StoredPlan | null> {
  const key = runKeys(run).plan(windowId(index));
  try {
    const bytes = await store.read({ key, maxBytes: MAX_PLAN_BYTES });
    const plan = parseRecord(bytes, { schema: windowPlanSchema, name: `${store.url}/${key}` });
    return { plan: assertOfRun(store, run, plan), bytes };
  } catch (error) {
    if (hasCode(error, "object_missing")) return null;
    throw error;
  }
}

/** The job of a shard as the store's plan has it; null when it is not planned. @throws FleetError `object_corrupt` */
export async function findPlannedJob(
  store: ObjectStore,
  { run, shard }: Readonly<{ run: string; shard: string }>,
): Promise<JobPayload | null> {
  const found = await readWindow(store, run, indexOfWindow(windowOfShard(shard)));
  const planned = found?.plan.shards.find((each) => each.shard === shard);
  return planned === undefined ? null : jobOf(run, planned);
}

/**
 * The windows of a plan in order; a few at a time in memory. They are read by name, never found by a listing. While the
 * corpus is being read, they end at the first that does not exist; after that, they are all that `closed.json` counts, and
 * are proved to match it.
 *
 * @param closed By default read from the store.
 * @throws FleetError `plan_invalid` at the first window that is missing or out of place, or at the end
 */
export async function* readWindows(
  store: ObjectStore,
  run: string,
  closed?: ClosedRecord | null,
): AsyncGenerator<WindowPlan> {
  const whole = closed === undefined ? await readClosed(store, run) : closed;
  const proof = new PlanProof();
  for await (const { name, found } of whole === null ? walkWindows(store, run) : pickWindows(store, run, whole)) {
    if (found === null) throw invalidPlan(store, run, `${name} does not exist`);
    const fault = proof.add(found.plan, found.bytes);
    if (fault !== null) throw invalidPlan(store, run, `${name}: ${fault}`);
    yield found.plan;
  }
  const disagreement = whole === null ? null : proof.disagreement(whole);
  if (disagreement !== null) throw invalidPlan(store, run, disagreement);
}

interface NamedPlan {
  readonly name: string;
  readonly found: StoredPlan | null;
}

async function* walkWindows(store: ObjectStore, run: string): AsyncGenerator<NamedPlan> {
  for (let index = 0; ; index++) {
    const found = await readWindow(store, run, index);
    if (found === null) return;
    yield { name: planName(index), found };
  }
}

function pickWindows(store: ObjectStore, run: string, { windows }: ClosedRecord): AsyncGenerator<NamedPlan> {
  async function* indices(): AsyncGenerator<number> {
    for (let index = 0; index < windows; index++) yield index;
  }
  return mapConcurrent(indices(), PLANS_IN_FLIGHT, async (index) => ({
    name: planName(index),
    found: await readWindow(store, run, index),
  }));
}

function planName(index: number): string {
  return `plan/${windowId(index)}.json`;
}

function invalidPlan(store: ObjectStore, run: string, finding: string): FleetError {
  return new FleetError("plan_invalid", `the plan of run ${run} in ${store.url} is incomplete: ${finding}`, {
    cure: `repeat the command that started it (\`embedfleet enqueue … --run ${run}\`) with the same corpus: it recreates lost plans`,
  });
}

/** Bytes of each result file in the listing, by key. Names that are not in the plan's format are ignored. */
export async function listData(store: ObjectStore, run: string): Promise<Map<string, number>> {
  const files = new Map<string, number>();
  for await (const { key, bytes } of store.list({ prefix: runKeys(run).dataPrefix })) files.set(key, bytes);
  return files;
}
