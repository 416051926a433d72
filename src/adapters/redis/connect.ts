/** All connections to Redis, and the check that the server is fit to hold a queue. */
import { setTimeout as sleep } from "node:timers/promises";
import { Redis, type RedisOptions } from "ioredis";
import { FleetError, hasCode, messageOf } from "../../core/errors.ts";
import { redactUrl } from "../../core/redact-url.ts";
import { optionsOfAddress } from "./address.ts";
import { redisFault } from "./redis-faults.ts";

const MIN_VERSION = [6, 2] as const;
/** Longer than the deadline of the check at start, whose message says more. */
const CONNECT_TIMEOUT_MS = 12_000;
/** Timeout for each sentinel: a dead one must not use up the time for the others. */
const SENTINEL_TIMEOUT_MS = 3000;
const DISCONNECT_TIMEOUT_MS = 500;
/** Interval of TCP keep-alive; middleboxes drop connections that are idle for minutes. */
const KEEP_ALIVE_MS = 15_000;
/** Timeout of an answer, after which a connection counts as dead, whatever its TCP state. */
export const ANSWER_TIMEOUT_MS = 10_000;
/** Answer timeout where BullMQ's workers wait for jobs: their blocking calls take up to 10 s. */
export const BLOCKING_ANSWER_TIMEOUT_MS = 15_000;
/** Pause before a server that refuses is asked again. */
const REFUSED_PAUSE_MS = 500;

/**
 * Replies of a server that is not, or not yet, the right one: a primary that has become a replica, or one that loads
 * its data. Before Redis 7 a script wraps the code in its own message.
 */
const REFUSAL = /(?:^|[\s-])(?:READONLY|LOADING|MASTERDOWN|UNBLOCKED) /;

export interface ConnectionTuning extends Pick<
  RedisOptions,
  "retryStrategy" | "maxRetriesPerRequest" | "enableOfflineQueue" | "lazyConnect" | "sentinelRetryStrategy"
> {
  /** Reconnects when a command was sent and no answer has come for this long. */
  readonly answerTimeoutMs?: number;
}

/**
 * Connects at once, and reconnects when the connection is lost, when it gives no answer, or when its server refuses
 * because another is the primary now. Commands without an answer by then are sent again.
 *
 * @param url See `optionsOfAddress`.
 * @param giveUp On abort, the connection is closed, and pending commands reject.
 * @throws FleetError `bad_usage` when the address is not valid
 */
export function connectRedis(url: string, tuning: ConnectionTuning = {}, giveUp?: AbortSignal): Redis {
  const address = optionsOfAddress(url);
  const connectTimeout = address.sentinels === undefined ? CONNECT_TIMEOUT_MS : SENTINEL_TIMEOUT_MS;
  const redis = newConnection({ ...address, connectTimeout, ...optionsOf(tuning) });
  giveUp?.addEventListener("abort", () => cut(redis), { once: true });
  return redis;
}

function optionsOf({ answerTimeoutMs = ANSWER_TIMEOUT_MS, ...tuning }: ConnectionTuning): RedisOptions {
  let refusedAtMs = -Infinity;
  return {
    // BullMQ blocks and retries by itself; a limit here would show up as failed jobs in an outage.
    maxRetriesPerRequest: null,
    sentinelCommandTimeout: SENTINEL_TIMEOUT_MS,
    disconnectTimeout: DISCONNECT_TIMEOUT_MS,
    socketTimeout: answerTimeoutMs,
    keepAlive: KEEP_ALIVE_MS,
    retryStrategy: (attempt) => {
      const wasRefused = performance.now() - refusedAtMs < 2 * REFUSED_PAUSE_MS;
      return Math.max(Math.min(100 * 2 ** attempt, 3000), wasRefused ? REFUSED_PAUSE_MS : 0);
    },
    // Without it, a connection that finds no sentinel would end permanently.
    sentinelRetryStrategy: (attempt) => Math.min(100 * attempt, 3000),
    reconnectOnError: ({ message }) => {
      if (!REFUSAL.test(message)) return false;
      refusedAtMs = performance.now();
      return ASK_AGAIN;
    },
    ...tuning,
  };
}

/** Value by which ioredis reconnects and resends the refused command. */
const ASK_AGAIN = 2;

