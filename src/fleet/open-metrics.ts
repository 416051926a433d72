/** The observers of a process of the fleet: metrics, which are served and pushed on request, traces and logs. */
import type { Logger } from "pino";
import { Pushgateway } from "prom-client";
import { messageOf } from "../core/errors.ts";
import { redactUrl } from "../core/redact-url.ts";
import { type Observe, observeAll } from "../core/telemetry.ts";
import { Metrics, type Role } from "../telemetry/metrics.ts";
import { observeMetrics } from "../telemetry/observe-metrics.ts";
import { observeLog } from "../telemetry/observe-log.ts";
import { hungAfterMs, ProgressWatch, redisSilentAfterMs, serveMetrics } from "../telemetry/serve-metrics.ts";
import { observeTraces } from "../telemetry/traces.ts";
import type { Closer } from "./open-ports.ts";
import { programVersion } from "./program-version.ts";
import type { MetricsSettings } from "./settings.ts";

const PUSH_TIMEOUT_MS = 5000;

/**
 * @param params.instance Name of this process for pushed metrics.
 * @param params.maxBatchMs Timeout of a batch, for a worker.
 */
export async function openMetrics(
  params: Readonly<{
    settings: MetricsSettings & Readonly<{ lockSeconds: number }>;
    role: Role;
    instance: string;
    maxBatchMs?: number;
    closer: Closer;
    log: Logger;
  }>,
): Promise<Observe> {
  const { settings, role, instance, closer, log } = params;
  const metrics = new Metrics({ role, version: programVersion() });
  const watch = new ProgressWatch({
    hungAfterMs: hungAfterMs(params),
    redisSilentAfterMs: redisSilentAfterMs(settings),
  });
  if (settings.metricsPush !== undefined) {
    const url = settings.metricsPush;
    closer.add({ close: () => push({ metrics, url, role, instance, log }) });
  }
  if (settings.metricsPort !== undefined) {
    const server = closer.add(
      await serveMetrics({
        metrics,
        watch,
        host: settings.metricsHost,
        port: settings.metricsPort,
        token: settings.token,
      }),
    );
    log.info({ url: `${server.url}/metrics` }, "metrics are served");
  }
  return observeAll([observeMetrics(metrics), watch.observe, observeTraces(), observeLog(log)]);
}

/** Pushes the metrics; a failure must not fail the work that they report. */
async function push(
  params: Readonly<{ metrics: Metrics; url: string; role: Role; instance: string; log: Logger }>,
): Promise<void> {
  const { metrics, url, role, instance, log } = params;
  try {
    const gateway = new Pushgateway(url, { timeout: PUSH_TIMEOUT_MS }, metrics.registry);
    await gateway.push({ jobName: `embedfleet_${role}`, groupings: { instance } });
  } catch (error) {
    log.warn({ err: error, url: redactUrl(url) }, `the metrics could not be pushed: ${messageOf(error)}`);
  }
}
