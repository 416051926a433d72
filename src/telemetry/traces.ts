/**
 * Traces: one span per shard and one per batch, linked both ways, because a batch has rows of many shards and a shard
 * is in many batches. Only OpenTelemetry's API is used: without a registered SDK, all of it is a no-op.
 */
import { type Span, SpanStatusCode, trace, type Tracer } from "@opentelemetry/api";
import type { FleetEvent, Observe, ShardName } from "../core/telemetry.ts";

/** Most open spans. Shards that are returned or failed end without an event; the oldest spans are closed. */
const MAX_OPEN_SHARDS = 1024;

type EventOf<K extends FleetEvent["kind"]> = Extract<FleetEvent, { kind: K }>;

export function observeTraces(tracer: Tracer = trace.getTracer("embedfleet")): Observe {
  const shards = new OpenShards(tracer);
  return (event) => {
    if (event.kind === "stage" && event.of !== undefined) shards.addStage(event, event.of);
    else if (event.kind === "batch") traceBatch(tracer, shards, event);
    else if (event.kind === "shard") shards.end(event);
  };
}

class OpenShards {
  readonly #tracer: Tracer;
  readonly #spans = new Map<string, Span>();

  constructor(tracer: Tracer) {
    this.#tracer = tracer;
  }

  find({ run, shard }: ShardName): Span | undefined {
    return this.#spans.get(`${run}/${shard}`);
  }

  /** Adds a stage as an event of the shard's span, which begins with the first stage. */
  addStage({ stage, startedAtMs, durationMs }: EventOf<"stage">, of: ShardName): void {
    const span = this.find(of) ?? (stage === "load" ? this.#begin(of, startedAtMs) : undefined);
    span?.addEvent(stage, { "embedfleet.duration_ms": durationMs }, startedAtMs);
  }

  #begin({ run, shard }: ShardName, startTime: number): Span {
    const attributes = { "embedfleet.run": run, "embedfleet.shard": shard };
    const span = this.#tracer.startSpan("shard", { startTime, attributes, root: true });
    this.#spans.set(`${run}/${shard}`, span);
    if (this.#spans.size > MAX_OPEN_SHARDS) this.#letGo();
    return span;
  }

  #letGo(): void {
    const [oldest] = this.#spans;
    if (oldest === undefined) return;
    this.#spans.delete(oldest[0]);
    oldest[1].setStatus({ code: SpanStatusCode.ERROR, message: "it was returned to the queue or failed" });
    oldest[1].end();
  }

  end(event: EventOf<"shard">): void {
    const span = this.find(event);
    this.#spans.delete(`${event.run}/${event.shard}`);
    span?.setAttributes({
      "embedfleet.rows": event.rows,
      "embedfleet.tokens": event.realTokens,
      "embedfleet.outcome": event.outcome,
    });
    span?.end(event.startedAtMs + event.durationMs);
  }
}

function traceBatch(tracer: Tracer, shards: OpenShards, event: EventOf<"batch">): void {
  const of = event.shares.flatMap((share) => shards.find(share) ?? []);
  const span = tracer.startSpan("batch", {
    startTime: event.startedAtMs,
    root: true,
    attributes: {
      "embedfleet.batch": event.batch,
      "embedfleet.rows": event.rowTokens.length,
      "embedfleet.longest_tokens": event.longestTokens,
      "embedfleet.tokens": event.realTokens,
      "embedfleet.padded_tokens": event.paddedTokens,
    },
    links: of.map((shard) => ({ context: shard.spanContext() })),
  });
  for (const shard of of) shard.addLink({ context: span.spanContext() });
  span.end(event.startedAtMs + event.deviceMs);
}