/** Connections of this process, to be reconnected when their address resolves to another server. */
const connections = new Set<Redis>();

function newConnection(options: RedisOptions): Redis {
  const redis: Redis = new Redis({ ...options, replyMapping: "legacy" });
  redis.on("ready", () => connections.add(redis));
  redis.on("close", () => connections.delete(redis));
  redis.on("error", (error: unknown) => {
    // ioredis would continue in database 0, which belongs to another user.
    if (isOfSelect(error)) redis.disconnect(true);
  });
  redis.on("end", () => rejectForgotten(redis));
  // BullMQ waits for jobs on a duplicate.
  redis.duplicate = (override) => newConnection({ ...redis.options, ...override });
  return redis;
}

/**
 * Rejects commands that were to be resent when the connection ended before it was ready again: ioredis forgets them, and
 * their callers would wait forever.
 */
function rejectForgotten(redis: Redis): void {
  const { prevCommandQueue: queue } = redis as unknown as { prevCommandQueue?: Redis["commandQueue"] | null };
  for (let item = queue?.shift(); item !== undefined; item = queue?.shift())
    item.command.reject(new Error("Connection is closed."));
}

function isOfSelect(error: unknown): boolean {
  return (error as { command?: { name?: unknown } }).command?.name === "select";
}

/**
 * Reconnects connections to another server than `runId`: a former primary may still answer, with outdated data.
 */
export function leaveServersOtherThan(runId: string): void {
  for (const redis of connections) {
    void redis.info("server").then(
      (info) => parseInfo(info).get("run_id") !== runId && redis.disconnect(true),
      () => {},
    );
  }
}

/**
 * Repeats a call of many commands that a lost connection has interrupted: ioredis resends none of those.
 * @param act An idempotent call.
 */
export async function untilAnswered<T>(act: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await act();
    } catch (error) {
      if (messageOf(error) !== "Command aborted due to connection close") throw error;
    }
  }
}

/** Closes a connection. If it waits to reconnect, it must try first: only a failed attempt rejects pending commands. */
function cut(redis: Redis): void {
  redis.options.retryStrategy = () => null;
  redis.options.sentinelRetryStrategy = () => null;
  if (redis.status !== "reconnecting") redis.disconnect();
}

export interface RedisKeyParams {
  readonly redisUrl: string;
  readonly key: string;
  /** Aborts to stop waiting for Redis. */
  readonly giveUp?: AbortSignal | undefined;
}

export interface RedisCheckOptions {
  /** Warns about a server without persistence instead of refusing it. */
  readonly allowVolatile: boolean;
}

/** Deadline from the first attempt to connect to the last answer. */
const CHECK_DEADLINE_MS = 10_000;

/**
 * Connects once and checks role, version, eviction policy, persistence and the database.
 * @throws FleetError `bad_usage`, `redis_unavailable`, `redis_unsuitable`
 * @returns Warnings for the operator.
 */
export async function checkRedis(url: string, options: RedisCheckOptions): Promise<string[]> {
  const where = redactUrl(url);
  let failure: unknown;
  const redis = connectRedis(url, ONCE);
  // The reason is a sentinel's own error, not the summary that none was usable.
  redis.on("sentinelError", (error: unknown) => (failure = error));
  redis.on("error", (error: Error) => {
    if (!error.message.startsWith("All sentinels are unreachable")) failure = error;
  });
  const over = new AbortController();
  try {
    return await Promise.race([inspect(redis, where, options), tooLate(redis, where, over.signal)]);
  } catch (error) {
    if (error instanceof FleetError) throw error;
    if (isOfSelect(failure)) throw withoutDatabase(where, redis.options.db, failure);
    const fault = redisFault(failure ?? error, `Redis at ${where} cannot be used`);
    if (hasCode(fault, "redis_unsuitable")) throw fault;
    throw new FleetError("redis_unavailable", `Redis at ${where} cannot be used: ${messageOf(failure ?? error)}`, {
      cure: "start it, or pass another address with --redis or REDIS_URL",
      cause: failure ?? error,
    });
  } finally {
    over.abort();
    redis.disconnect();
  }
}

const ONCE: ConnectionTuning = {
  retryStrategy: () => null,
  sentinelRetryStrategy: () => null,
  maxRetriesPerRequest: 1,
  lazyConnect: true,
};

