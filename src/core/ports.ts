/**
 * The ports of the fleet: its interfaces to the services it uses. Each port has one conformance suite in
 * `test/conformance`, which every implementation passes. `PartQueue` is in `ingest.ts`; `queue-server.ts` opens all
 * ports of a queue server.
 */
import type { BatchReport, RowRef } from "./batch.ts";
import type { JobPayload } from "./contracts.ts";

// --- Object store ---------------------------------------------------------------------------

/** Outcome of a create-if-absent. `exists` also covers a retry after our own first request succeeded. */
export type CreateOutcome = "created" | "exists";

/** Byte range of an object. */
export interface ByteRange {
  /** First byte, inclusive. */
  readonly start: number;
  /** One past the last byte. */
  readonly end: number;
}

/** Outcome of a replacement. `changed`: the object is not, or no longer, the given version; nothing was written. */
export type ReplaceOutcome = "replaced" | "changed";

/** Entry of a listing. */
export interface ObjectInfo {
  readonly key: string;
  readonly bytes: number;
  /** Time when the object was last written, in milliseconds since 1970, by the store's clock and not this machine's. */
  readonly modifiedAtMs: number;
}

/** A consistent view of an object: `version` identifies `body`. */
export interface VersionedBody {
  readonly body: Uint8Array;
  /** Opaque version, different whenever the content differs. For `replace` on the same store. */
  readonly version: string;
}

/**
 * A flat folder of immutable objects. Keys are relative, `/`-separated and validated by
 * `assertKey`; nothing outside the store's root or prefix can be named.
 *
 * Faults: `object_missing`, `store_unavailable` (try again later), `store_refused` (permissions,
 * missing bucket, full or read-only disk).
 */
export interface ObjectStore {
  /** `file:///…` or `s3://bucket/prefix`, without credentials. */
  readonly url: string;
  /**
   * Creates the whole object, or leaves an existing one. Never a partial object. Once the promise resolves, the caller may
   * reuse the body's memory.
   */
  create(params: Readonly<{ key: string; body: Uint8Array }>): Promise<CreateOutcome>;
  /**
   /**
    * Replaces the whole object: readers see the old bytes or the new ones. Only a few small objects are ever replaced
    * (`latest.json`, the state of a schedule).
    *
    * @param params.ifVersion Replaces only this version, or with null only an absent object. When omitted, replaces any. On a
    *   server that ignores conditions the version is compared just before the write, and a concurrent write (within one
    *   round trip) is overwritten; `probeStore` reports such a server.
    */
  replace(params: Readonly<{ key: string; body: Uint8Array; ifVersion?: string | null }>): Promise<ReplaceOutcome>;
  /**
   * The whole object and its version, or null when it does not exist.
   * @throws FleetError `object_corrupt` if the object is larger than `maxBytes`.
   */
  readVersion(params: Readonly<{ key: string; maxBytes?: number }>): Promise<VersionedBody | null>;
  /** @throws FleetError `object_missing`; `object_corrupt` if the object is larger than `maxBytes` or shorter than `range`. */
  read(params: Readonly<{ key: string; range?: ByteRange; maxBytes?: number }>): Promise<Uint8Array>;
  /** Size and time of the object, or null when it does not exist. */
  stat(params: Readonly<{ key: string }>): Promise<ObjectInfo | null>;
  /** Every object whose key starts with `prefix`, in ascending order of key (code units). */
  list(params: Readonly<{ prefix: string }>): AsyncIterable<ObjectInfo>;
  /** Removes the object; an absent one is not an error. */
  remove(params: Readonly<{ key: string }>): Promise<void>;
  /** Closes its connections; calls in flight complete first. */
  close(): Promise<void>;
}

// --- Corpus ---------------------------------------------------------------------------------

/**
 * The bytes of one corpus object, pinned when it was opened: a change during reading is detected, and old and new content
 * are never mixed.
 *
 * Faults: `source_changed`, `source_missing`, `source_unreadable` (one file or disk),
 * `store_unavailable` and `store_refused` (a server).
 */
export interface ByteSource {
  /** Name as the user typed it, or the path below the typed folder or prefix. */
  readonly name: string;
  /** Size in bytes; null for a pipe, which can only be streamed, once. */
  readonly bytes: number | null;
  /** Content from byte `start` to the end; reads ahead of the consumer by a bounded number of bytes. */
  stream(params?: Readonly<{ start?: number }>): AsyncIterable<Buffer>;
  /** Exactly the bytes of the range. Not for pipes. */
  readRange(range: ByteRange): Promise<Buffer>;
  /** Stops reading; the source itself is not changed. */
  close(): Promise<void>;
}

