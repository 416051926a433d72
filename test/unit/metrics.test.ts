/** What the fleet says of its work, counted under the names that the documentation lists. */
import { expect, test } from "vitest";
import type { FleetEvent } from "../../src/core/telemetry.ts";
import { METRICS, Metrics } from "../../src/telemetry/metrics.ts";
import { observeMetrics } from "../../src/telemetry/observe-metrics.ts";
import { Rate } from "../../src/telemetry/rate.ts";

const BATCH: FleetEvent = {
  kind: "batch",
  batch: 1,
  rowTokens: [100, 50, 30],
  longestTokens: 100,
  realTokens: 180,
  paddedTokens: 300,
  startedAtMs: 1_000_000,
  deviceMs: 400,
  idleMs: 100,
  shares: [{ run: "r", shard: "w000000-s0000", rows: 3, realTokens: 180 }],
};

test("names carry units, help says something, and counters are totals", () => {
  for (const { name, help, type } of Object.values(METRICS)) {
    expect(name).toMatch(/^embedfleet_[a-z_]+$/);
    expect(help.length, name).toBeGreaterThan(10);
    if (type === "counter") expect(name).toMatch(/_total$/);
    else expect(name).not.toMatch(/_total$/);
    expect(name).not.toMatch(/_ms$|_milliseconds|_percent|megabytes/);
  }
});

test("a batch is counted in rows, real and padded tokens, lengths and device time", async () => {
  const metrics = new Metrics({ role: "worker", version: "1" });
  const observe = observeMetrics(metrics);
  observe(BATCH);
  observe({ ...BATCH, batch: 2, startedAtMs: 1_001_000 });
  const text = await metrics.text();
  for (const line of [
    "embedfleet_rows_total 6",
    "embedfleet_real_tokens_total 360",
    "embedfleet_padded_tokens_total 600",
    "embedfleet_batches_total 2",
    'embedfleet_row_tokens_bucket{le="64"} 4',
    'embedfleet_stage_seconds_count{stage="infer"} 2',
    "embedfleet_device_busy_seconds_total 0.8",
    "embedfleet_device_busy_ratio 0.8",
  ]) {
    expect(text).toContain(line);
  }
});

test("every other event lands where it belongs", async () => {
  const metrics = new Metrics({ role: "worker", version: "1" });
  const observe = observeMetrics(metrics);
  const events: FleetEvent[] = [
    { kind: "stage", stage: "upload", startedAtMs: 0, durationMs: 20 },
    { kind: "shard", outcome: "exists", run: "r", shard: "s", startedAtMs: 0, durationMs: 1, rows: 1, realTokens: 9 },
    { kind: "rejects", reason: "non_finite", count: 2 },
    { kind: "leases", outcome: "renewed", count: 5 },
    { kind: "leases", outcome: "lost", count: 1 },
    { kind: "stalled", count: 3 },
    { kind: "store", operation: "create", object: "data", outcome: "exists", durationMs: 5, bytes: 0 },
    { kind: "oom-split", rows: 8, paddedTokens: 800 },
    { kind: "fallback", from: "tensorrt", to: "cuda", reason: "engine build failed" },
    { kind: "breaker", name: "cuda:0", state: "open" },
    { kind: "held", shards: 2, bytes: 64, poolTokens: 500 },
    { kind: "reconciled", runs: 1, requeued: 4, sealed: 1 },
  ];
  for (const event of events) observe(event);
  const text = await metrics.text();
  for (const line of [
    'embedfleet_stage_seconds_sum{stage="upload"} 0.02',
    'embedfleet_shards_total{outcome="exists"} 1',
    'embedfleet_rejects_total{reason="non_finite"} 2',
    "embedfleet_nonfinite_rows_total 2",
    "embedfleet_lease_renewals_total 5",
    "embedfleet_leases_lost_total 1",
    "embedfleet_stalled_jobs_total 3",
    'embedfleet_store_creates_total{object="data",outcome="exists"} 1',
    "embedfleet_oom_splits_total 1",
    'embedfleet_fallbacks_total{from="tensorrt",to="cuda"} 1',
    'embedfleet_breaker_state{breaker="cuda:0"} 2',
    "embedfleet_held_bytes 64",
    "embedfleet_requeued_jobs_total 4",
    "embedfleet_sealed_runs_total 1",
  ]) {
    expect(text).toContain(line);
  }
});

test("a process has the metrics of its role and no others", async () => {
  const producer = new Metrics({ role: "producer", version: "1" });
  observeMetrics(producer)(BATCH);
  const text = await producer.text();
  expect(text).toContain("embedfleet_planned_rows_total 0");
  expect(text).not.toContain("embedfleet_batches_total");
});

test("a rate is over the last minute, or since the first value", () => {
  const rate = new Rate();
  expect(rate.perSecond(0)).toBe(0);
  for (let second = 0; second < 20; second++) rate.add(10, second * 1000);
  expect(rate.perSecond(20_000)).toBe(10);
  for (let second = 20; second < 600; second++) rate.add(30, second * 1000);
  expect(rate.perSecond(600_000)).toBeCloseTo(30, 0);
  expect(rate.perSecond(700_000)).toBe(0);
});