async function inspect(redis: Redis, where: string, options: RedisCheckOptions): Promise<string[]> {
  await redis.connect();
  const info = parseInfo(await redis.info());
  assertVersion(info.get("redis_version") ?? "0", where);
  assertNoCluster(info, where);
  assertPrimary(info, where);
  assertNoEviction(info.get("maxmemory_policy") ?? "unknown", where);
  if (info.get("aof_enabled") === "1") return [];
  const persistence = await persistenceOf(redis);
  if (persistence === "none" && !options.allowVolatile) throw volatile(where);
  return [
    `Redis at ${where} keeps ${KEEPS[persistence]}: a crash of Redis loses jobs, which workers queue again from the store`,
  ];
}

const TRIED: ReadonlyMap<string, string> = new Map([
  ["connecting", "no connection was established"],
  ["connect", "it accepted the connection but answered neither HELLO nor INFO"],
  ["ready", "it accepted the connection and stopped answering"],
]);

/** @throws FleetError `redis_unavailable` when the deadline passes before `over`. */
async function tooLate(redis: Redis, where: string, over: AbortSignal): Promise<never> {
  await sleep(CHECK_DEADLINE_MS, undefined, { signal: over }).catch(() => {});
  const tried = TRIED.get(redis.status) ?? "the connection was lost";
  throw new FleetError(
    "redis_unavailable",
    `Redis at ${where} did not answer within ${CHECK_DEADLINE_MS / 1000} s: ${tried}`,
    {
      cure: "check that the address leads to a running Redis and not to another service or a firewall; or pass another with --redis or REDIS_URL",
    },
  );
}

function withoutDatabase(where: string, database: number | undefined, cause: unknown): FleetError {
  return new FleetError("redis_unsuitable", `Redis at ${where} cannot open database ${database}: ${messageOf(cause)}`, {
    cure: "put the number of an existing one at the end of the address (0 to 15 by default), or raise `databases` in redis.conf",
    cause,
  });
}

/** Refuses a cluster: a queue's keys would be on several nodes, and scripts that use them all fail half-way with MOVED. */
function assertNoCluster(info: ReadonlyMap<string, string>, where: string): void {
  if (info.get("cluster_enabled") !== "1") return;
  throw new FleetError("redis_unsuitable", `Redis at ${where} is a node of a cluster, which cannot hold the queue`, {
    cure: "use a Redis without cluster mode; for failover, use redis+sentinel://",
  });
}

/** Whether the server is read-only because another is the primary, perhaps since a moment ago. */
export function isReplica(info: ReadonlyMap<string, string>): boolean {
  return info.get("role") === "slave";
}

/** @returns The primary of a replica. */
export function primaryOf(info: ReadonlyMap<string, string>): string {
  return `${info.get("master_host")}:${info.get("master_port")}`;
}

function assertPrimary(info: ReadonlyMap<string, string>, where: string): void {
  if (!isReplica(info)) return;
  throw new FleetError("redis_unsuitable", `Redis at ${where} is a read-only replica of ${primaryOf(info)}`, {
    cure: "use the address of the primary, a name that resolves to it, or its sentinels: redis+sentinel://host:26379/name",
  });
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

/** Persistence of a server without an append-only file. Managed servers do not let their configuration be read. */
async function persistenceOf(redis: Redis): Promise<keyof typeof KEEPS> {
  try {
    const [, save] = await redis.config("GET", "save");
    return save === "" ? "none" : "snapshots";
  } catch {
    return "unknown";
  }
}

/** Call of redis-cli for a cure; redis-cli does not support sentinels. */
function cliOf(where: string): string {
  return where.includes("+sentinel:") ? "on each server: redis-cli" : `redis-cli -u ${where}`;
}

function volatile(where: string): FleetError {
  return new FleetError(
    "redis_unsuitable",
    `Redis at ${where} keeps nothing on disk: a restart loses the whole queue`,
    {
      cure: `run: ${cliOf(where)} CONFIG SET appendonly yes (and set it in redis.conf); or pass --allow-volatile-redis: workers then queue again from the store what a restart has lost`,
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
      cure: `run: ${cliOf(where)} CONFIG SET maxmemory-policy noeviction (and set it in redis.conf)`,
    },
  );
}
