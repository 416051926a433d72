/**
 * Observability. Components report their work through one function with one typed event and do not depend on the
 * consumers: metrics, traces, `status`, or none.
 */

/** Stages of a shard in a worker, in order. `wait` is a ready batch's wait for the device. */
export const STAGES = ["pull", "load", "pack", "wait", "infer", "assemble", "encode", "upload", "complete"] as const;
/** Stage of a worker's pipeline. */
export type Stage = (typeof STAGES)[number];

/**
 * Causes of idle time of a device while its worker had jobs, or could have had some. `copying` is the time that the
 * device's own thread takes to assemble a batch and to store its results.
 */
export const IDLE_CAUSES = ["queue-empty", "pulling", "loading", "packing", "copying", "committing"] as const;
/** Cause of a device's idle time. */
export type IdleCause = (typeof IDLE_CAUSES)[number];
/** Idle milliseconds by cause. */
export type IdleTime = Partial<Record<IdleCause, number>>;

export function addIdle(sum: IdleTime, more: Readonly<IdleTime>): void {
  for (const cause of IDLE_CAUSES) {
    if (more[cause] !== undefined) sum[cause] = (sum[cause] ?? 0) + more[cause];
  }
}

/** Identifier of a shard. */
export interface ShardName {
  readonly run: string;
  readonly shard: string;
}

/** A shard's part of a batch. */
export interface BatchShare extends ShardName {
  readonly rows: number;
  readonly realTokens: number;
}

/** Event of a component. Times are milliseconds since the epoch, with fractions; durations are milliseconds. */
export type FleetEvent =
  /** A stage of a worker's pipeline ended, for one shard where it belongs to one. */
  | {
      readonly kind: "stage";
      readonly stage: Stage;
      readonly startedAtMs: number;
      readonly durationMs: number;
      readonly of?: ShardName;
    }
  /** The queue was asked for jobs, and answered. */
  | { readonly kind: "polled"; readonly jobs: number }
  /** A batch went through the model. */
  | {
      readonly kind: "batch";
      /** Batch number from 1 within the worker, for logs and traces. */
      readonly batch: number;
      readonly rowTokens: ArrayLike<number>;
      readonly longestTokens: number;
      readonly realTokens: number;
      readonly paddedTokens: number;
      readonly startedAtMs: number;
      readonly deviceMs: number;
      readonly idleMs: number;
      readonly shares: readonly BatchShare[];
    }
  /** The device was idle for a known cause. */
  | { readonly kind: "idle"; readonly cause: IdleCause; readonly durationMs: number }
  /** A shard's file is in the store, written by this worker or by another that was first. */
  | ({
      readonly kind: "shard";
      readonly outcome: "created" | "exists";
      readonly startedAtMs: number;
      readonly durationMs: number;
      readonly rows: number;
      readonly realTokens: number;
    } & ShardName)
  /** Documents or rows that are not in the output, with the reason from `rejects/`. */
  | { readonly kind: "rejects"; readonly reason: string; readonly count: number }
  /** Memory use of a worker now. */
  | { readonly kind: "held"; readonly shards: number; readonly bytes: number; readonly poolTokens: number }
  /** A batch did not fit the device's memory and was split in two. */
  | { readonly kind: "oom-split"; readonly rows: number; readonly paddedTokens: number }
  /** Work moved from one execution provider or device to another. */
  | { readonly kind: "fallback"; readonly from: string; readonly to: string; readonly reason: string }
  | { readonly kind: "breaker"; readonly name: string; readonly state: "closed" | "half-open" | "open" }
  /** `failed`: the queue could not be reached, and the leases may still be valid. */
  | { readonly kind: "leases"; readonly outcome: "renewed" | "lost" | "failed"; readonly count: number }
  /** Redis answered that it can hold the queue. */
  | { readonly kind: "redis-answered" }
  /** A job returned to the queue for a while because the store could not be reached. */
  | { readonly kind: "store-wait"; readonly reason: string }
  /** The lease of a pulled job had lapsed before: its worker died or lost the connection. */
  | { readonly kind: "stalled"; readonly count: number }
  /** Documents were tokenised. */
  | { readonly kind: "tokenised"; readonly documents: number; readonly tokens: number; readonly durationMs: number }
  /** A producer waited because the backlog or Redis memory reached its limit. */
  | { readonly kind: "backpressure"; readonly limit: "backlog" | "redis-memory"; readonly durationMs: number }
  /** A window is planned and queued. */
  | {
      readonly kind: "window";
      readonly run: string;
      readonly documents: number;
      readonly rows: number;
      readonly tokens: number;
      readonly shards: number;
    }
  /** A call to the store ended, retries included. `object` is the kind of the key: data, plan, rejects, … */
  | {
      readonly kind: "store";
      readonly operation: "create" | "replace" | "read" | "stat" | "list" | "remove";
      readonly object: string;
      readonly outcome: "ok" | "created" | "exists" | "failed";
      readonly durationMs: number;
      /** Written by `create` and `replace`, returned by `read`; 0 for the others. */
      readonly bytes: number;
    }
  /** The seal of a run has read back one more result file. */
  | { readonly kind: "read-back"; readonly run: string; readonly files: number; readonly plannedFiles: number }
  /** A round of the reconciler ended. */
  | { readonly kind: "reconciled"; readonly runs: number; readonly requeued: number; readonly sealed: number };

/** Consumer of events. Must not throw and must return at once: it is called between batches. */
export type Observe = (event: FleetEvent) => void;

/** Consumer that ignores all events. */
export const unobserved: Observe = () => {};

/** Combines several consumers into one. */
export function observeAll(listeners: readonly Observe[]): Observe {
  return (event) => {
    for (const listener of listeners) listener(event);
  };
}

/** Milliseconds since the epoch, with fractions, on a monotonic clock. */
export function nowMs(): number {
  return performance.timeOrigin + performance.now();
}

/** Runs a stage and reports its duration, even if it throws. */
export async function timed<T>(
  observe: Observe,
  stage: Readonly<{ stage: Stage; of?: ShardName }>,
  act: () => Promise<T>,
): Promise<T> {
  const startedAtMs = nowMs();
  try {
    return await act();
  } finally {
    observe({ kind: "stage", ...stage, startedAtMs, durationMs: nowMs() - startedAtMs });
  }
}

/** Like `timed`, for a synchronous stage. */
export function timedSync<T>(observe: Observe, stage: Readonly<{ stage: Stage; of?: ShardName }>, act: () => T): T {
  const startedAtMs = nowMs();
  try {
    return act();
  } finally {
    observe({ kind: "stage", ...stage, startedAtMs, durationMs: nowMs() - startedAtMs });
  }
}
