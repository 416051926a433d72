/** What workers do with jobs that they cannot do: theirs goes to others, nobody's is dropped, and only the hopeless fails. */
import { randomUUID } from "node:crypto";
import { pino } from "pino";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { FileStore } from "../../src/adapters/file/file-store.ts";
import { BullLeases } from "../../src/adapters/redis/bull-leases.ts";
import { BullQueue } from "../../src/adapters/redis/bull-queue.ts";
import { PLAN_VERSION, type RunOptions } from "../../src/core/contracts.ts";
import { FleetError } from "../../src/core/errors.ts";
import type { Observe } from "../../src/core/telemetry.ts";
import { removedKey, runKeys } from "../../src/core/layout.ts";
import { DEFAULT_PACKING } from "../../src/core/packing.ts";
import { PlannedJobs } from "../../src/run/planned-jobs.ts";
import { requeueMissing } from "../../src/run/reconcile.ts";
import { WorkerTally } from "../../src/telemetry/worker-tally.ts";
import { Loader } from "../../workers/loader.ts";
import { FleetWorker } from "../../workers/worker.ts";
import { type Ground, madeCorpus, openGround, plan, QUEUE } from "../bench/fleet.ts";
import { PacedDevice } from "../fixtures/paced-device.ts";
import { runOptions } from "../fixtures/run-options.ts";

const log = pino({ level: "silent" });
let ground: Ground;
/** One for all workers, which work one after the other: to begin one takes a thread. */
let leases: BullLeases;
beforeAll(async () => {
  ground = await openGround();
  leases = new BullLeases({ redisUrl: ground.redis.url, name: QUEUE, workerId: "w", lockDurationMs: 30_000, log });
});
afterAll(async () => {
  await leases.close();
  await ground.close();
});

const model = { id: "made", revision: "1", sha256: "a".repeat(64), dim: 4, maxTokens: 1024 };
const options = runOptions({ model, heads: ["dense"], maxTokens: 1024 });
const SHARDS = 6;
const FIRST = "w000000-s0000";
const device = new PacedDevice({ batchMs: 1, tokenMs: 1e-5, pairMs: 0 });

/** A store whose calls fail as long as a test says. */
class FaultyStore extends FileStore {
  onRead: (key: string) => void = () => {};

  override async read(params: Parameters<FileStore["read"]>[0]): Promise<Uint8Array> {
    this.onRead(params.key);
    return super.read(params);
  }
}

interface Scene {
  readonly run: string;
  readonly store: FaultyStore;
  readonly queue: BullQueue;
}

/** A planned run of six shards. */
async function planned(): Promise<Scene> {
  const run = `r-${randomUUID().slice(0, 8)}`;
  const redisUrl = ground.redis.url;
  const store = new FaultyStore(`${ground.folder}/${run}`);
  const queue = new BullQueue({ redisUrl, name: QUEUE });
  onTestFinished(() => queue.close());
  const lengths = Array.from({ length: 81 * SHARDS }, () => 100);
  expect((await plan({ store, redisUrl, run, options, ...madeCorpus(lengths) })).shards).toBe(SHARDS);
  return { run, store, queue };
}

/** Works until nothing is queued. */
async function work(
  { store, queue }: Pick<Scene, "store" | "queue">,
  changed: Readonly<{ options?: RunOptions; loader?: Loader; observe?: Observe }> = {},
): Promise<number> {
  const { model: ref, heads, precision } = changed.options ?? options;
  const worker = new FleetWorker({
    store,
    leases,
    embedder: device,
    sandbox: device,
    loader: changed.loader ?? new Loader({ store, model: ref, heads, precision, vocabSize: 1000 }),
    packing: { ...DEFAULT_PACKING, maxBatchTokens: 1600 },
    maxHeldBytes: 1024 ** 3,
    log,
    ...(changed.observe && { observe: changed.observe }),
    onIdle: async () => {
      const { waiting, active } = await queue.counts();
      return waiting + active === 0;
    },
  });
  await worker.run();
  return worker.counts.shards;
}

const wrongWorkers: [string, (scene: Scene) => Promise<unknown>, string][] = [
  ["another store", ({ queue }) => work({ store: new FaultyStore(`${ground.folder}/typo`), queue }), "run_unknown"],
  [
    "other weights",
    (scene) => work(scene, { options: { ...options, model: { ...model, sha256: "b".repeat(64) } } }),
    "worker_unfit",
  ],
  ["another precision", (scene) => work(scene, { options: { ...options, precision: "int8" } }), "worker_unfit"],
  ["fewer heads", (scene) => work(scene, { options: { ...options, heads: ["sparse"] } }), "worker_unfit"],
  [
    "refused credentials",
    (scene) => {
      scene.store.onRead = () => {
        throw new FleetError("store_refused", "AccessDenied");
      };
      return work(scene).finally(() => (scene.store.onRead = () => {}));
    },
    "store_refused",
  ],
];

