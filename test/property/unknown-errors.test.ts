/**
 * What no code was written for is never taken for an outage: whatever is thrown, wherever in a worker, its job fails
 * after a bounded number of tries, the log has the stack, the queue the message, and all other jobs are done.
 */
import { Writable } from "node:stream";
import fc from "fast-check";
import { pino } from "pino";
import { describe, expect, test } from "vitest";
import type { Clock } from "../../src/core/clock.ts";
import { FleetError, isPassing, messageOf } from "../../src/core/errors.ts";
import { DEFAULT_PACKING } from "../../src/core/packing.ts";
import type { LeasedJob } from "../../src/core/ports.ts";
import { Loader, type Loaded } from "../../workers/loader.ts";
import { MAX_FAULTS, verdictOf } from "../../workers/verdict.ts";
import { FleetWorker } from "../../workers/worker.ts";
import { madeCorpus } from "../bench/fleet.ts";
import { produce } from "../../producers/plan-corpus.ts";
import { openRun } from "../../src/run/open-run.ts";
import { MemoryJobs } from "../fixtures/memory-jobs.ts";
import { MemoryLeases, MemoryQueue } from "../fixtures/memory-queue.ts";
import { PacedDevice } from "../fixtures/paced-device.ts";
import { runOptions } from "../fixtures/run-options.ts";
import { ScriptedStore } from "../fixtures/scripted-store.ts";

const thrown = fc.oneof(
  fc.anything(),
  fc.string().map((message) => new TypeError(message)),
  fc.string().map((message) => new Error(message)),
  fc.record({ code: fc.anything(), message: fc.string() }).map((fields) => Object.assign(new Error(), fields)),
);

test("nothing but a coded fault of a server is waited out", () => {
  fc.assert(
    fc.property(thrown, (error) => {
      expect(isPassing(error)).toBe(false);
      const ended = verdictOf(error);
      expect(["retry", "end"]).toContain(ended);
      // Memory that this machine does not give is the only thing that a worker takes for its own fault.
      if (ended === "end")
        expect((error as { code?: unknown }).code ?? messageOf(error)).toMatch(/ENOMEM|memory|alloc/i);
    }),
    { numRuns: 2000 },
  );
});

const model = { id: "made", revision: "1", sha256: "a".repeat(64), dim: 4, maxTokens: 1024 };
const options = runOptions({ model, heads: ["dense"], maxTokens: 1024 });
const SHARDS = 6;
const BROKEN_SHARD = "w000000-s0000";

type Break = (step: "load" | "commit", error: unknown) => Promise<Outcome>;

interface Outcome {
  readonly attempts: number;
  readonly shards: number;
  readonly failures: { shard: string; reason: string }[];
  readonly lines: Record<string, unknown>[];
}

/** A worker in memory whose one shard is broken. Its pauses take no time. */
const work: Break = async (step, error) => {
  const store = new ScriptedStore();
  const known = new MemoryJobs();
  const queue = new MemoryQueue(known);
  const { record } = await openRun(store, { run: "r", inputs: ["c"], options, since: undefined });
  await produce({
    store,
    queue,
    record,
    maxRejects: null,
    ...madeCorpus(Array.from({ length: 81 * SHARDS }, () => 100)),
  });
  const lines: Record<string, unknown>[] = [];
  const sink = new Writable({
    write(chunk: Buffer, _encoding, done) {
      lines.push(JSON.parse(chunk.toString()) as Record<string, unknown>);
      done();
    },
  });
  let attempts = 0;
  const fail = (): never => {
    attempts++;
    throw error;
  };
  class BrokenLoader extends Loader {
    override async load(job: LeasedJob): Promise<Loaded> {
      if (job.payload.shard !== BROKEN_SHARD) return super.load(job);
      if (step === "load") return fail();
      const loaded = await super.load(job);
      if (loaded.kind === "held") loaded.shard.commit = async () => fail();
      return loaded;
    }
  }
  let nowMs = 0;
  const clock: Clock = { nowMs: () => nowMs, sleep: async (ms) => void (nowMs += ms) };
  const device = new PacedDevice({ batchMs: 0, tokenMs: 0, pairMs: 0 });
  const worker = new FleetWorker({
    store,
    leases: new MemoryLeases(known),
    embedder: device,
    sandbox: device,
    loader: new BrokenLoader({ store, model, heads: options.heads, precision: options.precision, vocabSize: 1000 }),
    packing: { ...DEFAULT_PACKING, maxBatchTokens: 1600 },
    maxHeldBytes: 1024 ** 3,
    log: pino({ base: null }, sink),
    clock,
    onIdle: async () => {
      // What goes round for ever would never end.
      if (attempts > 3 * MAX_FAULTS) return true;
      const { waiting, active } = await queue.counts();
      return waiting + active === 0;
    },
  });
  await worker.run();
  return { attempts, shards: worker.counts.shards, failures: await queue.failures({ run: "r", limit: 9 }), lines };
};

describe.each(["load", "commit"] as const)("in %s", (step) => {
  test.each([
    ["a TypeError", new TypeError("rows.map is not a function")],
    ["an error that says OOM", new Error("OOM is what it says")],
    ["an error with a code of its own", Object.assign(new Error("odd"), { code: "redis_unavailable" })],
    ["a text", "thrown"],
    ["nothing", undefined],
  ])("%s is tried five times and fails its job alone", async (_, error) => {
    const { attempts, shards, failures, lines } = await work(step, error);
    expect(attempts).toBe(MAX_FAULTS);
    expect(shards).toBe(SHARDS - 1);
    const reason = `tried ${MAX_FAULTS} times, last: ${messageOf(error)}`;
    expect(failures).toEqual([{ shard: BROKEN_SHARD, reason }]);
    const last = lines.findLast(({ msg }) => msg === "a job cannot be done");
    if (error instanceof Error)
      expect(last).toMatchObject({ err: { message: error.message, stack: expect.stringContaining("    at ") } });
  });
});

test("a server that is away is waited for, however often", async () => {
  const { attempts, failures } = await work("load", new FleetError("store_unavailable", "SlowDown"));
  expect(attempts).toBeGreaterThan(MAX_FAULTS);
  expect(failures).toEqual([]);
});
