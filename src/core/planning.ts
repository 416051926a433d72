/** Division of a corpus into windows, and of a window's rows into shards. */
import {
  type Head,
  type JobPayload,
  MAX_SHARD_ROWS,
  MAX_STAGED_SHARD_BYTES,
  PLAN_VERSION,
  type ShardPlan,
  type VectorType,
} from "./contracts.ts";
import { FleetError } from "./errors.ts";

const MI = 1024 * 1024;

// --- Windows --------------------------------------------------------------------------------

/** Limits of a window; it closes with the document that reaches one of them. */
export interface WindowLimits {
  readonly tokens: number;
  readonly rows: number;
  /** Number of documents and rejects; bounds a window that consists only of rejects. */
  readonly documents: number;
  /** UTF-16 code units of text; bounds a window whose rows keep their texts. */
  readonly textChars: number;
}

const FIRST_WINDOW_TOKENS = MI;
const LARGEST_WINDOW_TOKENS = 16 * MI;

/**
 * Tokens of a window. Windows double up to 16 Mi tokens: small first ones let workers begin seconds after the producer,
 * large later ones sort more rows together and pad less, and the maximum bounds the producer's memory.
 */
export function windowTokenLimit(index: number): number {
  return Math.min(FIRST_WINDOW_TOKENS * 2 ** index, LARGEST_WINDOW_TOKENS);
}

export function windowLimits(index: number): WindowLimits {
  return {
    tokens: windowTokenLimit(index),
    rows: 262_144,
    documents: 262_144,
    textChars: 256 * MI,
  };
}

// --- Shards ---------------------------------------------------------------------------------

/** Limits of a shard; it ends before the row that would exceed one. A single row may exceed them alone. */
export interface ShardLimits {
  readonly rows: number;
  readonly tokens: number;
  /** Size of the vectors in bytes: enough for two of the longest BGE-M3 rows with every head, 33.6 MB each. */
  readonly outputBytes: number;
  /** Size of the staged rows in bytes, well below `MAX_STAGED_SHARD_BYTES`, which also covers Arrow's overhead. */
  readonly stagedBytes: number;
}

export const SHARD_LIMITS: ShardLimits = {
  rows: 4096,
  tokens: MI,
  outputBytes: 72 * MI,
  stagedBytes: MAX_STAGED_SHARD_BYTES / 4,
};

/** Number of shards that a window's tokens are spread over, so that as many workers have work at once. */
const SHARDS_PER_WINDOW = 16;
/** Smallest shard in tokens: below it a shard's fixed cost (a job, a read, a file) is noticeable next to its inference. */
const LEAST_SHARD_TOKENS = 8192;
/** Most shards of a window; shard ids have four digits. */
const MAX_SHARDS_PER_WINDOW = 10_000;
/** Bytes of a staged row besides its id, text and tokens: chunk, span, text hash and offsets. */
const STAGED_ROW_BYTES = 56;

/** The options that decide the size of a result row. */
export interface OutputShape {
  readonly dim: number;
  readonly heads: readonly Head[];
  readonly vectors: VectorType;
}

/** Upper bound of the bytes of one row's vectors. */
export function outputBytesOfRow(tokens: number, shape: OutputShape): number {
  const vectorBytes = shape.dim * (shape.vectors === "float16" ? 2 : 4);
  let bytes = 0;
  if (shape.heads.includes("dense")) bytes += vectorBytes;
  if (shape.heads.includes("sparse")) bytes += tokens * 8;
  if (shape.heads.includes("colbert")) bytes += tokens * vectorBytes;
  return bytes;
}

/** Rows `order[start .. end)` of a window. */
export interface ShardSlice {
  readonly start: number;
  readonly end: number;
}

export interface ShardLayout {
  /** Row numbers, longest row first, equal lengths in corpus order. */
  readonly order: Uint32Array;
  readonly shards: readonly ShardSlice[];
}

