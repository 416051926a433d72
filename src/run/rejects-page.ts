/** Rejects of a run, in pages. */
import type { Reject } from "../core/contracts.ts";
import type { ObjectStore } from "../core/ports.ts";
import { listRejects } from "./read-lists.ts";
import { readRun } from "./read-plan.ts";

const PAGE_REJECTS = 100;

export interface RejectsPage {
  readonly rejects: readonly Reject[];
  /** Start of the next page; null at the end. */
  readonly next: number | null;
}

/** @throws FleetError `run_unknown` */
export async function readRejectsPage(
  params: Readonly<{ store: ObjectStore; run: string; after: number }>,
): Promise<RejectsPage> {
  const { store, run, after } = params;
  await readRun(store, run);
  const rejects: Reject[] = [];
  let seen = 0;
  for await (const list of listRejects(store, run)) {
    for (const reject of list) {
      if (seen++ < after) continue;
      if (rejects.length === PAGE_REJECTS) return { rejects, next: after + PAGE_REJECTS };
      rejects.push(reject);
    }
  }
  return { rejects, next: null };
}
