/**
 * Traces: one span a shard and one a batch, linked both ways, because a batch is of many shards and a shard
 * of many batches. Only OpenTelemetry's API is used: without an SDK that someone registered, all of it does
 * nothing.
 */
import { type Span, SpanStatusCode, trace, type Tracer } from "@opentelemetry/api";
import type { FleetEvent, Observe, ShardName } from "../core/telemetry.ts";

/** Shards given back or failed end without a word; the oldest are let go. */
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

  /** The span of a shard begins with its first stage; each stage is an event in it. */
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
    oldest[1].setStatus({ code: SpanStatusCode.ERROR, message: "it was given back or failed" });
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
