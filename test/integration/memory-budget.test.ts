/** How far a worker goes on while its store takes nothing: as far as its memory reaches, and no further. */
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { FileStore } from "../../src/adapters/file/file-store.ts";
import { BullQueue } from "../../src/adapters/redis/bull-queue.ts";
import { DEFAULT_PACKING } from "../../src/core/packing.ts";
import type { CreateOutcome } from "../../src/core/ports.ts";
import { drain, type Ground, madeCorpus, openGround, plan, QUEUE } from "../bench/fleet.ts";
import { PacedDevice } from "../fixtures/paced-device.ts";
import { runOptions } from "../fixtures/run-options.ts";

let ground: Ground;
beforeAll(async () => (ground = await openGround()));
afterAll(() => ground.close());

const model = { id: "made", revision: "1", sha256: "a".repeat(64), dim: 4, maxTokens: 1024 };
const options = runOptions({ model, heads: ["dense"], maxTokens: 1024 });
const SHARDS = 12;
/** Of 81 rows of 100 tokens: ids, once as they came and once as they go to the model, vectors and offsets. */
const SHARD_BYTES = 81 * (2 * 4 * 100 + 4 * 4 + 4 + 1) + 4;

/** Holds the creation of result files until `open()`. */
class LatchedStore extends FileStore {
  begun = 0;
  atOnce = 0;
  mostAtOnce = 0;
  open: () => void = () => {};
  readonly #opened = new Promise<void>((resolve) => (this.open = resolve));

  override async create(params: Parameters<FileStore["create"]>[0]): Promise<CreateOutcome> {
    if (!params.key.includes("/data/")) return super.create(params);
    this.begun++;
    this.mostAtOnce = Math.max(this.mostAtOnce, ++this.atOnce);
    await this.#opened;
    this.atOnce--;
    return super.create(params);
  }
}

async function begin(
  run: string,
  maxHeldBytes: number,
): Promise<{ store: LatchedStore; queue: BullQueue; done: Promise<number> }> {
  const redisUrl = ground.redis.url;
  const store = new LatchedStore(`${ground.folder}/${run}`);
  const queue = new BullQueue({ redisUrl, name: QUEUE });
  onTestFinished(() => queue.close());
  const lengths = Array.from({ length: 81 * SHARDS }, () => 100);
  expect((await plan({ store, redisUrl, run, options, ...madeCorpus(lengths) })).shards).toBe(SHARDS);
  const embedder = new PacedDevice({ batchMs: 1, tokenMs: 1e-5, pairMs: 0 });
  const packing = { ...DEFAULT_PACKING, maxBatchTokens: 1600 };
  const drained = drain({ store, redisUrl, options, embedder, vocabSize: 1000, packing, maxHeldBytes });
  return { store, queue, done: drained.then(({ shards }) => shards) };
}

test("the device goes on while there is memory for what is not written yet", async () => {
  const { store, done } = await begin("ample", 4 * SHARDS * SHARD_BYTES);
  await expect.poll(() => store.begun, { timeout: 30_000 }).toBe(SHARDS);
  expect(store.mostAtOnce).toBe(SHARDS);
  store.open();
  expect(await done).toBe(SHARDS);
});

test("neither jobs nor batches are begun for which there is no memory until files are written", async () => {
  const { store, queue, done } = await begin("scarce", 8 * SHARD_BYTES);
  await expect.poll(() => store.begun, { timeout: 30_000 }).toBeGreaterThanOrEqual(2);
  // Time enough for a worker that does not know when to stop; one that does is at rest by now or soon.
  for (let i = 0; i < 300; i++) expect((await queue.counts()).active).toBeLessThanOrEqual(7);
  // Two for each file being written and one for each shard held, and two batches may have been on their way.
  expect(store.begun).toBeLessThanOrEqual(5);
  store.open();
  expect(await done).toBe(SHARDS);
});

test("shards that are each larger than the memory go through one by one", async () => {
  const { store, done } = await begin("tiny", 1);
  await expect.poll(() => store.begun, { timeout: 30_000 }).toBe(1);
  store.open();
  expect(await done).toBe(SHARDS);
  expect(store.mostAtOnce).toBe(1);
});
