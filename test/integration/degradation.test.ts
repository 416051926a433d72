/** What becomes of a worker's model when its device is too small, lost, or gives no numbers. Faults come from the port. */
import { type Logger, pino } from "pino";
import { afterAll, expect, test } from "vitest";
import { ThreadEmbedder } from "../../models/onnx/thread-embedder.ts";
import { FallbackEmbedder, type FallbackParams } from "../../models/resilience/fallback-embedder.ts";
import { RecomputingEmbedder } from "../../models/resilience/recomputing-embedder.ts";
import { SplittingEmbedder } from "../../models/resilience/splitting-embedder.ts";
import { BROKEN } from "../../src/core/batch.ts";
import type { FleetEvent, Observe } from "../../src/core/telemetry.ts";
import { createLogger } from "../../src/telemetry/log.ts";
import { observeLog } from "../../src/telemetry/observe-log.ts";
import { DIM, rowsOf, shardOf } from "../conformance/embedder.suite.ts";
import { FaultyEmbedder, type FaultyParams } from "../fixtures/faulty-embedder.ts";
import { openMini } from "../fixtures/mini.ts";

const log = createLogger("silent");
const cpu = await ThreadEmbedder.open({ model: await openMini(), threads: 1 });
afterAll(() => cpu.close());

function faulty(params: Omit<FaultyParams, "embedder">): FaultyEmbedder {
  return new FaultyEmbedder({ embedder: cpu, ...params });
}

function recorder(): { events: FleetEvent[]; observe: (event: FleetEvent) => void } {
  const events: FleetEvent[] = [];
  return { events, observe: (event) => events.push(event) };
}

async function denseOf(lengths: readonly number[]): Promise<Float32Array> {
  const shard = shardOf(lengths, ["dense"]);
  await cpu.embed({ rows: rowsOf(shard) });
  return shard.dense!;
}

function expectClose(found: Float32Array, wanted: Float32Array): void {
  found.forEach((value, i) => expect(Math.abs(value - wanted[i]!)).toBeLessThan(1e-5));
}

test("a batch that does not fit is halved until it does, and the budget remembers", async () => {
  const device = faulty({ memoryTokens: 50 });
  const { events, observe } = recorder();
  const embedder = new SplittingEmbedder({ embedder: device, observe, log });
  const lengths = Array.from({ length: 8 }, () => 20);
  const shard = shardOf(lengths, ["dense"]);
  await embedder.embed({ rows: rowsOf(shard) });
  expectClose(shard.dense!, await denseOf(lengths));
  // 160 and 80 tokens fail, 40 fit; the second half of the batch is not tried whole again.
  expect(device.batches).toEqual([8, 4, 2, 2, 2, 2]);
  expect(events.map(({ kind }) => kind)).toEqual(["oom-split", "oom-split"]);
  expect(embedder.maxBatchTokens).toBe(40);
  device.batches.length = 0;
  await embedder.embed({ rows: rowsOf(shardOf(lengths, ["dense"])) });
  expect(device.batches).toEqual([2, 2, 2, 2]);
});

/** What a worker's log has of a fault: the embedder's own lines, and whatever listens to its events. */
function logged(): { lines: Record<string, unknown>[]; log: Logger; observe: Observe } {
  const lines: Record<string, unknown>[] = [];
  const write = (line: string): void => void lines.push(JSON.parse(line) as Record<string, unknown>);
  const log = pino({ level: "info" }, { write });
  return { lines, log, observe: observeLog(log) };
}

test("a batch that is halved, rows computed again and a device given up are each logged once", async () => {
  const { lines, log: own, observe } = logged();
  const row = (tokens: number) => rowsOf(shardOf([tokens], ["dense"]));
  const splitting = new SplittingEmbedder({ embedder: faulty({ memoryTokens: 30 }), observe, log: own });
  await splitting.embed({ rows: rowsOf(shardOf([20, 20], ["dense"])) });
  expect(lines.splice(0)).toEqual([expect.objectContaining({ rows: 2, paddedTokens: 40, maxBatchTokens: 20 })]);

  const embedder = faulty({ nonFiniteTokens: 17 });
  const recomputing = new RecomputingEmbedder({
    embedder,
    precision: "fp16",
    openExact: async () => cpu,
    observe,
    log: own,
  });
  await recomputing.embed({ rows: row(17) });
  expect(lines.splice(0)).toEqual([expect.objectContaining({ rows: 1, mended: 1, precision: "fp16" })]);

  const primary = faulty({ device: "cuda:0", isLost: true });
  const fallback = new FallbackEmbedder({
    primary,
    reopen: async () => primary,
    openFallback: async () => cpu,
    observe,
    log: own,
    maxFailures: 1,
  });
  await fallback.embed({ rows: row(5) });
  expect(lines.splice(0)).toEqual([
    expect.objectContaining({ device: "cuda:0", state: "open" }),
    expect.objectContaining({ from: "cuda:0", to: "cpu" }),
  ]);
});

