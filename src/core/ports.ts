/**
 * The ports of the fleet: what stands between it and the services it uses. Each port has one conformance suite in
 * `test/conformance`, which every implementation passes. `PartQueue` is in `ingest.ts`; what opens all ports of a queue
 * server is in `queue-server.ts`.
 */
import type { BatchReport, RowRef } from "./batch.ts";
import type { JobPayload } from "./contracts.ts";

// --- Object store ---------------------------------------------------------------------------

/** Outcome of a create-if-absent. `exists` also covers a retry of our own request that had arrived. */
export type CreateOutcome = "created" | "exists";

/** Part of an object. */
export interface ByteRange {
  /** First byte, inclusive. */
  readonly start: number;
  /** One past the last byte. */
  readonly end: number;
}

/** Outcome of a replacement. `changed`: the object is not, or no longer, the version that was named; nothing was written. */
export type ReplaceOutcome = "replaced" | "changed";

/** What a listing says of an object. */
export interface ObjectInfo {
  readonly key: string;
  readonly bytes: number;
  /** When the object was last written, in milliseconds since 1970 by the store's clock and not by this machine's. */
  readonly modifiedAtMs: number;
}

/** An object as it was at one moment: `body` is what `version` stands for. */
export interface VersionedBody {
  readonly body: Uint8Array;
  /** Opaque; another one whenever the content is another. For `replace` on the same store. */
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
   * Creates the object whole, or leaves the one that is there. Never a partial object. Once it has answered, the body's
   * memory is the caller's to use for something else.
   */
  create(params: Readonly<{ key: string; body: Uint8Array }>): Promise<CreateOutcome>;
  /**
   * Replaces the object whole: readers see the old bytes or the new ones. Only a few small objects ever are replaced
   * (`latest.json`, the state of a schedule).
   *
   * @param params.ifVersion Only if the object is still this version, or with null only if it is not there. Left out:
   *   whatever is there. On a server that ignores conditions the version is compared just before the write, and a
   *   writer in that moment (one round trip) is overwritten; `probeStore` reports such a server.
   */
  replace(params: Readonly<{ key: string; body: Uint8Array; ifVersion?: string | null }>): Promise<ReplaceOutcome>;
  /**
   * The whole object and its version, or null when it is not there.
   * @throws FleetError `object_corrupt` if the object is larger than `maxBytes`.
   */
  readVersion(params: Readonly<{ key: string; maxBytes?: number }>): Promise<VersionedBody | null>;
  /** @throws FleetError `object_missing`; `object_corrupt` if the object is larger than `maxBytes` or shorter than `range`. */
  read(params: Readonly<{ key: string; range?: ByteRange; maxBytes?: number }>): Promise<Uint8Array>;
  /** The object's size and time, or null when it is not there. */
  stat(params: Readonly<{ key: string }>): Promise<ObjectInfo | null>;
  /** Every object whose key starts with `prefix`, in ascending order of key (code units). */
  list(params: Readonly<{ prefix: string }>): AsyncIterable<ObjectInfo>;
  /** Removing what is not there is no error. */
  remove(params: Readonly<{ key: string }>): Promise<void>;
  /** Ends its connections; what was begun is finished. */
  close(): Promise<void>;
}

// --- Corpus ---------------------------------------------------------------------------------

/**
 * The bytes of one corpus object, pinned when it was opened: an object that changes while it is read is
 * found and never read half old, half new.
 *
 * Faults: `source_changed`, `source_missing`, `source_unreadable` (one file or disk),
 * `store_unavailable` and `store_refused` (a server).
 */
export interface ByteSource {
  /** As people named it, or below the folder or prefix that they named. */
  readonly name: string;
  /** Null for a pipe, which can only be streamed, once. */
  readonly bytes: number | null;
  /** From byte `start` to the end, a bounded number of bytes ahead of the reader. */
  stream(params?: Readonly<{ start?: number }>): AsyncIterable<Buffer>;
  /** Exactly the range's bytes. Not for pipes. */
  readRange(range: ByteRange): Promise<Buffer>;
  /** Ends reading; the source itself stays as it is. */
  close(): Promise<void>;
}

// --- Queue ----------------------------------------------------------------------------------
//
// Faults of every port below: `redis_unavailable` (the server is away, full or loading: try again later) and
// `redis_unsuitable` (wrong credentials, permissions or kind of server: for people to fix).

