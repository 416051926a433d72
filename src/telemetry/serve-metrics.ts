/** `/metrics` and `/healthz` of a worker or producer, for scrapers and supervisors. */
import { Hono } from "hono";
import { secureHeaders } from "hono/secure-headers";
import { type FleetEvent, nowMs, type Observe } from "../core/telemetry.ts";
import { type Listening, listen } from "./listen.ts";
import { Access } from "./access.ts";
import type { Metrics } from "./metrics.ts";

/** Milliseconds without an event after which a process counts as hung; longer than any wait for a store. */
const HUNG_AFTER_MS = 10 * 60 * 1000;
/** Grace period after the batch timeout: a worker with a hung device ends by itself before a supervisor restarts it. */
const AFTER_BATCH_MS = 60_000;

/** @param params.maxBatchMs Batch timeout in milliseconds, where the process has a device. */
export function hungAfterMs({ maxBatchMs = 0 }: Readonly<{ maxBatchMs?: number | undefined }>): number {
  return Math.max(HUNG_AFTER_MS, maxBatchMs + AFTER_BATCH_MS);
}

/** Number of job lock durations; leases have lapsed long before. */
const REDIS_SILENT_LOCKS = 2;

/** Milliseconds without an answer of Redis after which a process is unhealthy. */
export function redisSilentAfterMs({ lockSeconds }: Readonly<{ lockSeconds: number }>): number {
  return REDIS_SILENT_LOCKS * lockSeconds * 1000;
}

/** Events that occur only when work progresses, or when a producer has checked whether it may continue. */
const SIGNS_OF_LIFE = new Set<FleetEvent["kind"]>([
  "batch",
  "shard",
  "polled",
  "read-back",
  "tokenised",
  "window",
  "backpressure",
]);

/** Time of a process's last progress: health means progress, not an answer to a ping. */
export class ProgressWatch {
  readonly #hungAfterMs: number;
  readonly #redisSilentAfterMs: number;
  #lastMs = nowMs();
  #redisAnsweredAtMs: number | null = null;

  /**
   * @param params.hungAfterMs Milliseconds without progress after which the process counts as hung.
   * @param params.redisSilentAfterMs Milliseconds without an answer of Redis after which the process cannot work.
   */
  constructor(params: Readonly<{ hungAfterMs: number; redisSilentAfterMs: number }>) {
    this.#hungAfterMs = params.hungAfterMs;
    this.#redisSilentAfterMs = params.redisSilentAfterMs;
  }

  readonly observe: Observe = ({ kind }) => {
    if (kind === "redis-answered") this.#redisAnsweredAtMs = nowMs();
    if (SIGNS_OF_LIFE.has(kind)) this.#lastMs = nowMs();
  };

  /** Milliseconds since the last progress. */
  get silentMs(): number {
    return nowMs() - this.#lastMs;
  }

  /** Milliseconds since Redis last answered; 0 before its first answer. */
  get redisSilentMs(): number {
    return this.#redisAnsweredAtMs === null ? 0 : nowMs() - this.#redisAnsweredAtMs;
  }

  get isHung(): boolean {
    return this.silentMs >= this.#hungAfterMs;
  }

  get isRedisSilent(): boolean {
    return this.redisSilentMs >= this.#redisSilentAfterMs;
  }
}

/**
 * `/healthz` contains nothing secret and answers anyone; `/metrics` beyond this machine needs the token.
 * @throws FleetError `bad_usage` beyond loopback without a token.
 */
export async function serveMetrics(
  params: Readonly<{ metrics: Metrics; watch: ProgressWatch; host: string; port: number; token: string | undefined }>,
): Promise<Listening> {
  const { metrics, watch, host, port, token } = params;
  const access = new Access({ host, token });
  const app = new Hono();
  app.use(access.checkHost, secureHeaders());
  app.get("/metrics", access.forReading, async (c) =>
    c.text(await metrics.text(), 200, { "content-type": metrics.registry.contentType }),
  );
  app.get("/healthz", (c) => {
    const silentSeconds = Math.round(watch.silentMs / 1000);
    const redisSilentSeconds = Math.round(watch.redisSilentMs / 1000);
    const problem = watch.isRedisSilent ? "Redis does not answer" : watch.isHung ? "no progress" : null;
    return c.json({ status: problem ?? "ok", silentSeconds, redisSilentSeconds }, problem === null ? 200 : 503);
  });
  return listen({ app, host, port });
}