test("one row that does not fit alone is the caller's to see", async () => {
  const embedder = new SplittingEmbedder({ embedder: faulty({ memoryTokens: 50 }), ...recorder(), log });
  await expect(embedder.embed({ rows: rowsOf(shardOf([20, 60], ["dense"])) })).rejects.toMatchObject({
    code: "device_memory",
  });
});

test("rows that are not finite are computed again, and only those", async () => {
  const exact = faulty({});
  const { events, observe } = recorder();
  const embedder = new RecomputingEmbedder({
    embedder: faulty({ nonFiniteTokens: 9 }),
    precision: "fp16",
    openExact: async () => exact,
    observe,
    log,
  });
  const lengths = [12, 9, 30, 9];
  const shard = shardOf(lengths, ["dense"]);
  await embedder.embed({ rows: rowsOf(shard) });
  expectClose(shard.dense!, await denseOf(lengths));
  expect([...shard.broken]).toEqual([0, 0, 0, 0]);
  expect(exact.batches).toEqual([2]);
  expect(events).toEqual([{ kind: "fallback", from: "fp16", to: "fp32", reason: expect.stringContaining("finite") }]);
});

test("rows that are not finite in fp32 either stay broken, for the rejects", async () => {
  const embedder = new RecomputingEmbedder({
    embedder: faulty({ nonFiniteTokens: 9 }),
    precision: "int8",
    openExact: async () => faulty({ nonFiniteTokens: 9 }),
    ...recorder(),
    log,
  });
  const shard = shardOf([9, 5], ["dense"]);
  await embedder.embed({ rows: rowsOf(shard) });
  expect([...shard.broken]).toEqual([BROKEN.nonFinite, 0]);
});

function fallback(primary: FaultyEmbedder, changed: Partial<FallbackParams> = {}): FallbackEmbedder {
  const openFallback = async (): Promise<FaultyEmbedder> => faulty({});
  return new FallbackEmbedder({
    primary,
    reopen: async () => primary,
    openFallback,
    log,
    maxFailures: 2,
    retryAfterMs: 1,
    maxRetryAfterMs: 1,
    ...recorder(),
    ...changed,
  });
}

async function embedOne(embedder: FallbackEmbedder): Promise<void> {
  const shard = shardOf([6], ["dense"]);
  await embedder.embed({ rows: rowsOf(shard) });
  expectClose(shard.dense!.subarray(0, DIM), await denseOf([6]));
}

test("a lost device: every batch is done on the CPU, the breaker opens, and closes when the device is back", async () => {
  const { events, observe } = recorder();
  const device = faulty({ device: "cuda:0", isLost: true });
  let reopened = 0;
  const reopen = async (): Promise<FaultyEmbedder> => {
    reopened++;
    return device;
  };
  const embedder = fallback(device, { observe, reopen });
  expect(embedder.device).toBe("cuda:0");
  await embedOne(embedder);
  await embedOne(embedder);
  expect(embedder.device).toBe("cpu");
  expect(device.isClosed).toBe(true);
  expect(events.filter(({ kind }) => kind === "fallback").length).toBe(2);
  device.params.isLost = false;
  // Each batch is a chance for the device; how soon it gets one is the breaker's clock.
  while (embedder.device === "cpu") await embedOne(embedder);
  expect(embedder.device).toBe("cuda:0");
  expect(reopened).toBe(1);
  const states = events.flatMap((event) => (event.kind === "breaker" ? [event.state] : []));
  expect(states).toEqual(["open", "half-open", "closed"]);
});

test("a device that cannot be opened again leaves the worker on the CPU", async () => {
  const device = faulty({ device: "cuda:0", isLost: true });
  const reopen = async (): Promise<never> => {
    throw new Error("no such device");
  };
  const embedder = fallback(device, { reopen });
  for (let i = 0; i < 6; i++) await embedOne(embedder);
  expect(embedder.device).toBe("cpu");
  await embedder.close();
});

test("what fails on the CPU too is an error", async () => {
  const device = faulty({ device: "cuda:0", isLost: true });
  const embedder = fallback(device, { openFallback: async () => faulty({ isLost: true }) });
  await expect(embedOne(embedder)).rejects.toMatchObject({ code: "inference_failed" });
});
