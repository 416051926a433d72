/** Keys of objects in the store. Every key of a run is built here, from ids that a schema has checked. */
import { FleetError } from "./errors.ts";

/** Key of the store's identity. */
export const STORE_KEY = "store.json";
export const LATEST_KEY = "latest.json";
export const RUNS_PREFIX = "runs/";

export function windowId(index: number): string {
  return `w${String(index).padStart(6, "0")}`;
}

/** Position of a window in its run: 12 of `w000012`. */
export function indexOfWindow(window: string): number {
  return Number(window.slice(1));
}

export function shardId(window: string, index: number): string {
  return `${window}-s${String(index).padStart(4, "0")}`;
}

/** Window of a shard: `w000012-s0003` belongs to `w000012`. */
export function windowOfShard(shard: string): string {
  return shard.slice(0, shard.indexOf("-"));
}

/** Prefix of the active-run markers of all fleets. */
export const FLEETS_PREFIX = "fleets/";

/** Keys of a fleet's active-run markers; `fleet` is the name of its queue. */
export function fleetKeys(fleet: string): { readonly prefix: string; marker(run: string): string } {
  const prefix = `${FLEETS_PREFIX}${fleet}/`;
  return { prefix, marker: (run) => prefix + run };
}

export const SCHEDULES_PREFIX = "schedules/";

export interface ScheduleKeys {
  readonly record: string;
  readonly state: string;
  readonly ticksPrefix: string;
  /** Key of an event of a tick; see `core/backfill.ts`. */
  tick(slot: string, event: string): string;
}

export function scheduleKeys(name: string): ScheduleKeys {
  const root = `${SCHEDULES_PREFIX}${name}/`;
  return {
    record: `${SCHEDULES_PREFIX}${name}.json`,
    state: `${root}state.json`,
    ticksPrefix: `${root}ticks/`,
    tick: (slot, event) => `${root}ticks/${slot}/${event}.json`,
  };
}

/** Key of the permanent marker of a removed run, whose id is not used again. */
export function removedKey(run: string): string {
  return `removed/${run}`;
}

export function jobId(run: string, shard: string): string {
  return `${run}-${shard}`;
}

/** Whether the id belongs to a job of the run, and not of a run whose id has this one's as prefix. */
export function isJobOf(run: string, id: string): boolean {
  return id.startsWith(jobId(run, "")) && /^w\d{6}-s\d{4}$/.test(id.slice(jobId(run, "").length));
}

export interface RunKeys {
  readonly record: string;
  readonly closed: string;
  readonly manifest: string;
  readonly cancelled: string;
  /** Key of a person's consent to seal a run beyond its guards. */
  readonly accepted: string;
  readonly planPrefix: string;
  readonly dataPrefix: string;
  readonly rejectsPrefix: string;
  /** Prefix of the output of all parts of the corpus; empty once the plan is complete. */
  readonly partsPrefix: string;
  /** Prefix of all objects of the run. */
  readonly prefix: string;
  plan(window: string): string;
  staged(window: string): string;
  /** Key of a part's documents and rows, in pieces of bounded size; see `producers/parts/part-piece.ts`. */
  partPiece(part: string, piece: number): string;
  /** Key of a part's record; see `partRecordSchema`. */
  partRecord(part: string): string;
  /** Key of the marker that all pieces exist. */
  partDone(part: string): string;
  data(shard: string): string;
  /** Key of a window's document index; see `arrow/document-index.ts`. */
  documentIndex(window: string): string;
  /** Keys of the parts of the list of rows that a delta deletes: `deletes.arrow`, `deletes-0001.arrow`, … */
  deletes(part: number): string;
  windowRejects(window: string): string;
  /** Key of a worker's rejects, by attempt: of two workers on one shard, only the winner's rejects count. */
  shardRejects(shard: string, attempt: string): string;
}

export function runKeys(run: string): RunKeys {
  const root = `${RUNS_PREFIX}${run}/`;
  return {
    prefix: root,
    record: `${root}run.json`,
    closed: `${root}plan/closed.json`,
    manifest: `${root}manifest.json`,
    cancelled: `${root}cancelled.json`,
    accepted: `${root}accepted.json`,
    planPrefix: `${root}plan/`,
    dataPrefix: `${root}data/`,
    rejectsPrefix: `${root}rejects/`,
    partsPrefix: `${root}parts/`,
    plan: (window) => `${root}plan/${window}.json`,
    staged: (window) => `${root}plan/${window}.arrows`,
    partPiece: (part, piece) => `${root}parts/${part}/${String(piece).padStart(6, "0")}`,
    partRecord: (part) => `${root}parts/${part}/part.json`,
    partDone: (part) => `${root}parts/${part}/done`,
    data: (shard) => `${root}data/${shard}.arrow`,
    documentIndex: (window) => `${root}index/${window}.arrow`,
    deletes: (part) => `${root}deletes${part === 0 ? "" : `-${String(part).padStart(4, "0")}`}.arrow`,
    windowRejects: (window) => `${root}rejects/${window}.jsonl`,
    shardRejects: (shard, attempt) => `${root}rejects/${shard}.${attempt}.jsonl`,
  };
}

/**
 * Refuses a key that could leave the store's root: absolute, empty segments, `.`/`..`, backslash,
 * control characters, or longer than S3 allows (1024 bytes).
 */
export function assertKey(key: string): void {
  const segmentsAreSafe = key.split("/").every((part) => part !== "" && part !== "." && part !== "..");
  // oxlint-disable-next-line no-control-regex -- control characters are what this refuses
  if (!segmentsAreSafe || /[\\\u0000-\u001f\u007f]/.test(key) || Buffer.byteLength(key) > 1024) {
    throw new FleetError("store_refused", `the key ${JSON.stringify(key)} is not a plain relative path`, {
      cure: "this is a fault of the caller or a forged plan or job; nothing was read or written",
    });
  }
}
