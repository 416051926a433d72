/**
 * Proof at start that a store has the properties that the fleet relies on. Some servers accept a conditional write and
 * ignore the condition, or let several writers win; with one of those, rows would be lost or duplicated silently.
 */
import { randomBytes, randomUUID } from "node:crypto";
import { FleetError, hasCode, messageOf } from "../core/errors.ts";
import type { ObjectInfo, ObjectStore } from "../core/ports.ts";

const PROBE_PREFIX = ".probe/";
/** Keys of objects that a killed probe leaves behind, and of nothing else. */
const LEFTOVER = /^\.probe\/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\/[a-z0-9-]+$/;
/** A probe takes seconds, so objects of this age by the store's own clock have no owner. */
const LEFT_AFTER_MS = 60 * 60 * 1000;
const BODY_BYTES = 64 * 1024;
const RACERS = 16;
/** Most races: one whose winner lost the reply and got "exists" on its second attempt proves nothing and is repeated. */
const RACES = 3;
const REPLACERS = 4;

export type StoreProperty =
  | "bytes-round-trip"
  | "ranged-read"
  | "create-if-absent"
  | "single-winner"
  | "list-after-create"
  | "replace-if-unchanged";

export interface ProbeFailure {
  readonly property: StoreProperty;
  /** What was observed instead. */
  readonly detail: string;
}

export interface ProbeOptions {
  /** Returns the failures instead of refusing the store. */
  readonly allowUnsafe?: boolean;
  /** Ends the probe after its current check; its objects are removed first. */
  readonly signal?: AbortSignal;
}

interface Probe {
  readonly store: ObjectStore;
  /** Key prefix, ending with `/`; random, so that probes of many workers do not collide. */
  readonly prefix: string;
  /** Size of each object made so far, by key. */
  readonly made: Map<string, number>;
  /** Keys of earlier probes whose process was killed. */
  readonly leftovers: string[];
}

/** A check of one property: null when it holds, otherwise what was observed instead. */
type Check = (probe: Probe) => Promise<string | null>;

/** Checks in order; the later ones use objects of the earlier ones. */
const CHECKS: Readonly<Record<StoreProperty, Check>> = {
  "bytes-round-trip": checkRoundTrip,
  "ranged-read": checkRangedRead,
  "create-if-absent": checkCreateIfAbsent,
  "single-winner": checkSingleWinner,
  "list-after-create": checkListing,
  "replace-if-unchanged": checkReplace,
};

/** Properties that are not essential: without them the fleet works, and what is lost is reported. */
const WANTED_ONLY: ReadonlySet<StoreProperty> = new Set(["replace-if-unchanged"]);

/** Whether a store without the property is refused. */
export function isEssential(property: StoreProperty): boolean {
  return !WANTED_ONLY.has(property);
}

/**
 * Checks a store. Leaves nothing behind, and removes the objects of killed probes.
 *
 * @returns The properties that failed; essential ones only with `allowUnsafe`.
 * @throws FleetError `store_refused` naming them; `store_refused` or `store_unavailable` of the store itself.
 */
export async function probeStore(store: ObjectStore, options: ProbeOptions = {}): Promise<readonly ProbeFailure[]> {
  const probe: Probe = { store, prefix: `${PROBE_PREFIX}${randomUUID()}/`, made: new Map(), leftovers: [] };
  const failures: ProbeFailure[] = [];
  try {
    for (const [property, check] of Object.entries(CHECKS) as [StoreProperty, Check][]) {
      options.signal?.throwIfAborted();
      const detail = await runCheck(check, probe);
      if (detail !== null) failures.push({ property, detail });
    }
  } catch (error) {
    // The error of the checks says more than one of the cleanup after it.
    await clearAway(probe).catch(() => undefined);
    throw error;
  }
  await clearAway(probe);
  const fatal = failures.filter(({ property }) => isEssential(property));
  if (fatal.length > 0 && options.allowUnsafe !== true) throw refusal(store, fatal);
  return failures;
}

const LOST: Readonly<Record<StoreProperty, string>> = {
  "bytes-round-trip":
    "files may be returned with other bytes than were written; `verify` finds them, but nothing repairs them",
  "ranged-read": "workers may read other rows than their jobs name; they refuse inconsistent rows, and those jobs fail",
  "create-if-absent":
    "a worker that repeats a shard replaces its file: after the seal the manifest's hashes may be wrong, and two workers' rejects may be counted against one file",
  "single-winner":
    "two workers on one shard may both believe that their file won: after the seal the manifest's hashes may be wrong",
  "list-after-create":
    "`seal`, `status` and reconciliation may miss files that exist: shards are embedded twice, and seals are delayed",
  "replace-if-unchanged":
    "when two processes change `latest.json` or a schedule at the same moment, one may overwrite the other's change: this server ignores If-Match, so versions are only compared just before the write",
};

/** Consequences of using a store that lacks the property. */
export function whatIsLost(property: StoreProperty): string {
  return LOST[property];
}

async function clearAway({ store, made, leftovers }: Probe): Promise<void> {
  // Removing leftovers is optional; they may belong to another user.
  await Promise.all(leftovers.map((key) => store.remove({ key }).catch(() => undefined)));
  await Promise.all([...made.keys()].map((key) => store.remove({ key })));
}

/** Runs a check. A lost or damaged object is a failure of the property; an unreachable store is not. */
async function runCheck(check: Check, probe: Probe): Promise<string | null> {
  try {
    return await check(probe);
  } catch (error) {
    if (hasCode(error, "object_missing") || hasCode(error, "object_corrupt")) return messageOf(error);
    throw error;
  }
}

