/**
 * Markers in the store of the runs that a fleet works on, from `enqueue` to the seal. They are in the store and not in
 * Redis, because a fleet needs them after Redis was wiped.
 */
import { runIdSchema } from "../core/contracts.ts";
import { fleetKeys } from "../core/layout.ts";
import type { ObjectStore } from "../core/ports.ts";

const NOTHING = new Uint8Array(0);

export async function markActive(store: ObjectStore, params: Readonly<{ fleet: string; run: string }>): Promise<void> {
  await store.create({ key: fleetKeys(params.fleet).marker(params.run), body: NOTHING });
}

export async function unmarkActive(
  store: ObjectStore,
  params: Readonly<{ fleet: string; run: string }>,
): Promise<void> {
  await store.remove({ key: fleetKeys(params.fleet).marker(params.run) });
}

/** Ids of active runs, oldest first where ids begin with a time. */
export async function listActive(store: ObjectStore, fleet: string): Promise<string[]> {
  const { prefix } = fleetKeys(fleet);
  const runs: string[] = [];
  for await (const { key } of store.list({ prefix })) {
    const parsed = runIdSchema.safeParse(key.slice(prefix.length));
    if (parsed.success) runs.push(parsed.data);
  }
  return runs;
}
