/** Spans of shards and batches, through OpenTelemetry's own interfaces. */
import type { Link, Span, SpanContext, SpanOptions, Tracer } from "@opentelemetry/api";
import { expect, test } from "vitest";
import type { FleetEvent } from "../../src/core/telemetry.ts";
import { observeTraces } from "../../src/telemetry/traces.ts";

interface Recorded {
  readonly name: string;
  readonly context: SpanContext;
  readonly options: SpanOptions;
  readonly events: string[];
  readonly links: Link[];
  endedAt: unknown;
}

/** Records what it is told, as an SDK's tracer would. */
function recorder(): { tracer: Tracer; spans: Recorded[] } {
  const spans: Recorded[] = [];
  const startSpan = (name: string, options: SpanOptions = {}): Span => {
    const context: SpanContext = { traceId: "0".repeat(31) + "1", spanId: String(spans.length), traceFlags: 1 };
    const recorded: Recorded = { name, context, options, events: [], links: [...(options.links ?? [])], endedAt: null };
    spans.push(recorded);
    const span: Partial<Span> = {
      spanContext: () => context,
      setAttributes: () => span as Span,
      setStatus: () => span as Span,
      addEvent: (event) => {
        recorded.events.push(event);
        return span as Span;
      },
      addLink: (link) => {
        recorded.links.push(link);
        return span as Span;
      },
      end: (at) => void (recorded.endedAt = at),
    };
    return span as Span;
  };
  return { tracer: { startSpan } as Tracer, spans };
}

const BATCH: FleetEvent = {
  kind: "batch",
  batch: 1,
  rowTokens: [10],
  longestTokens: 10,
  realTokens: 10,
  paddedTokens: 10,
  startedAtMs: 200,
  deviceMs: 50,
  idleMs: 0,
  shares: [
    { run: "r", shard: "a", rows: 1, realTokens: 5 },
    { run: "r", shard: "b", rows: 1, realTokens: 5 },
  ],
};

function stage(name: "load" | "upload", shard: string, startedAtMs: number): FleetEvent {
  return { kind: "stage", stage: name, startedAtMs, durationMs: 10, of: { run: "r", shard } };
}

test("a batch is linked to its shards and they to it; a shard ends when its file is there", () => {
  const { tracer, spans } = recorder();
  const observe = observeTraces(tracer);
  observe(stage("load", "a", 100));
  observe(stage("load", "b", 101));
  observe(BATCH);
  observe(stage("upload", "a", 260));
  observe({
    kind: "shard",
    run: "r",
    shard: "a",
    outcome: "created",
    startedAtMs: 100,
    durationMs: 180,
    rows: 1,
    realTokens: 5,
  });
  const [a, b, batch] = spans;
  expect(spans.map(({ name }) => name)).toEqual(["shard", "shard", "batch"]);
  expect(a!.options.startTime).toBe(100);
  expect(a!.events).toEqual(["load", "upload"]);
  expect(a!.endedAt).toBe(280);
  expect(b!.endedAt).toBeNull();
  expect(batch!.links.map(({ context }) => context.spanId)).toEqual([a!.context.spanId, b!.context.spanId]);
  expect([a, b].map((span) => span!.links.map(({ context }) => context.spanId))).toEqual([["2"], ["2"]]);
  expect(batch!.endedAt).toBe(250);
});

test("shards that never end do not pile up", () => {
  const { tracer, spans } = recorder();
  const observe = observeTraces(tracer);
  for (let i = 0; i < 2000; i++) observe(stage("load", `s${i}`, i));
  expect(spans.filter(({ endedAt }) => endedAt === null)).toHaveLength(1024);
});

test("without an SDK all of it does nothing", () => {
  const observe = observeTraces();
  for (const event of [stage("load", "a", 1), BATCH]) expect(() => observe(event)).not.toThrow();
});
