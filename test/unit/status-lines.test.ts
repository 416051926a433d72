/** What `status` says, and that it says "unknown" where nobody can know. */
import { describe, expect, test } from "vitest";
import { type RunStatus, statusLines } from "../../src/cli/status-lines.ts";
import { COUNTED_FAILURES, groupFailures } from "../../src/core/failures.ts";
import type { JobFailure } from "../../src/core/ports.ts";
import { type WorkerState, workerStateSchema } from "../../src/core/worker-state.ts";
import { type FleetPresence, forecastOf } from "../../src/run/run-forecast.ts";
import { WorkerTally } from "../../src/telemetry/worker-tally.ts";
import type { RunReport } from "../../src/run/run-progress.ts";

const REPORT: RunReport = {
  run: "spring",
  state: "embedding",
  documents: 100,
  rows: 40,
  plannedRows: 100,
  rejects: 2,
  shards: 4,
  plannedShards: 10,
  files: 4,
  bytes: 4_000_000,
  batches: null,
  realTokens: 40_000,
  plannedTokens: 100_000,
  paddedTokens: null,
  seconds: 20,
  tokensPerSecond: 2000,
  deviceBusyRatio: null,
  deviceIdleRatios: null,
  queue: { waiting: 4, active: 2, failed: 0 },
};

function worker(run: string, tokensPerSecond: number): WorkerState {
  return {
    name: `host-${tokensPerSecond}`,
    device: "cpu",
    model: "mini",
    startedAt: "2026-01-01T00:00:00.000Z",
    rows: 10,
    shards: 1,
    rejects: 0,
    batches: 2,
    realTokens: 900,
    paddedTokens: 1000,
    tokensPerSecond,
    deviceBusyRatio: 0.975,
    runs: [{ run, tokensPerSecond }],
    lastBatch: { rows: 16, longestTokens: 512, endedAtMs: 0 },
    stageSeconds: {},
    rowsByLength: [],
    residentBytes: 1,
  };
}

function statusOf(report: Partial<RunReport>, presence: Partial<FleetPresence>): RunStatus {
  const whole = { ...REPORT, ...report };
  const asked: FleetPresence = {
    workers: [worker("spring", 1500), worker("spring", 500)],
    producers: [],
    failedJobs: 0,
    ...presence,
  };
  return { ...whole, ...forecastOf(whole, asked), workers: asked.workers };
}

describe("the forecast", () => {
  test("an ETA is remaining tokens over the rate that workers have for this run now", () => {
    const { etaSeconds, tokensPerSecondNow, remainingTokens, waitsFor } = statusOf({}, {});
    expect({ etaSeconds, tokensPerSecondNow, remainingTokens, waitsFor }).toEqual({
      etaSeconds: 30,
      tokensPerSecondNow: 2000,
      remainingTokens: 60_000,
      waitsFor: null,
    });
  });

  test.each([
    ["no worker is active", {}, { workers: [] }, "a worker"],
    ["no Redis was named, so the workers cannot be asked", {}, { workers: null, producers: null }, null],
    [
      "Redis does not answer, so the workers cannot be asked",
      { queue: null },
      { workers: null, producers: null, isRedisAway: true },
      null,
    ],
    ["its corpus is still being read", { state: "planning" as const }, { producers: ["spring"] }, null],
    ["its corpus is still being read", { state: "planning" as const }, { producers: [] }, "its producer"],
    ["no worker has computed a batch of it in the last minute", {}, { workers: [worker("other", 900)] }, "its turn"],
    ["it only has to be sealed", { state: "complete" as const }, {}, "the seal"],
  ])("ETA unknown: %s", (because, report, presence, waits) => {
    const status = statusOf(report, presence);
    expect(status.etaSeconds).toBeNull();
    expect(status.etaUnknownBecause).toBe(because);
    if (waits === null) expect(status.waitsFor).toBeNull();
    else expect(status.waitsFor).toContain(waits);
    expect(statusLines(status, { columns: 100 }).join("\n")).toContain(`ETA        unknown: ${because}`);
  });

  test("failed jobs and nothing else left wait for a person; lost jobs do not", () => {
    const failed = { queue: { waiting: 30, active: 2, failed: 9 } };
    expect(statusOf(failed, { failedJobs: 6 }).waitsFor).toContain("embedfleet resume spring");
    expect(statusOf(failed, { failedJobs: 2 }).waitsFor).toBeNull();
    expect(statusOf({ queue: { waiting: 0, active: 0, failed: 0 } }, {}).waitsFor).toContain("reconciliation");
  });

  test("a sealed run waits for nothing and has nothing to do", () => {
    const { etaSeconds, etaUnknownBecause, waitsFor, remainingTokens } = statusOf({ state: "sealed" }, { workers: [] });
    expect({ etaSeconds, etaUnknownBecause, waitsFor, remainingTokens }).toEqual({
      etaSeconds: null,
      etaUnknownBecause: null,
      waitsFor: null,
      remainingTokens: 0,
    });
  });
});

const TROUBLE = { since: "2026-01-02T03:04:05.000Z", reason: "s3://bucket/prefix cannot be read: SlowDown" };