/**
 * Sorts a window's rows by length and divides them into shards. A pure function of its arguments:
 * every producer of a run creates the same shards.
 *
 * @param params.lengths Number of tokens of each row, special tokens included.
 * @param params.carriedBytes Bytes of each row besides tokens and vectors: its id, and its text when the run keeps it.
 */
export function planShards(
  params: Readonly<{
    lengths: ArrayLike<number>;
    carriedBytes: ArrayLike<number>;
    shape: OutputShape;
    /** For each row, the first row with the same text; rows of equal length and text are then adjacent. */
    firsts?: ArrayLike<number>;
    limits?: ShardLimits;
  }>,
): ShardLayout {
  const { lengths, carriedBytes, shape, firsts } = params;
  const order = longestFirst(lengths);
  if (firsts !== undefined) order.sort((a, b) => lengths[b]! - lengths[a]! || firsts[a]! - firsts[b]! || a - b);
  const limits = spread(params.limits ?? SHARD_LIMITS, lengths);
  const shards: ShardSlice[] = [];
  let start = 0;
  let used = { tokens: 0, outputBytes: 0, stagedBytes: 0 };
  for (let end = 0; end < order.length; end++) {
    const row = order[end]!;
    const tokens = lengths[row]!;
    const carried = carriedBytes[row]!;
    const next = {
      tokens: used.tokens + tokens,
      outputBytes: used.outputBytes + outputBytesOfRow(tokens, shape) + carried,
      stagedBytes: used.stagedBytes + tokens * 4 + STAGED_ROW_BYTES + carried,
    };
    const fits =
      end - start < limits.rows &&
      next.tokens <= limits.tokens &&
      next.outputBytes <= limits.outputBytes &&
      next.stagedBytes <= limits.stagedBytes;
    if (fits || end === start) {
      used = next;
    } else {
      shards.push({ start, end });
      start = end;
      used = {
        tokens,
        outputBytes: next.outputBytes - used.outputBytes,
        stagedBytes: next.stagedBytes - used.stagedBytes,
      };
    }
  }
  if (start < order.length) shards.push({ start, end: order.length });
  assertShardCount(shards.length);
  return { order, shards };
}

/** One numeric sort of keys: the complement of the length in the high bits, the row number in the low 32. */
function longestFirst(lengths: ArrayLike<number>): Uint32Array {
  const keys = new Float64Array(lengths.length);
  for (let row = 0; row < keys.length; row++) {
    keys[row] = (MAX_SHARD_ROWS - lengths[row]!) * 2 ** 32 + row;
  }
  keys.sort();
  return Uint32Array.from(keys, (key) => key - Math.floor(key / 2 ** 32) * 2 ** 32);
}

function spread(limits: ShardLimits, lengths: ArrayLike<number>): ShardLimits {
  let total = 0;
  for (let row = 0; row < lengths.length; row++) total += lengths[row]!;
  const share = Math.max(Math.ceil(total / SHARDS_PER_WINDOW), LEAST_SHARD_TOKENS);
  return { ...limits, tokens: Math.min(limits.tokens, share) };
}

function assertShardCount(shards: number): void {
  if (shards <= MAX_SHARDS_PER_WINDOW) return;
  throw new FleetError(
    "bad_usage",
    `one window would need ${shards} shards; at most ${MAX_SHARDS_PER_WINDOW} are possible`,
    { cure: "lower --max-document-bytes or --overlap, or request fewer heads" },
  );
}

// --- Jobs -----------------------------------------------------------------------------------

/** The queue job of a planned shard: a pointer to its staged rows. */
export function jobOf(run: string, shard: ShardPlan): JobPayload {
  const { stagedSha256 } = shard;
  return {
    v: stagedSha256 === undefined ? 1 : PLAN_VERSION,
    run,
    shard: shard.shard,
    start: shard.start,
    end: shard.end,
    rows: shard.rows,
    tokens: shard.tokens,
    longest: shard.longest,
    ...(stagedSha256 !== undefined && { stagedSha256 }),
  };
}