// --- Queue ----------------------------------------------------------------------------------
//
// Faults of every port below: `redis_unavailable` (the server is unreachable, full or loading: try again later) and
// `redis_unsuitable` (wrong credentials, permissions or kind of server: people have to fix it).

/** Number of jobs by state. */
export interface QueueCounts {
  readonly waiting: number;
  readonly active: number;
  readonly failed: number;
}

/** Resources of the server that the queue uses. */
export interface QueueLoad {
  /** Number of waiting or active jobs. */
  readonly jobs: number;
  readonly usedBytes: number;
  /** Memory limit of the server in bytes; null where it has none. */
  readonly limitBytes: number | null;
}

/** Load of the queue, by which producers decide when to wait. */
export interface QueueGauge {
  /** Current load. */
  load(): Promise<QueueLoad>;
}

/** The producer's side of the queue: a dispatcher whose content may be lost at any time. */
export interface JobQueue {
  /** Adds jobs. Jobs that the queue holds are left alone; remains of lost jobs are removed. Idempotent. */
  enqueue(params: Readonly<{ jobs: readonly JobPayload[] }>): Promise<void>;
  /** Like `enqueue`, but a finished or failed job of the same id is replaced by a fresh one. */
  requeue(params: Readonly<{ jobs: readonly JobPayload[] }>): Promise<void>;
  /**
   * The jobs that the queue has lost: they are neither waiting, active nor failed. Remains of a job on a damaged server do
   * not count.
   */
  unknown(params: Readonly<{ jobs: readonly JobPayload[] }>): Promise<JobPayload[]>;
  /** Removes jobs; active ones stay. @returns How many were removed. */
  remove(params: Readonly<{ jobs: readonly JobPayload[] }>): Promise<number>;
  /** Current counts. */
  counts(): Promise<QueueCounts>;
  /** Closes its connections; jobs stay. */
  close(): Promise<void>;
}

/** A job that has failed permanently. */
export interface JobFailure {
  readonly shard: string;
  /** Reason that the worker reported. */
  readonly reason: string;
}

/** Access to failed jobs and their reasons. */
export interface JobFailures {
  /** Failed jobs of a run, at most `limit`, the newest first. */
  failures(params: Readonly<{ run: string; limit: number }>): Promise<JobFailure[]>;
}

/** Mutual exclusion by time among all processes of a fleet. */
export interface Turn {
  /** True for the first caller, and false for all others until `durationMs` have passed. */
  take(params: Readonly<{ durationMs: number }>): Promise<boolean>;
  /**
   * A named lock, held until it is released; null while another holds it. It is renewed in the background, so a dead
   * holder's lock expires after `durationMs`. It only avoids duplicate work and guarantees nothing: a holder that is blocked
   * for longer, or a wiped server, leads to two holders.
   */
  hold(params: Readonly<{ name: string; durationMs: number }>): Promise<HeldTurn | null>;
  /** Closes its connection. Locks still held expire. */
  close(): Promise<void>;
}

/** A held lock. */
export interface HeldTurn {
  /** Never throws: a lock that cannot be released expires. */
  release(): Promise<void>;
}

/** Registry of live processes: a name disappears when its process dies. */
export interface Presence {
  /**
   * Publishes that a process is present, until it is withdrawn or ends.
   * @param describe The process's state, as plain data; called each time it is published. Default: null.
   */
  announce(name: string, describe?: () => unknown): Promise<void>;
  /** Never waits long: a name that cannot be withdrawn expires. */
  withdraw(name: string): Promise<void>;
  /** Names announced by any process. */
  present(): Promise<string[]>;
  /** State of each process present; null where it cannot be read. */
  states(): Promise<ReadonlyMap<string, unknown>>;
  /** Withdraws the names announced here and closes its connection. */
  close(): Promise<void>;
}

/** A job that this worker may work on until its lease is lost. */
export interface LeasedJob {
  readonly id: string;
  readonly payload: JobPayload;
  /** Number of times its lease lapsed because the worker or its connection died. */
  readonly stalls: number;
  /** Number of times it was handed out, this time included. */
  readonly starts?: number;
  /** Number of times it was returned after a fault; see `JobLeases.retry`. */
  readonly faults?: number;
}

/** A pulled job that cannot be worked on: the queue has failed it, or its payload is not readable. */
export interface RefusedJob {
  readonly id: string;
  readonly reason: string;
}

/** Outcome of a pull. */
export interface Pulled {
  readonly jobs: readonly LeasedJob[];
  readonly refused: readonly RefusedJob[];
}

