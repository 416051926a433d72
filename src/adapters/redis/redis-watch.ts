/**
 * Asks a Redis once a second, on a separate connection, whether it can hold the queue. Reports when it cannot and when it
 * can again, in the log and to health checks. Work itself just waits.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Redis } from "ioredis";
import { type Logger, pino } from "pino";
import { messageOf } from "../../core/errors.ts";
import type { QueueWatch } from "../../core/queue-server.ts";
import { redactUrl } from "../../core/redact-url.ts";
import { nowMs, type Observe, unobserved } from "../../core/telemetry.ts";
import { connectRedis, isReplica, leaveServersOtherThan, parseInfo, primaryOf } from "./connect.ts";

const ASK_INTERVAL_MS = 1000;
const ANSWER_TIMEOUT_MS = 2000;
/** Shortest outage in milliseconds that is reported; restarts and failovers take less. */
const SAY_AFTER_MS = 5000;
/** Fewest failures that are reported: one may be an answer that came while this thread was blocked. */
const SAY_AFTER_FAILURES = 2;

export interface RedisWatchParams {
  readonly redisUrl: string;
  /** No logging by default. */
  readonly log?: Logger;
  readonly observe?: Observe;
}

export class RedisWatch implements QueueWatch {
  readonly #redis: Redis;
  readonly #address: string;
  readonly #log: Logger;
  readonly #observe: Observe;
  readonly #closing = new AbortController();
  #answeredAtMs = nowMs();
  #server: string | undefined;
  #failures = 0;
  #hasSaidSo = false;
  #lostBecause = "";

  constructor(params: RedisWatchParams) {
    this.#address = redactUrl(params.redisUrl);
    this.#log = params.log ?? pino({ level: "silent" });
    this.#observe = params.observe ?? unobserved;
    this.#redis = connectRedis(params.redisUrl, {
      answerTimeoutMs: ANSWER_TIMEOUT_MS,
      retryStrategy: () => ASK_INTERVAL_MS / 2,
      // A query is answered now or fails.
      maxRetriesPerRequest: 0,
      enableOfflineQueue: false,
    });
    this.#redis.on("error", (error) => (this.#lostBecause = messageOf(error)));
    void this.#goOnAsking();
  }

  get silentMs(): number {
    return nowMs() - this.#answeredAtMs;
  }

  async fallsSilent(params: Readonly<{ patienceMs: number; until: Promise<unknown> }>): Promise<boolean> {
    const { patienceMs, until } = params;
    const over = until.then(
      () => true,
      () => true,
    );
    const sinceMs = nowMs();
    for (;;) {
      const silentMs = Math.min(this.silentMs, nowMs() - sinceMs);
      if (silentMs >= patienceMs) return true;
      if (await Promise.race([over, sleep(patienceMs - silentMs, false, { ref: false })])) return false;
    }
  }

  async #goOnAsking(): Promise<void> {
    while (!this.#closing.signal.aborted) {
      await this.#ask();
      await sleep(ASK_INTERVAL_MS, undefined, { signal: this.#closing.signal, ref: false }).catch(() => {});
    }
  }

  async #ask(): Promise<void> {
    try {
      const [server, replication] = await Promise.all([this.#redis.info("server"), this.#redis.info("replication")]);
      const role = parseInfo(replication);
      if (!isReplica(role)) return this.#answered(parseInfo(server).get("run_id"));
      this.#lostBecause = `it is a read-only replica of ${primaryOf(role)}`;
      // The address may resolve to another server by now.
      this.#redis.disconnect(true);
    } catch (error) {
      // Without a connection the reason is why there is none.
      if (this.#redis.status === "ready") this.#lostBecause = messageOf(error);
    }
    this.#failed();
  }

  #answered(server: string | undefined): void {
    const { silentMs } = this;
    this.#answeredAtMs = nowMs();
    this.#failures = 0;
    this.#observe({ kind: "redis-answered" });
    if (this.#hasSaidSo)
      this.#log.warn({ address: this.#address, silentSeconds: secondsOf(silentMs) }, "Redis answers again");
    this.#hasSaidSo = false;
    if (server !== undefined && this.#server !== undefined && server !== this.#server) leaveServersOtherThan(server);
    this.#server = server;
  }

  #failed(): void {
    this.#failures++;
    if (this.#hasSaidSo || this.#closing.signal.aborted) return;
    if (this.silentMs < SAY_AFTER_MS || this.#failures < SAY_AFTER_FAILURES) return;
    this.#hasSaidSo = true;
    const fields = { address: this.#address, silentSeconds: secondsOf(this.silentMs), reason: this.#lostBecause };
    this.#log.warn(fields, "Redis does not answer: work that needs it waits until it does");
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#redis.disconnect();
  }
}

function secondsOf(ms: number): number {
  return Math.round(ms / 1000);
}
