/**
 * What the fleet's parts say about their work while they do it. They call one function with one typed
 * event and know nothing of who listens: metrics, traces, `status`, or nobody.
 */

/** Where a shard's time goes in a worker, in order. `wait` is a ready batch's wait for the device. */
export const STAGES = ["pull", "load", "pack", "wait", "infer", "assemble", "encode", "upload", "complete"] as const;
/** Part of a worker's pipeline. */
export type Stage = (typeof STAGES)[number];

/**
 * Why a device had nothing to do while its worker had jobs, or could have had some. `copying` is the time
 * that the device's own thread takes to put a batch together and its results away.
 */
export const IDLE_CAUSES = ["queue-empty", "pulling", "loading", "packing", "copying", "committing"] as const;
/** Why a device stood still. */
export type IdleCause = (typeof IDLE_CAUSES)[number];
/** Milliseconds by cause. */
export type IdleTime = Partial<Record<IdleCause, number>>;

export function addIdle(sum: IdleTime, more: Readonly<IdleTime>): void {
  for (const cause of IDLE_CAUSES) {
    if (more[cause] !== undefined) sum[cause] = (sum[cause] ?? 0) + more[cause];
  }
}

/** Which shard. */
export interface ShardName {
  readonly run: string;
  readonly shard: string;
}

/** A shard's part of a batch. */
export interface BatchShare extends ShardName {
  readonly rows: number;
  readonly realTokens: number;
}

/** Times are milliseconds since the epoch, with fractions; durations are milliseconds. */
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
      /** Numbered from 1 within the worker, for logs and traces. */
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
  /** The device stood still for a known reason. */
  | { readonly kind: "idle"; readonly cause: IdleCause; readonly durationMs: number }
  /** A shard's file is in the store: ours, or another worker's who was first. */
  | ({
      readonly kind: "shard";
      readonly outcome: "created" | "exists";
      readonly startedAtMs: number;
      readonly durationMs: number;
      readonly rows: number;
      readonly realTokens: number;
    } & ShardName)
  /** Documents or rows that are not in the output, with the reason that stands in `rejects/`. */
  | { readonly kind: "rejects"; readonly reason: string; readonly count: number }
  /** What a worker holds in memory now. */
  | { readonly kind: "held"; readonly shards: number; readonly bytes: number; readonly poolTokens: number }
  /** A batch did not fit the device's memory and was cut in two. */
  | { readonly kind: "oom-split"; readonly rows: number; readonly paddedTokens: number }
  /** Work moved from one execution provider or device to another. */
  | { readonly kind: "fallback"; readonly from: string; readonly to: string; readonly reason: string }
  | { readonly kind: "breaker"; readonly name: string; readonly state: "closed" | "half-open" | "open" }
  /** `failed`: the queue could not be asked, and the leases may live on. */
  | { readonly kind: "leases"; readonly outcome: "renewed" | "lost" | "failed"; readonly count: number }
  /** Redis was asked whether it can hold the queue, and answered that it can. */
  | { readonly kind: "redis-answered" }
  /** A job went back to the queue for a while because the store could not be reached. */
  | { readonly kind: "store-wait"; readonly reason: string }
  /** A pulled job's lease had lapsed before: a worker died with it, or lost touch. */
  | { readonly kind: "stalled"; readonly count: number }
  /** Documents became token ids. */
  | { readonly kind: "tokenised"; readonly documents: number; readonly tokens: number; readonly durationMs: number }
  /** A producer waited because the queue or Redis has enough for now. */
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
  /** A call on the store ended, retries included. `object` is what the key names: data, plan, rejects, … */
  | {
      readonly kind: "store";
      readonly operation: "create" | "replace" | "read" | "stat" | "list" | "remove";
      readonly object: string;
      readonly outcome: "ok" | "created" | "exists" | "failed";
      readonly durationMs: number;
      /** Written by `create` and `replace`, returned by `read`; 0 for the others. */
      readonly bytes: number;
    }
  /** A run is being sealed, and another of its result files has been read back. */
  | { readonly kind: "read-back"; readonly run: string; readonly files: number; readonly plannedFiles: number }
  /** A round of the reconciler ended. */
  | { readonly kind: "reconciled"; readonly runs: number; readonly requeued: number; readonly sealed: number };

/** Must not throw and must return at once: it is called between batches. */
export type Observe = (event: FleetEvent) => void;

/** Nobody listens. */
export const unobserved: Observe = () => {};

/** Several listeners as one. */
export function observeAll(listeners: readonly Observe[]): Observe {
  return (event) => {
    for (const listener of listeners) listener(event);
  };
}

/** Milliseconds since the epoch, with fractions, on a clock that never goes back. */
export function nowMs(): number {
  return performance.timeOrigin + performance.now();
}

/** Runs a stage and says how long it took, however it ended. */
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

/** The same for a stage that does not wait for anything. */
export function timedSync<T>(observe: Observe, stage: Readonly<{ stage: Stage; of?: ShardName }>, act: () => T): T {
  const startedAtMs = nowMs();
  try {
    return act();
  } finally {
    observe({ kind: "stage", ...stage, startedAtMs, durationMs: nowMs() - startedAtMs });
  }
}