/** The worker's side of the queue. Leases are renewed in the background until settled. */
export interface JobLeases {
  /**
   * Up to `max` jobs; with `wait`, waits a few seconds for the first one. An empty result is normal.
   * `until` ends the wait: nothing is pulled then, and a job that was on its way goes back to the queue.
   * @throws FleetError `contract_newer` when a newer version queued a job; all pulled jobs are returned to the queue.
   */
  pull(params: Readonly<{ max: number; wait: boolean; until?: AbortSignal }>): Promise<Pulled>;
  /** Completes a job whose output is committed. Never throws for a lost lease: the store is authoritative. */
  complete(params: Readonly<{ job: LeasedJob }>): Promise<"completed" | "lease-lost">;
  /** Returns a job that was not started: to the front of its queue, or delayed by `afterMs`. */
  giveBack(params: Readonly<{ job: LeasedJob; afterMs?: number }>): Promise<void>;
  /** Returns a job after a fault that the job itself may have caused: increments `faults` and keeps the reason. */
  retry(params: Readonly<{ job: LeasedJob; afterMs: number; reason: string }>): Promise<void>;
  /** Fails a job permanently, with a reason that `status` shows. */
  fail(params: Readonly<{ job: LeasedJob; reason: string }>): Promise<void>;
  /** Closes its connections; leases still held lapse. */
  close(): Promise<void>;
}

// --- Schedules ------------------------------------------------------------------------------

/** One occurrence of a schedule. */
export interface Tick {
  readonly schedule: string;
  /** Due time, in milliseconds since 1970. */
  readonly slotMs: number;
  /** Whether a person or program requested it, instead of the cron pattern. */
  readonly isTriggered: boolean;
}

/** - `later`: retried after `waitMs`, as the same tick. - `failed`: permanently. A processor that throws is retried. */
export type TickOutcome =
  | { readonly kind: "done" }
  | { readonly kind: "later"; readonly waitMs: number }
  | { readonly kind: "failed"; readonly reason: string };

/** What a process that keeps the schedules does with their ticks. */
export interface TickHandlers {
  /** Called for each tick that is due; may be called again for the same one. */
  readonly onTick: (tick: Tick) => Promise<TickOutcome>;
  /** Called when every attempt has thrown. */
  readonly onGivenUp: (tick: Tick, reason: string) => Promise<void>;
}

/** Queue of the ticks of a fleet's schedules; its content may be lost, as with the queue of jobs. */
export interface ControlQueue {
  /**
   * Registers the schedule. An identical existing one is left alone: rewriting it would cancel a tick that is due and not
   * started.
   */
  keep(schedule: Readonly<{ name: string; cron: string; tz: string }>): Promise<void>;
  /** Removes a schedule; an unknown one is not an error. */
  drop(name: string): Promise<void>;
  /** Names of the registered schedules. */
  kept(): Promise<string[]>;
  /** Adds a tick by hand; an existing one of the same schedule and time is left alone. */
  add(tick: Tick): Promise<void>;
  /** Ticks that are active, or due by `nowMs`. */
  pending(nowMs: number): Promise<Tick[]>;
  /** Starts processing ticks. */
  work(handlers: TickHandlers): Promise<void>;
  /** Waits for active ticks. */
  close(): Promise<void>;
}

// --- Model ----------------------------------------------------------------------------------

/** Token ids of a text. */
export interface Encoded {
  /** Token ids without special tokens. */
  readonly ids: Int32Array;
  /** For each token, its first UTF-16 code unit in the text. Empty unless requested. */
  readonly starts: Uint32Array;
}

/** Converter from texts to one model's token ids. */
export interface Tokenizer {
  /** Number of ids the tokenizer can produce; must not exceed the model's embedding table. */
  readonly vocabSize: number;
  /** Ids put before and after every row (`<s>` and `</s>`). */
  readonly prefixIds: readonly number[];
  readonly suffixIds: readonly number[];
  /**
   * Text before the text of every row; none when absent. A row's ids are those of the two encoded as one text
   * (`encodePrompted`): encoded apart, most tokenizers give other ids at the seam. `encode` itself does not add it.
   */
  readonly prompt?: string;
  /**
   * Encodes on all cores, off the calling thread. Order is preserved.
   * @param params.startsAbove Texts with more tokens than this get `starts`; none do by default.
   */
  encode(params: Readonly<{ texts: readonly string[]; startsAbove?: number }>): Promise<Encoded[]>;
}

/** A model on a device. Outputs are written directly into their shard's buffers. */
export interface Embedder {
  /** Name of the device: `cpu`, `cuda:0`, … */
  readonly device: string;
  /** Padded length in tokens of a batch whose longest row has `longest`; the device computes `rows` times that. */
  paddedLength(longest: number): number;
  /** Runs one batch. Batches queue up in order, so a caller may keep a few in flight. */
  embed(params: Readonly<{ rows: readonly RowRef[] }>): Promise<BatchReport>;
  /** Frees the device. Idempotent. */
  close(): Promise<void>;
}
