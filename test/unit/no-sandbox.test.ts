/** What a worker does with suspects when its engine has no sandbox: it tries them a few times, and no job kills for ever. */
import { pino } from "pino";
import { expect, test } from "vitest";
import { produce } from "../../producers/plan-corpus.ts";
import { FileStore } from "../../src/adapters/file/file-store.ts";
import { jobId } from "../../src/core/layout.ts";
import { DEFAULT_PACKING } from "../../src/core/packing.ts";
import type { JobLeases, LeasedJob } from "../../src/core/ports.ts";
import { openRun } from "../../src/run/open-run.ts";
import { Loader } from "../../workers/loader.ts";
import { FleetWorker } from "../../workers/worker.ts";
import { madeCorpus } from "../bench/fleet.ts";
import { MemoryQueue } from "../fixtures/memory-queue.ts";
import { PacedDevice } from "../fixtures/paced-device.ts";
import { runOptions } from "../fixtures/run-options.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

const model = { id: "made", revision: "1", sha256: "a".repeat(64), dim: 4, maxTokens: 1024 };
const options = runOptions({ model, heads: ["dense"], maxTokens: 1024 });
const log = pino({ level: "silent" });

/** Hands out each job once, as one with which so many workers have died. */
class StalledLeases implements JobLeases {
  readonly settled: (readonly [shard: string, outcome: string])[] = [];
  readonly #waiting: LeasedJob[];

  constructor(jobs: readonly LeasedJob[]) {
    this.#waiting = [...jobs];
  }

  async pull({ max }: Readonly<{ max: number }>): ReturnType<JobLeases["pull"]> {
    return { jobs: this.#waiting.splice(0, max), refused: [] };
  }

  async complete({ job }: Readonly<{ job: LeasedJob }>): ReturnType<JobLeases["complete"]> {
    this.settled.push([job.payload.shard, "completed"]);
    return "completed";
  }

  async giveBack({ job }: Readonly<{ job: LeasedJob }>): Promise<void> {
    this.settled.push([job.payload.shard, "given back"]);
  }

  async retry({ job, reason }: Readonly<{ job: LeasedJob; reason: string }>): Promise<void> {
    this.settled.push([job.payload.shard, `to be tried again: ${reason}`]);
  }

  async fail({ job, reason }: Readonly<{ job: LeasedJob; reason: string }>): Promise<void> {
    this.settled.push([job.payload.shard, reason]);
  }

  async close(): Promise<void> {}
}

test("without a sandbox a suspect is worked on like any job, and fails when five workers have died with it", async () => {
  const store = new FileStore(await tempFolder());
  const queue = new MemoryQueue();
  const { record } = await openRun(store, { run: "r", inputs: ["made"], options });
  const corpus = madeCorpus(Array.from({ length: 81 * 3 }, () => 100));
  await produce({ store, queue, record, maxRejects: null, ...corpus });
  const stalls = [0, 2, 5];
  const jobs = [...queue.jobs.values()].map((payload, i) => ({
    id: jobId(payload.run, payload.shard),
    payload,
    stalls: stalls[i]!,
  }));
  const leases = new StalledLeases(jobs);
  const worker = new FleetWorker({
    store,
    leases,
    embedder: new PacedDevice({ batchMs: 0, tokenMs: 0, pairMs: 0 }),
    batchesInFlight: 1,
    sandbox: null,
    loader: new Loader({ store, model, precision: "fp32", heads: ["dense"], vocabSize: 1000 }),
    packing: { ...DEFAULT_PACKING, maxBatchTokens: 1600 },
    maxHeldBytes: 1024 ** 3,
    log,
    onIdle: async () => true,
  });
  await worker.run();
  expect(new Map(leases.settled)).toEqual(
    new Map([
      ["w000000-s0000", "completed"],
      ["w000000-s0001", "completed"],
      ["w000000-s0002", "5 workers died with shard w000000-s0002 of run r"],
    ]),
  );
  expect(worker.counts.shards).toBe(2);
});