test("a wrong worker ends with what is wrong, and the right one does all that it gave back", async () => {
  const scene = await planned();
  for (const [what, begin, code] of wrongWorkers) {
    await expect(begin(scene), what).rejects.toMatchObject({ code });
    expect(await scene.queue.counts(), what).toEqual({ waiting: SHARDS, active: 0, failed: 0 });
  }
  expect(await work(scene)).toBe(SHARDS);
});

test("a job that no code was written for is tried five times and fails with the last error; the others are done", async () => {
  const scene = await planned();
  const { run, store, queue } = scene;
  let loads = 0;
  class BrokenLoader extends Loader {
    override async load(job: Parameters<Loader["load"]>[0]): ReturnType<Loader["load"]> {
      if (job.payload.shard !== FIRST) return super.load(job);
      loads++;
      throw new TypeError("rows.map is not a function");
    }
  }
  const { heads, precision } = options;
  const loader = new BrokenLoader({ store, model, heads, precision, vocabSize: 1000 });
  expect(await work(scene, { loader })).toBe(SHARDS - 1);
  expect(loads).toBe(5);
  const reason = "tried 5 times, last: rows.map is not a function";
  expect(await queue.failures({ run, limit: 5 })).toEqual([{ shard: FIRST, reason }]);
  expect(await requeueMissing({ store, queue, run })).toEqual({ planned: 6, done: 5, queued: 1, lost: 0 });
  expect(await work(scene)).toBe(1);
});

test("a job whose store is away comes back later each time, and is done when the store is there", async () => {
  const scene = await planned();
  const { run, store, queue } = scene;
  let left = 4;
  store.onRead = (key) => {
    if (key === runKeys(run).staged("w000000") && left-- > 0) throw new FleetError("store_unavailable", "SlowDown");
  };
  expect(await work(scene)).toBe(SHARDS);
  expect(left).toBeLessThan(0);
  expect(await queue.counts()).toEqual({ waiting: 0, active: 0, failed: 0 });
});

test("a worker whose store is away says so of itself until it has written a shard again", async () => {
  const scene = await planned();
  const { run, store } = scene;
  const tally = new WorkerTally({ name: "w", model: "made" });
  const said: unknown[] = [];
  let isAway = true;
  store.onRead = (key) => {
    if (key === runKeys(run).staged("w000000") && isAway) throw new FleetError("store_unavailable", "SlowDown");
  };
  const observe: Observe = (event) => {
    tally.observe(event);
    if (event.kind !== "store-wait") return;
    said.push(tally.state("cpu").storeTrouble);
    isAway = false;
  };
  expect(await work(scene, { observe })).toBe(SHARDS);
  expect(said[0]).toEqual({ since: expect.stringMatching(/^20/), reason: "SlowDown" });
  expect(tally.state("cpu").storeTrouble).toBeNull();
});

test("jobs of a removed run are dropped, and staged bytes that are gone are nobody's to load", async () => {
  const removed = await planned();
  await removed.store.create({ key: removedKey(removed.run), body: new Uint8Array(0) });
  await removed.store.remove({ key: runKeys(removed.run).record });
  expect(await work(removed)).toBe(0);
  expect(await removed.queue.counts()).toEqual({ waiting: 0, active: 0, failed: 0 });

  const gone = await planned();
  await gone.store.remove({ key: runKeys(gone.run).staged("w000000") });
  expect(await work(gone)).toBe(0);
  expect(await gone.queue.counts()).toEqual({ waiting: 0, active: 0, failed: SHARDS });
  expect(await gone.queue.remove({ jobs: await jobsOf(gone) })).toBe(SHARDS);
});

async function jobsOf({ queue, store, run }: Scene): ReturnType<BullQueue["unknown"]> {
  const jobs = [];
  for await (const window of new PlannedJobs(store).of(run, null)) jobs.push(...window);
  expect(await queue.unknown({ jobs })).toEqual([]);
  return jobs;
}

test("a run of a newer program ends the worker and fails nothing", async () => {
  const scene = await planned();
  const { run, store, queue } = scene;
  const key = runKeys(run).record;
  const record = JSON.parse(Buffer.from(await store.read({ key })).toString()) as object;
  await store.replace({
    key,
    body: Buffer.from(JSON.stringify({ ...record, version: PLAN_VERSION + 1, novel: true })),
  });
  await expect(work(scene)).rejects.toMatchObject({ code: "contract_newer" });
  expect(await queue.counts()).toEqual({ waiting: SHARDS, active: 0, failed: 0 });
  await store.replace({ key, body: Buffer.from(JSON.stringify(record)) });
  expect(await work(scene)).toBe(SHARDS);
});
