/** Mapping of errors of a Redis server, ioredis or BullMQ to faults with cures. */
import { type ErrorCode, FleetError, messageOf } from "../../core/errors.ts";
import { redactUrl } from "../../core/redact-url.ts";
import { isDamage } from "./queue-health.ts";

interface Rule {
  readonly code: Extract<ErrorCode, "redis_unavailable" | "redis_unsuitable">;
  readonly cure: string;
}

const AWAY: Rule = {
  code: "redis_unavailable",
  cure: "check that Redis runs and that the address leads to it; the request can be repeated",
};
const BUSY: Rule = {
  code: "redis_unavailable",
  cure: "wait until Redis is ready again; the request can be repeated",
};
const FULL: Rule = {
  code: "redis_unavailable",
  cure: "raise maxmemory in redis.conf, or let the workers empty the queue before more is planned",
};
const DISK: Rule = {
  code: "redis_unavailable",
  cure: "Redis cannot write its data to disk: free space there, or fix its permissions",
};
const REPLICA: Rule = {
  code: "redis_unavailable",
  cure: "use the address of the primary, a name that resolves to it, or its sentinels: redis+sentinel://host:26379/name",
};
const LOGIN: Rule = {
  code: "redis_unsuitable",
  cure: "put the right user and password in the address: redis://user:password@host:port",
};
const PERMISSION: Rule = {
  code: "redis_unsuitable",
  cure: "allow this user the commands and keys that the queue needs; infra/redis/users.acl lists them",
};
const CLUSTER: Rule = {
  code: "redis_unsuitable",
  cure: "use a Redis without cluster mode; for failover, use redis+sentinel://",
};
const DAMAGED: Rule = {
  code: "redis_unsuitable",
  cure: "something else is stored under a key of the queue: run `embedfleet resume`, remove the key, or use another --fleet or database",
};
const OTHER: Rule = {
  code: "redis_unsuitable",
  cure: "use Redis 6.2 or newer, with no command renamed or switched off",
};

/** Rules by the first word of an error reply. */
const RULE_OF_REPLY: Readonly<Record<string, Rule>> = {
  LOADING: BUSY,
  BUSY,
  MASTERDOWN: BUSY,
  UNBLOCKED: BUSY,
  TRYAGAIN: BUSY,
  CLUSTERDOWN: BUSY,
  NOSCRIPT: BUSY,
  EXECABORT: BUSY,
  NOREPLICAS: BUSY,
  READONLY: REPLICA,
  OOM: FULL,
  MISCONF: DISK,
  NOAUTH: LOGIN,
  WRONGPASS: LOGIN,
  DENIED: LOGIN,
  NOPERM: PERMISSION,
  MOVED: CLUSTER,
  ASK: CLUSTER,
  CROSSSLOT: CLUSTER,
};
/** Before Redis 7 a script wraps the word in its own message. */
const REPLY_WORD = new RegExp(String.raw`(?:^|[\s-])(${Object.keys(RULE_OF_REPLY).join("|")}) `);

/** Rules for replies that begin with ERR, by their text. */
const RULE_OF_PROSE: readonly (readonly [RegExp, Rule])[] = [
  [/max number of clients/i, BUSY],
  [/invalid password|AUTH/, LOGIN],
];

/** Errors of ioredis and BullMQ that have no code: the connection ended, or gave no answer in time. */
const CONNECTION_NAMES = new Set(["AbortError", "MaxRetriesPerRequestError", "ConnectionClosedError"]);
const CONNECTION_WORDS =
  /^(?:Connection is closed|Command timed out|Command aborted due to connection close|Socket timeout|Socket closed|Stream isn't writeable|All sentinels are unreachable|connect ETIMEDOUT|timeout$)/;
/**
 * Network error codes of Node.js: `ECONNREFUSED`, `ENOTFOUND`, `CERT_HAS_EXPIRED`. Not `ERR_INVALID_ARG_TYPE`, which is a
 * bug, and not `ENOMEM`, which is a problem of this machine.
 */
const NETWORK_CODE = /^(?:E(?!NOMEM|RR_)[A-Z]|CERT|SELF_SIGNED|DEPTH_ZERO|UNABLE_TO|ERR_(?:TLS|SSL|SOCKET|STREAM))/;

/** Runs a call to a server and maps its faults. */
export type Ask = <T>(what: string, act: () => Promise<T>) => Promise<T>;

/**
 * Creates the function that wraps an adapter's calls: `ask("count jobs", () => …)`.
 * @returns A function that throws FleetErrors for faults of the server and the connection, and other errors unchanged.
 */
export function askingServer(redisUrl: string): Ask {
  const where = redactUrl(redisUrl);
  return async (what, act) => {
    try {
      return await act();
    } catch (error) {
      throw redisFault(error, `Redis at ${where} could not ${what}`);
    }
  };
}

/**
 * @param problem The failed operation and its server.
 * @returns A FleetError for a fault of the server or the connection. Any other error, such as a bug, stays unchanged, so
 * that no caller takes it for an outage and waits.
 */
export function redisFault(error: unknown, problem: string): unknown {
  if (error instanceof FleetError) return error;
  const rule = ruleOf(error);
  if (rule === null) return error;
  return new FleetError(rule.code, `${problem}: ${messageOf(error)}`, { cure: rule.cure, cause: error });
}

/** Whether the server will recover by itself, or the connection be re-established. */
export function isPassingFault(error: unknown): boolean {
  return ruleOf(error)?.code === "redis_unavailable";
}

function ruleOf(error: unknown): Rule | null {
  if (!(error instanceof Error)) return null;
  const said = messageOf(error);
  const { code } = error as { code?: unknown };
  if (isReply(error)) return ruleOfReply(said);
  if (isDamage(error)) return DAMAGED;
  if (typeof code === "string" && NETWORK_CODE.test(code)) return AWAY;
  return CONNECTION_NAMES.has(error.name) || CONNECTION_WORDS.test(said) ? AWAY : null;
}

/** Whether the error is a server's reply, which BullMQ may throw as a plain error. */
function isReply(error: Error): boolean {
  return error.name === "ReplyError" || (error.name === "Error" && REPLY_WORD.test(error.message));
}

function ruleOfReply(said: string): Rule {
  const word = REPLY_WORD.exec(said)?.[1];
  if (word !== undefined) return RULE_OF_REPLY[word]!;
  if (isDamage(new Error(said))) return DAMAGED;
  return RULE_OF_PROSE.find(([words]) => words.test(said))?.[1] ?? OTHER;
}