async function checkRoundTrip(probe: Probe): Promise<string | null> {
  const body = randomBytes(BODY_BYTES);
  const { key, outcome } = await make(probe, "bytes", body);
  if (outcome !== "created") return `creating an object under a random name returned "${outcome}"`;
  const back = await probe.store.read({ key, maxBytes: 2 * BODY_BYTES });
  return body.equals(back) ? null : `${body.length} random bytes were written, but ${differenceOf(body, back)}`;
}

async function checkRangedRead(probe: Probe): Promise<string | null> {
  const body = randomBytes(BODY_BYTES);
  const { key } = await make(probe, "range", body);
  const range = { start: 1000, end: BODY_BYTES - 1 };
  const wanted = body.subarray(range.start, range.end);
  const back = await probe.store.read({ key, range });
  return wanted.equals(back)
    ? null
    : `bytes ${range.start} to ${range.end} were requested, but ${differenceOf(wanted, back)}`;
}

async function checkCreateIfAbsent(probe: Probe): Promise<string | null> {
  const first = randomBytes(BODY_BYTES);
  const { key } = await make(probe, "twice", first);
  const { outcome } = await make(probe, "twice", randomBytes(BODY_BYTES));
  const kept = first.equals(await probe.store.read({ key, maxBytes: 2 * BODY_BYTES }));
  if (outcome === "exists" && kept) return null;
  return `a second create of one name returned "${outcome}", and the first bytes were ${kept ? "kept" : "overwritten"}`;
}

async function checkSingleWinner(probe: Probe): Promise<string | null> {
  for (let race = 1; race <= RACES; race += 1) {
    const bodies = Array.from({ length: RACERS }, () => randomBytes(1024));
    const results = await Promise.all(bodies.map((body) => make(probe, `race-${race}`, body)));
    const winners = results.flatMap(({ outcome }, index) => (outcome === "created" ? [index] : []));
    if (winners.length > 1) return `${winners.length} of ${RACERS} simultaneous creates of one name reported success`;
    const winner = bodies[winners[0] ?? -1];
    if (winner === undefined) continue;
    const back = await probe.store.read({ key: `${probe.prefix}race-${race}` });
    return winner.equals(back) ? null : "the bytes of a simultaneous create that lost replaced the winner's";
  }
  return `in ${RACES} races of ${RACERS} simultaneous creates of one name, none reported success`;
}

async function checkListing(probe: Probe): Promise<string | null> {
  const seen = new Map<string, number>();
  const others: ObjectInfo[] = [];
  let nowMs = 0;
  for await (const info of probe.store.list({ prefix: PROBE_PREFIX })) {
    if (!info.key.startsWith(probe.prefix)) others.push(info);
    else {
      seen.set(info.key, info.bytes);
      nowMs = Math.max(nowMs, info.modifiedAtMs);
    }
  }
  // The store's clock on both sides: machines may disagree about what an hour ago is.
  const isLeft = ({ key, modifiedAtMs }: ObjectInfo): boolean =>
    LEFTOVER.test(key) && nowMs - modifiedAtMs > LEFT_AFTER_MS;
  probe.leftovers.push(...others.filter(isLeft).map(({ key }) => key));
  const absent = [...probe.made.keys()].filter((key) => !seen.has(key));
  if (absent.length > 0)
    return `${absent.length} of ${probe.made.size} objects are not listed right after they were created`;
  const strange = [...seen].find(([key, bytes]) => probe.made.get(key) !== bytes);
  return strange === undefined
    ? null
    : `the listing has ${strange[0]} with ${strange[1]} bytes, which is not what was written`;
}

async function checkReplace(probe: Probe): Promise<string | null> {
  const { store } = probe;
  const { key } = await make(probe, "replaced", randomBytes(1024));
  const first = await store.readVersion({ key });
  if (first === null) return "an object does not exist right after it was created";
  const ifVersion = first.version;
  const bodies = Array.from({ length: REPLACERS }, () => randomBytes(1024));
  const outcomes = await Promise.all(bodies.map((body) => store.replace({ key, body, ifVersion })));
  const winners = outcomes.filter((outcome) => outcome === "replaced").length;
  if (winners !== 1) return `${winners} of ${REPLACERS} simultaneous replacements of one version reported success`;
  const late = await store.replace({ key, body: first.body, ifVersion });
  return late === "changed" ? null : "an object was replaced although it no longer had the given version";
}

async function make(probe: Probe, name: string, body: Uint8Array): Promise<Readonly<{ key: string; outcome: string }>> {
  const key = probe.prefix + name;
  probe.made.set(key, body.length);
  return { key, outcome: await probe.store.create({ key, body }) };
}

function differenceOf(wanted: Uint8Array, back: Uint8Array): string {
  if (wanted.length !== back.length) return `${back.length} were returned`;
  return `other bytes were returned, from offset ${wanted.findIndex((byte, index) => byte !== back[index])} on`;
}

function refusal(store: ObjectStore, failures: readonly ProbeFailure[]): FleetError {
  const seen = failures.map(({ property, detail }) => `${property}: ${detail}`).join("; ");
  return new FleetError("store_refused", `the store ${store.url} cannot be trusted (${seen})`, {
    cure: "use a store that provides these guarantees (a local disk, NFS, AWS S3, Ceph, a current versitygw), or update its server; --unsafe-store uses it anyway",
  });
}