describe("a store that fails the workers", () => {
  const troubled = (run: string, rate: number, since = TROUBLE.since): WorkerState => ({
    ...worker(run, rate),
    storeTrouble: { ...TROUBLE, since },
  });

  test("is what a run waits for, since when and why, and the reason is not cut off", () => {
    const status = statusOf(
      {},
      { workers: [troubled("spring", 0, "2026-01-02T04:00:00.000Z"), troubled("spring", 0)] },
    );
    const says = `the store since ${TROUBLE.since}: ${TROUBLE.reason}; its jobs are retried`;
    expect(status.waitsFor).toContain(says);
    const lines = statusLines(status, { columns: 60 });
    for (const line of lines) expect(line.length).toBeLessThanOrEqual(60);
    expect(lines.map((line) => line.trim().replace("waits for  ", "")).join(" ")).toContain(says);
  });

  test("is not, while another worker computes the run's rows", () => {
    expect(statusOf({}, { workers: [troubled("spring", 0), worker("spring", 900)] }).waitsFor).toBeNull();
  });

  test("is told with a worker's state from the first job that went back to the last, and is over with a shard", () => {
    const tally = new WorkerTally({ name: "w", model: "mini" });
    expect(tally.state("cpu").storeTrouble).toBeNull();
    tally.observe({ kind: "store-wait", reason: "SlowDown" });
    const first = tally.state("cpu").storeTrouble!;
    tally.observe({ kind: "store-wait", reason: "ECONNREFUSED" });
    expect(tally.state("cpu").storeTrouble).toEqual({ since: first.since, reason: "ECONNREFUSED" });
    expect(workerStateSchema.parse(tally.state("cpu")).storeTrouble).toEqual(tally.state("cpu").storeTrouble);
    const shard = { run: "r", shard: "s", startedAtMs: 0, durationMs: 1, rows: 1, realTokens: 1 } as const;
    tally.observe({ kind: "shard", outcome: "created", ...shard });
    expect(tally.state("cpu").storeTrouble).toBeNull();
  });
});

describe("failures", () => {
  const jobs = (count: number, reason: string): JobFailure[] =>
    Array.from({ length: count }, (_, i) => ({ shard: `w000000-s000${i}`, reason: reason.replace("#", String(i)) }));

  test.each([
    ["paths and numbers", "there is no object /data/a b/runs/#/w00000#.arrows", 1],
    ["addresses", "s3://bucket/r/# cannot be read: 503 from https://h:90#/x", 1],
    ["quoted names", 'run "a #" has the token id #; the model knows 99 tokens', 1],
    ["digests", "they are 0#ae31, but 9#f0 was written (tried # times)", 1],
    ["lists", `the worker has heads [1, #]`, 1],
    ["the same words", "the device hangs", 1],
  ])("that differ only in %s are one group", (_, reason, groups) => {
    expect(groupFailures(jobs(9, reason))).toHaveLength(groups);
    expect(groupFailures([...jobs(2, reason), ...jobs(5, "it is another matter in shard #")])).toMatchObject([
      { jobs: 5, shard: "w000000-s0000", reason: "it is another matter in shard 0" },
      { jobs: 2 },
    ]);
  });

  test("come before everything else, and are never taken for a lack of workers", () => {
    const failures = [...jobs(3, "there is no object /x/#"), ...jobs(3, "the run's token ids are broken")];
    const queue = { waiting: 0, active: 0, failed: 6 };
    const storeUrl = "s3://bucket/prefix";
    const status = statusOf({ queue }, { workers: [], failedJobs: 6, failures, storeUrl });
    expect(statusLines(status, { columns: 100 }).slice(0, 6)).toEqual([
      "spring  embedding",
      "failed     6 jobs",
      "       3 x there is no object /x/0, for example in shard w000000-s0000",
      "       3 x the run's token ids are broken, for example in shard w000000-s0000",
      "next       fix the cause, then: embedfleet resume spring --out s3://bucket/prefix",
      expect.stringContaining("40.0 %"),
    ]);
    expect(status.waitsFor).toContain("its remaining jobs have failed");
    expect(status.etaUnknownBecause).toBe("its remaining jobs have failed");
    for (const columns of [20, 60]) {
      const lines = statusLines(status, { columns });
      for (const line of lines) expect(line.length).toBeLessThanOrEqual(columns);
      expect(lines.map((line) => line.slice(11)).join(columns === 20 ? "" : " ")).toContain("s3://bucket/prefix");
    }
  });

  test("of more jobs than are counted are no lack of workers either; some failed jobs are, beside waiting ones", () => {
    const all = { plannedShards: 90_000, shards: 0, queue: { waiting: 0, active: 0, failed: 90_000 } };
    expect(statusOf(all, { workers: [], failedJobs: COUNTED_FAILURES }).waitsFor).toContain("have failed");
    const some = { queue: { waiting: 3, active: 0, failed: 3 } };
    const status = statusOf(some, { workers: [], failedJobs: 3, failures: jobs(3, "broken") });
    expect(status.waitsFor).toContain("a worker");
    expect(statusLines(status, { columns: 90 })[1]).toBe("failed     3 jobs");
  });
});

test("a damaged queue waits for who repairs it", () => {
  const { waitsFor } = statusOf({ queue: null }, { queueDamage: "WRONGTYPE Operation" });
  expect(waitsFor).toContain("a repair of its queue in Redis (WRONGTYPE Operation)");
});

test("the lines fit any terminal and show the workers", () => {
  const lines = statusLines(statusOf({}, {}), { columns: 100 });
  expect(lines.slice(0, 8)).toEqual([
    "spring  embedding",
    `${"█".repeat(16)}${"░".repeat(24)}  40.0 %  40,000 of 100,000 tokens`,
    "rows       40 of 100, 2 rejected",
    "files      4 of 10, 4.0 MB",
    "rate       2,000 tokens/s now, 2,000 on average",
    expect.stringMatching(/^ETA {8}30 s, at \d\d:\d\d$/),
    "queue      4 waiting, 2 active, 0 failed",
    "",
  ]);
  expect(lines.at(-1)).toBe("host-500   cpu          500  97.5 %    16 x 512   10.0 %       1");
  for (const columns of [20, 40, 60])
    for (const line of statusLines(statusOf({}, {}), { columns })) expect(line.length).toBeLessThanOrEqual(columns);
});
