/** Two stores at once on one Redis, with the same fleet, model and run ids: each gets its own rows, and no job of one is the other's. */
import { randomUUID } from "node:crypto";
import { cp, mkdir, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, inject, onTestFinished, test } from "vitest";
import { openQueue } from "../../src/adapters/open-queue.ts";
import { openStore } from "../../src/adapters/open-store.ts";
import { STORE_KEY } from "../../src/core/layout.ts";
import type { ObjectStore, QueueCounts } from "../../src/core/ports.ts";
import { enqueueCorpus } from "../../src/fleet/enqueue-corpus.ts";
import { startWorker } from "../../src/fleet/start-worker.ts";
import { readProgress } from "../../src/run/run-progress.ts";
import { ensureStoreId, findStoreId } from "../../src/run/store-id.ts";
import { verifyRun } from "../../src/run/verify.ts";
import { cli, cliInProcess } from "../fixtures/cli.ts";
import { startControl } from "../fixtures/control.ts";
import { makeCorpus } from "../fixtures/made-corpus.ts";

const redis = inject("redisUrl");
const fleet = randomUUID();
const [MANY, FEW] = [40, 7];
const RUN_FLAGS = ["--heads", "dense", "--max-tokens", "64", "--producer-threads", "1", "--threads", "1"];

interface Side {
  readonly out: string;
  readonly corpus: string;
  readonly store: ObjectStore;
  readonly flags: readonly string[];
}

let folder: string;
let a: Side;
let b: Side;

async function side(name: string, documents: number): Promise<Side> {
  const [out, corpus] = [join(folder, name), join(folder, `${name}.jsonl`)];
  await writeFile(corpus, makeCorpus({ documents, seed: documents, maxWords: 40 }));
  const flags = ["--out", out, "--redis", redis, "--fleet", fleet, "--log-level", "error"];
  return { out, corpus, store: await openStore(out), flags };
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "embedfleet-test-"));
  [a, b] = [await side("a", MANY), await side("b", FEW)];
});

afterAll(() => rm(folder, { recursive: true, force: true }));

async function enqueue({ out, corpus }: Side, run: string, distributed = false): Promise<void> {
  const options = { model: "mini", heads: ["dense" as const], maxTokens: 64, producerThreads: 1 };
  await enqueueCorpus({ inputs: [corpus], out, redis, fleet, run, distributed, ...options });
}

async function work({ out }: Side): Promise<void> {
  const cacheFolder = join(folder, "cache");
  const worker = await startWorker({ out, redis, fleet, model: "mini", threads: 1, exitWhenDone: true, cacheFolder });
  await worker.done;
}

async function countsOf({ store }: Side): Promise<QueueCounts> {
  const queue = openQueue({ url: redis, fleet, readOnly: true })
    .ofStore((await findStoreId(store))!)
    .ofModel("mini")
    .shards();
  onTestFinished(() => queue.close());
  return queue.counts();
}

async function expectWhole({ store }: Side, run: string, documents: number): Promise<void> {
  expect(await verifyRun({ store, run })).toMatchObject({ ok: true, missing: 0, duplicates: 0 });
  expect(await readProgress({ store, run, queue: null })).toMatchObject({ state: "sealed", documents });
}

test("what is enqueued into one store waits there while another is run with the same run id", async () => {
  await enqueue(a, "r");
  const waiting = await countsOf(a);
  expect(waiting).toMatchObject({ active: 0, failed: 0 });
  expect(waiting.waiting).toBeGreaterThan(0);
  // Its workers would have taken the jobs of the first.
  const ran = await cli(["run", b.corpus, ...b.flags, "--run", "r", ...RUN_FLAGS]);
  expect(ran.code, ran.stderr).toBe(0);
  await expectWhole(b, "r", FEW);
  expect(await countsOf(a)).toEqual(waiting);
});