/** Jobs by state. */
export interface QueueCounts {
  readonly waiting: number;
  readonly active: number;
  readonly failed: number;
}

/** What the queue takes of its server. */
export interface QueueLoad {
  /** Waiting or active. */
  readonly jobs: number;
  readonly usedBytes: number;
  /** Null where the server has no limit. */
  readonly limitBytes: number | null;
}

/** Tells producers when to wait. */
export interface QueueGauge {
  /** As it is now. */
  load(): Promise<QueueLoad>;
}

/** The producer's side of the queue: a dispatcher that may be wiped at any time. */
export interface JobQueue {
  /** Adds jobs; one that the queue holds is left alone. What is left of one that it has lost goes. Converges when repeated. */
  enqueue(params: Readonly<{ jobs: readonly JobPayload[] }>): Promise<void>;
  /** Like `enqueue`, but a finished or failed job of the same id is replaced by a fresh one. */
  requeue(params: Readonly<{ jobs: readonly JobPayload[] }>): Promise<void>;
  /**
   * Of these jobs, those that the queue has lost: no worker will be given them and none has them, and they have not
   * failed. What a damaged server has left of a job does not make it known.
   */
  unknown(params: Readonly<{ jobs: readonly JobPayload[] }>): Promise<JobPayload[]>;
  /** Takes jobs out; those being worked on stay. @returns How many are gone. */
  remove(params: Readonly<{ jobs: readonly JobPayload[] }>): Promise<number>;
  /** As they are now. */
  counts(): Promise<QueueCounts>;
  /** Ends its connections; jobs stay. */
  close(): Promise<void>;
}

/** A job that was given up for good. */
export interface JobFailure {
  readonly shard: string;
  /** What the worker gave as its reason. */
  readonly reason: string;
}

/** Says which jobs were given up, and why. */
export interface JobFailures {
  /** Failed jobs of a run, at most `limit`, the newest first. */
  failures(params: Readonly<{ run: string; limit: number }>): Promise<JobFailure[]>;
}

/** One turn at a time among all of a fleet's processes. */
export interface Turn {
  /** True for the first to ask, and for nobody else until `durationMs` have passed. */
  take(params: Readonly<{ durationMs: number }>): Promise<boolean>;
  /**
   * A turn of its own name, held until it is released; null while another holds it. It is renewed in the
   * background, so that of a holder that died it is free after `durationMs`. It spares work and guards nothing:
   * a holder held up for longer, or a wiped server, makes two holders.
   */
  hold(params: Readonly<{ name: string; durationMs: number }>): Promise<HeldTurn | null>;
  /** Ends its connection. What is still held is free when its time has passed. */
  close(): Promise<void>;
}

/** A turn that is held. */
export interface HeldTurn {
  /** Never throws: what cannot be released lapses. */
  release(): Promise<void>;
}

/** Which processes are at work: names that announce themselves, and disappear when their process dies. */
export interface Presence {
  /** @param describe What it reports about itself, as plain data; asked again each time. Default: null. */
  announce(name: string, describe?: () => unknown): Promise<void>;
  /** Never waits long: a name that cannot be withdrawn disappears by itself. */
  withdraw(name: string): Promise<void>;
  /** Names announced by any process. */
  present(): Promise<string[]>;
  /** What each of those present reports about itself; null where that cannot be read. */
  states(): Promise<ReadonlyMap<string, unknown>>;
  /** Withdraws the names announced here and ends its connection. */
  close(): Promise<void>;
}

/** A job that this worker may work on until its lease is lost. */
export interface LeasedJob {
  readonly id: string;
  readonly payload: JobPayload;
  /** How often its lease lapsed: a worker died with it, or something near it did. */
  readonly stalls: number;
  /** How often it was handed out, this time included. */
  readonly starts?: number;
  /** How often it was given back after a fault; see `JobLeases.retry`. */
  readonly faults?: number;
}

/** What a pull can yield besides good jobs: the queue's own verdict or a payload we cannot read. */
export interface RefusedJob {
  readonly id: string;
  readonly reason: string;
}

/** The outcome of a pull. */
export interface Pulled {
  readonly jobs: readonly LeasedJob[];
  readonly refused: readonly RefusedJob[];
}

