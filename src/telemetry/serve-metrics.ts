/** `/metrics` and `/healthz` of a worker or producer, for a scraper and for whoever restarts what hangs. */
import { Hono } from "hono";
import { secureHeaders } from "hono/secure-headers";
import { type FleetEvent, nowMs, type Observe } from "../core/telemetry.ts";
import { type Listening, listen } from "./listen.ts";
import { Access } from "./access.ts";
import type { Metrics } from "./metrics.ts";

/** Longer than a store is waited for: a process that says nothing for so long hangs. */
const HUNG_AFTER_MS = 10 * 60 * 1000;
/** A worker whose device hangs says so and ends by itself, before anyone restarts it. */
const AFTER_BATCH_MS = 60_000;

/** @param params.maxBatchMs How long a device may give no answer, where the process has one. */
export function hungAfterMs({ maxBatchMs = 0 }: Readonly<{ maxBatchMs?: number | undefined }>): number {
  return Math.max(HUNG_AFTER_MS, maxBatchMs + AFTER_BATCH_MS);
}

/** Leases have lapsed long before. */
const REDIS_SILENT_LOCKS = 2;

/** How long Redis may give no answer before a process is unhealthy. */
export function redisSilentAfterMs({ lockSeconds }: Readonly<{ lockSeconds: number }>): number {
  return REDIS_SILENT_LOCKS * lockSeconds * 1000;
}

/** Events that only come when work moves, or when a producer has looked whether it may. */
const SIGNS_OF_LIFE = new Set<FleetEvent["kind"]>([
  "batch",
  "shard",
  "polled",
  "read-back",
  "tokenised",
  "window",
  "backpressure",
]);

/** Remembers when a process last got on with its work: health is progress, not an answer to a ping. */
export class ProgressWatch {
  readonly #hungAfterMs: number;
  readonly #redisSilentAfterMs: number;
  #lastMs = nowMs();
  #redisAnsweredAtMs: number | null = null;

  /**
   * @param params.hungAfterMs Without a sign of life for so long, the process hangs.
   * @param params.redisSilentAfterMs Without an answer of Redis for so long, the process can do no work.
   */
  constructor(params: Readonly<{ hungAfterMs: number; redisSilentAfterMs: number }>) {
    this.#hungAfterMs = params.hungAfterMs;
    this.#redisSilentAfterMs = params.redisSilentAfterMs;
  }

  readonly observe: Observe = ({ kind }) => {
    if (kind === "redis-answered") this.#redisAnsweredAtMs = nowMs();
    if (SIGNS_OF_LIFE.has(kind)) this.#lastMs = nowMs();
  };

  /** Milliseconds since the last sign of life. */
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
 * `/healthz` says nothing that is worth hiding and answers anyone; `/metrics` beyond this machine needs the token.
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