test("cancel, status, control and the parts of a shared corpus are of one store, and both are worked on at once", async () => {
  await Promise.all([enqueue(a, "d", true), enqueue(b, "d", true)]);
  await enqueue(b, "gone");
  const [ofA, before] = [await countsOf(a), await countsOf(b)];
  const cancelled = await cliInProcess(["cancel", "gone", ...b.flags, "--yes", "--json"]);
  const { removed } = JSON.parse(cancelled.stdout) as { removed: number };
  expect(removed).toBeGreaterThan(0);
  const ofB = { ...before, waiting: before.waiting - removed };
  expect([await countsOf(a), await countsOf(b)]).toEqual([ofA, ofB]);
  const status = async ({ flags }: Side): Promise<unknown> =>
    JSON.parse((await cliInProcess(["status", "d", ...flags, "--json"])).stdout);
  expect(await status(a)).toMatchObject({ state: "embedding", queue: ofA });
  expect(await status(b)).toMatchObject({ state: "embedding", queue: ofB });

  const control = await startControl([...b.flags, "--log-level", "info"]);
  onTestFinished(() => void control.process.child.kill("SIGKILL"));
  const queue = `${fleet}-mini`;
  const snapshot = async (): Promise<unknown> => (await control.call("/api/fleet")).json();
  await expect
    .poll(snapshot, { timeout: 30_000 })
    .toMatchObject({ queues: [{ name: queue, counts: ofB }], problems: [] });
  const backlog = await control.call(`/api/backlog?queue=${queue}`);
  expect(await backlog.json()).toMatchObject({ jobs: ofB.waiting });

  await Promise.all([work(a), work(b)]);
  await control.stop();
  for (const run of ["r", "d"]) await expectWhole(a, run, MANY);
  await expectWhole(b, "d", FEW);
  for (const each of [a, b]) expect(await countsOf(each)).toEqual({ waiting: 0, active: 0, failed: 0 });
});

test("a worker whose --out is mistyped takes no job, and does not report success", async () => {
  const typo = join(folder, "typo");
  await mkdir(typo);
  await enqueue(a, "m");
  const waiting = await countsOf(a);
  const { code, stderr } = await cli(["work", ...a.flags, "--out", typo, "--exit-when-done", "--threads", "1"]);
  expect([code, stderr]).toEqual([1, expect.stringContaining(`there is no run in file://${typo}`)]);
  expect(await countsOf(a)).toEqual(waiting);
});

test("a copied store has the same identity, so that jobs of both meet: none fails, and each store gets its own rows", async () => {
  const original = await side("original", MANY);
  await ensureStoreId(original.store);
  await cp(original.out, join(folder, "copy"), { recursive: true });
  const copy = await side("copy", FEW);
  await enqueue(original, "r");
  await enqueue(copy, "r");
  await work(copy);
  await work(original);
  await work(copy);
  await expectWhole(original, "r", MANY);
  await expectWhole(copy, "r", FEW);
  expect(await countsOf(copy)).toEqual({ waiting: 0, active: 0, failed: 0 });
});

test("an identity is made once, is found by every address of the store, and is read by nobody who only looks", async () => {
  const here = await side("identity", FEW);
  const looks = [
    ["status", "--out", here.out],
    ["verify", here.out],
    ["backfill", "list", ...here.flags],
  ];
  for (const args of looks) await cliInProcess(args);
  expect(await findStoreId(here.store)).toBeNull();
  const others = await Promise.all(Array.from({ length: 8 }, () => openStore(`file://${here.out}`)));
  const ids = await Promise.all(others.map((store) => ensureStoreId(store)));
  expect(new Set(ids)).toEqual(new Set([await findStoreId(here.store)]));
  await rename(here.out, `${here.out}-moved`);
  expect(await findStoreId(await openStore(`${here.out}-moved`))).toBe(ids[0]);
  await writeFile(join(`${here.out}-moved`, STORE_KEY), '{"version":1,"id":"../../etc"}');
  await expect(findStoreId(await openStore(`${here.out}-moved`))).rejects.toMatchObject({
    code: "object_corrupt",
    cure: expect.stringContaining("delete"),
  });
});
