/** `/metrics` and `/healthz` of a worker or producer, for a scraper and for whoever restarts what hangs. */
import { Hono } from "hono";
import { secureHeaders } from "hono/secure-headers";
import { type FleetEvent, nowMs, type Observe } from "../core/telemetry.ts";
import { type Listening, listen } from "./listen.ts";
import { Access } from "./access.ts";
import type { Metrics } from "./metrics.ts";

/** Longer than any batch on any device: a process that says nothing for so long hangs. */
const HUNG_AFTER_MS = 10 * 60 * 1000;

/** Events that only come when work moves, or when a producer has looked whether it may. */
const SIGNS_OF_LIFE = new Set<FleetEvent["kind"]>(["batch", "shard", "polled", "tokenised", "window", "backpressure"]);

/** Remembers when a process last got on with its work: health is progress, not an answer to a ping. */
export class ProgressWatch {
  #lastMs = nowMs();

  readonly observe: Observe = ({ kind }) => {
    if (SIGNS_OF_LIFE.has(kind)) this.#lastMs = nowMs();
  };

  /** Milliseconds since the last sign of life. */
  get silentMs(): number {
    return nowMs() - this.#lastMs;
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
    const isHealthy = watch.silentMs < HUNG_AFTER_MS;
    return c.json({ status: isHealthy ? "ok" : "no progress", silentSeconds }, isHealthy ? 200 : 503);
  });
  return listen({ app, host, port });
}
