/** Converts events of the fleet's components to metrics. */
import type { FleetEvent, Observe } from "../core/telemetry.ts";
import type { Metrics } from "./metrics.ts";
import { Rate } from "./rate.ts";

const BREAKER_STATES = { closed: 0, "half-open": 1, open: 2 } as const;

type EventOf<K extends FleetEvent["kind"]> = Extract<FleetEvent, { kind: K }>;

export function observeMetrics(metrics: Metrics): Observe {
  const batches = batchObserver(metrics);
  return (event) => {
    switch (event.kind) {
      case "batch":
        return batches(event);
      case "stage":
        return metrics.record("stageSeconds", event.durationMs / 1000, { stage: event.stage });
      case "idle":
        return metrics.add("idleCauseSeconds", event.durationMs / 1000, { cause: event.cause });
      case "shard":
        return metrics.add("shards", 1, { outcome: event.outcome });
      case "rejects":
        metrics.add("rejects", event.count, { reason: event.reason });
        return event.reason === "non_finite" ? metrics.add("nonFiniteRows", event.count) : undefined;
      case "leases":
        return metrics.add(LEASE_METRIC[event.outcome], event.count);
      case "stalled":
        return metrics.add("stalls", event.count);
      case "store":
        return countStore(metrics, event);
      case "tokenised":
        metrics.add("tokenisedDocuments", event.documents);
        metrics.add("tokenisedTokens", event.tokens);
        return metrics.add("tokeniserSeconds", event.durationMs / 1000);
      case "window":
        return countWindow(metrics, event);
      case "backpressure":
        return metrics.add("backpressureSeconds", event.durationMs / 1000, { reason: event.limit });
      case "reconciled":
        metrics.add("requeued", event.requeued);
        metrics.add("sealed", event.sealed);
        return metrics.set("lastTend", Date.now() / 1000);
      case "polled":
      case "store-wait":
      case "redis-answered":
      case "read-back":
        return undefined;
      default:
        return setDevice(metrics, event);
    }
  };
}

const LEASE_METRIC = { renewed: "leaseRenewals", lost: "leasesLost", failed: "leaseFailures" } as const;

/** Updates the metrics of a worker's device and memory. */
function setDevice(metrics: Metrics, event: EventOf<"held" | "oom-split" | "fallback" | "breaker">): void {
  switch (event.kind) {
    case "held":
      metrics.set("heldShards", event.shards);
      metrics.set("heldBytes", event.bytes);
      return metrics.set("poolTokens", event.poolTokens);
    case "oom-split":
      return metrics.add("oomSplits", 1);
    case "fallback":
      return metrics.add("fallbacks", 1, { from: event.from, to: event.to });
    case "breaker":
      return metrics.set("breakerState", BREAKER_STATES[event.state], { breaker: event.name });
  }
}

function batchObserver(metrics: Metrics): (event: EventOf<"batch">) => void {
  const busy = new Rate();
  const held = new Rate();
  const tokens = new Rate();
  return (event) => {
    metrics.add("batches", 1);
    metrics.add("rows", event.rowTokens.length);
    metrics.add("realTokens", event.realTokens);
    metrics.add("paddedTokens", event.paddedTokens);
    metrics.record("batchRows", event.rowTokens.length);
    metrics.record("batchLongestTokens", event.longestTokens);
    for (let row = 0; row < event.rowTokens.length; row++) metrics.record("rowTokens", event.rowTokens[row]!);
    metrics.record("stageSeconds", event.deviceMs / 1000, { stage: "infer" });
    metrics.add("deviceBusySeconds", event.deviceMs / 1000);
    metrics.add("deviceIdleSeconds", event.idleMs / 1000);
    const atMs = event.startedAtMs + event.deviceMs;
    busy.add(event.deviceMs, atMs);
    held.add(event.deviceMs + event.idleMs, atMs);
    tokens.add(event.realTokens, atMs);
    metrics.set("deviceBusyRatio", busy.sum(atMs) / Math.max(held.sum(atMs), 1e-9));
    metrics.set("tokensPerSecond", tokens.perSecond(atMs));
  };
}

function countStore(metrics: Metrics, event: EventOf<"store">): void {
  const { operation, object, outcome, durationMs, bytes } = event;
  metrics.record("storeSeconds", durationMs / 1000, { operation });
  if (outcome === "failed") metrics.add("storeFailures", 1, { operation });
  if (operation === "create") metrics.add("creates", 1, { object, outcome });
  if (bytes > 0) metrics.add("storeBytes", bytes, { direction: operation === "read" ? "read" : "written" });
}

function countWindow(metrics: Metrics, event: EventOf<"window">): void {
  metrics.add("plannedWindows", 1);
  metrics.add("plannedRows", event.rows);
  metrics.add("plannedTokens", event.tokens);
  metrics.add("plannedShards", event.shards);
}
