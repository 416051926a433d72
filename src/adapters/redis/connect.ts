/** Connections to Redis, and the proof that the server is fit to hold a queue. */
import { setTimeout as sleep } from "node:timers/promises";
import { Redis, type RedisOptions } from "ioredis";
import { FleetError, messageOf } from "../../core/errors.ts";

const MIN_VERSION = [6, 2] as const;
const CONNECT_TIMEOUT_MS = 10_000;

type ConnectionTuning = Pick<RedisOptions, "retryStrategy" | "maxRetriesPerRequest" | "commandTimeout">;

/**
 * `redis://`, `rediss://` (TLS) or `unix:///path/to/socket`.
 * @param giveUp When it aborts, the connection is cut, and what still waits for an answer rejects.
 */
export function connectRedis(url: string, options: ConnectionTuning = {}, giveUp?: AbortSignal): Redis {
  const redis = newRedis(url, options);
  giveUp?.addEventListener("abort", () => cut(redis), { once: true });
  return redis;
}

/** One that waits for its next attempt to connect has to make it: only its failure rejects what is asked of it. */
function cut(redis: Redis): void {
  redis.options.retryStrategy = () => null;
  if (redis.status !== "reconnecting") redis.disconnect();
}

function newRedis(url: string, options: ConnectionTuning): Redis {
  const common = {
    // BullMQ blocks and retries by itself; a bound here would surface as failed jobs in an outage.
    maxRetriesPerRequest: null,
    connectTimeout: CONNECT_TIMEOUT_MS,
    retryStrategy: (attempt: number) => Math.min(100 * 2 ** attempt, 3000),
    lazyConnect: true,
    ...options,
  };
  if (url.startsWith("unix://")) return new Redis({ ...common, path: url.slice("unix://".length) });
  if (/^rediss?:\/\//.test(url)) return new Redis(url, common);
  throw new FleetError("bad_usage", `${JSON.stringify(redactUrl(url))} is not a Redis address`, {
    cure: "use redis://host:port, rediss://host:port or unix:///path/to/socket",
  });
}

export interface RedisKeyParams {
  readonly redisUrl: string;
  readonly key: string;
  /** Aborts when Redis is waited for no longer. */
  readonly giveUp?: AbortSignal | undefined;
}

/** The address without user and password. */
export function redactUrl(url: string): string {
  return url.replace(/\/\/[^@/]*@/, "//***@");
}

/** Of a connection that is made anew at each try. */
const ANSWER_TIMEOUT_MS = 2000;
const ASK_AGAIN_MS = 500;

/**
 * Whether a server falls silent: asks it again and again on connections of its own.
 *
 * @param params.until Asked for no longer than this takes.
 * @returns true when there was no answer for `patienceMs`, false when `until` has come.
 */
export async function fallsSilent(
  params: Readonly<{ redisUrl: string; patienceMs: number; until: Promise<unknown> }>,
): Promise<boolean> {
  const over = params.until.then(
    () => true,
    () => true,
  );
  let answeredAtMs = performance.now();
  while (performance.now() - answeredAtMs < params.patienceMs) {
    if (await answers(params.redisUrl)) answeredAtMs = performance.now();
    if (await Promise.race([over, sleep(ASK_AGAIN_MS, false, { ref: false })])) return false;
  }
  return true;
}

async function answers(redisUrl: string): Promise<boolean> {
  const redis = connectRedis(redisUrl, {
    retryStrategy: () => null,
    maxRetriesPerRequest: 0,
    commandTimeout: ANSWER_TIMEOUT_MS,
  });
  redis.on("error", () => {});
  try {
    await redis.ping();
    return true;
  } catch {
    return false;
  } finally {
    redis.disconnect();
  }
}

export interface RedisCheckOptions {
  /** Warns of a server that keeps nothing on disk instead of refusing it. */
  readonly allowVolatile: boolean;
}

/**
 * Connects once and checks version, eviction policy and persistence.
 * @throws FleetError `redis_unavailable`, `redis_unsuitable`
 * @returns Warnings for the operator.
 */
export async function checkRedis(url: string, options: RedisCheckOptions): Promise<string[]> {
  const where = redactUrl(url);
  let failure: unknown;
  const redis = connectRedis(url, { retryStrategy: () => null, maxRetriesPerRequest: 1 });
  redis.on("error", (error) => (failure = error));
  try {
    await redis.connect();
    const info = parseInfo(await redis.info());
    assertVersion(info.get("redis_version") ?? "0", where);
    assertNoEviction(info.get("maxmemory_policy") ?? "unknown", where);
    if (info.get("aof_enabled") === "1") return [];
    const persistence = await persistenceOf(redis);
    if (persistence === "none" && !options.allowVolatile) throw volatile(where);
    return [
      `Redis at ${where} keeps ${KEEPS[persistence]}: a crash of Redis loses jobs, which workers queue again from the store`,
    ];
  } catch (error) {
    if (error instanceof FleetError) throw error;
    throw new FleetError("redis_unavailable", `Redis at ${where} cannot be used: ${messageOf(failure ?? error)}`, {
      cure: "start it, or pass another address with --redis or REDIS_URL",
      cause: failure ?? error,
    });
  } finally {
    redis.disconnect();
  }
}

export function parseInfo(text: string): Map<string, string> {
  const lines = text.split("\r\n").filter((line) => line.includes(":"));
  return new Map(lines.map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1)]));
}

const KEEPS = {
  none: "nothing on disk",
  snapshots: "no append-only file, only snapshots",
  unknown: "no append-only file",
};

/** Of a server without an append-only file. Managed servers do not let their configuration be read. */
async function persistenceOf(redis: Redis): Promise<keyof typeof KEEPS> {
  try {
    const [, save] = await redis.config("GET", "save");
    return save === "" ? "none" : "snapshots";
  } catch {
    return "unknown";
  }
}

function volatile(where: string): FleetError {
  return new FleetError(
    "redis_unsuitable",
    `Redis at ${where} keeps nothing on disk: a restart loses the whole queue`,
    {
      cure: `run: redis-cli -u ${where} CONFIG SET appendonly yes (and set it in redis.conf); or pass --allow-volatile-redis: workers then queue again from the store what a restart has lost`,
    },
  );
}

function assertVersion(version: string, where: string): void {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  if (major > MIN_VERSION[0] || (major === MIN_VERSION[0] && minor >= MIN_VERSION[1])) return;
  throw new FleetError(
    "redis_unsuitable",
    `Redis at ${where} is version ${version}; the queue needs ${MIN_VERSION.join(".")} or newer`,
    {
      cure: "upgrade Redis or point --redis at a newer server",
    },
  );
}

function assertNoEviction(policy: string, where: string): void {
  if (policy === "noeviction") return;
  throw new FleetError(
    "redis_unsuitable",
    `Redis at ${where} has maxmemory-policy ${policy} and may evict queued jobs`,
    {
      cure: `run: redis-cli -u ${where} CONFIG SET maxmemory-policy noeviction (and set it in redis.conf)`,
    },
  );
}