/** The worker's side of the queue. Leases are renewed in the background until settled. */
export interface JobLeases {
  /**
   * Up to `max` jobs; with `wait`, waits a few seconds for the first one. An empty result is normal.
   * @throws FleetError `contract_newer` when a job is of a newer program; what was pulled is given back.
   */
  pull(params: Readonly<{ max: number; wait: boolean }>): Promise<Pulled>;
  /** The output is committed. Never throws for a lost lease: the store has the truth. */
  complete(params: Readonly<{ job: LeasedJob }>): Promise<"completed" | "lease-lost">;
  /** Hands an unstarted job back: to the front of its queue, or to be handed out after `afterMs`. */
  giveBack(params: Readonly<{ job: LeasedJob; afterMs?: number }>): Promise<void>;
  /** Hands a job back after a fault that may be its own: it counts one more of `faults`, and keeps the reason. */
  retry(params: Readonly<{ job: LeasedJob; afterMs: number; reason: string }>): Promise<void>;
  /** Gives up on a job for good, with a reason that `status` shows. */
  fail(params: Readonly<{ job: LeasedJob; reason: string }>): Promise<void>;
  /** Ends its connections; leases still held lapse. */
  close(): Promise<void>;
}

// --- Schedules ------------------------------------------------------------------------------

/** One occurrence of a schedule. */
export interface Tick {
  readonly schedule: string;
  /** When it was due, in milliseconds since 1970. */
  readonly slotMs: number;
  /** Asked for by someone, at any time. */
  readonly isTriggered: boolean;
}

/** - `later`: again after `waitMs`, as the same tick. - `failed`: for good. A processor that throws is tried again. */
export type TickOutcome =
  | { readonly kind: "done" }
  | { readonly kind: "later"; readonly waitMs: number }
  | { readonly kind: "failed"; readonly reason: string };

export interface TickHandlers {
  readonly onTick: (tick: Tick) => Promise<TickOutcome>;
  /** Every attempt has thrown. */
  readonly onGivenUp: (tick: Tick, reason: string) => Promise<void>;
}

/** Makes the ticks of a fleet's schedules when they are due: a dispatcher that may be wiped, like the queue of jobs. */
export interface ControlQueue {
  /**
   * Keeps the schedule. One that is there and the same is left alone: rewriting it would cancel a tick that is due and
   * not begun.
   */
  keep(schedule: Readonly<{ name: string; cron: string; tz: string }>): Promise<void>;
  /** Forgets a schedule; one that is not kept is no error. */
  drop(name: string): Promise<void>;
  /** Names of the schedules that are kept. */
  kept(): Promise<string[]>;
  /** Adds a tick by hand; one of the same schedule and time that is there is left alone. */
  add(tick: Tick): Promise<void>;
  /** Ticks that are worked on, or are due by `nowMs` and will be. */
  pending(nowMs: number): Promise<Tick[]>;
  /** Begins to work on ticks. */
  work(handlers: TickHandlers): Promise<void>;
  /** Waits for the ticks that are worked on. */
  close(): Promise<void>;
}

// --- Model ----------------------------------------------------------------------------------

/** A text as token ids. */
export interface Encoded {
  /** Token ids without special tokens. */
  readonly ids: Int32Array;
  /** For each token, its first UTF-16 code unit in the text. Empty unless asked for. */
  readonly starts: Uint32Array;
}

/** Text to the ids of one model. */
export interface Tokenizer {
  /** Number of ids the tokenizer can produce; must not exceed the model's embedding table. */
  readonly vocabSize: number;
  /** Ids put before and after every row (`<s>` and `</s>`). */
  readonly prefixIds: readonly number[];
  readonly suffixIds: readonly number[];
  /**
   * Encodes on all cores, off the calling thread. Order is kept.
   * @param params.startsAbove Texts of more tokens than this get `starts`; none do by default.
   */
  encode(params: Readonly<{ texts: readonly string[]; startsAbove?: number }>): Promise<Encoded[]>;
}

/** A model on a device. Rows are scattered straight into their shard's buffers. */
export interface Embedder {
  /** Where it runs: `cpu`, `cuda:0`, … */
  readonly device: string;
  /** Tokens that a batch is padded to whose longest row has `longest`; what the device computes is `rows` times that. */
  paddedLength(longest: number): number;
  /** Runs one batch. Batches queue up in order, so a caller may keep a few in flight. */
  embed(params: Readonly<{ rows: readonly RowRef[] }>): Promise<BatchReport>;
  /** Frees the device. Idempotent. */
  close(): Promise<void>;
}
