/** A run is one engine's: workers of another one hand its jobs back, and other versions of the same one do them. */
import { randomUUID } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { afterAll, expect, inject, onTestFinished, test } from "vitest";
import { chooseEngine, type EngineChoice } from "../../models/choose-engine.ts";
import { FileStore } from "../../src/adapters/file/file-store.ts";
import { BullQueue } from "../../src/adapters/redis/bull-queue.ts";
import { enqueueCorpus } from "../../src/fleet/enqueue-corpus.ts";
import { startWorker } from "../../src/fleet/start-worker.ts";
import { readRun } from "../../src/run/read-plan.ts";
import { verifyRun } from "../../src/run/verify.ts";
import { foreignModel } from "../fixtures/foreign-model.ts";
import { hashEngine } from "../fixtures/hash-engine.ts";
import { queueNameIn } from "../fixtures/queue-name.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

const DOCUMENTS = 3;
const redis = inject("redisUrl");

interface Scene {
  readonly out: string;
  readonly fleet: string;
  readonly model: string;
  readonly queue: BullQueue;
}

/** A run `r` of three documents, planned for an engine. */
async function planned(engine?: EngineChoice, model = "mini"): Promise<Scene> {
  const [folder, fleet] = [await tempFolder(), randomUUID()];
  const corpus = join(folder, "corpus.jsonl");
  const texts = ["a fleet of cheap machines", "every row exactly once", "vectors of words"];
  await writeFile(corpus, texts.map((text, i) => `${JSON.stringify({ id: `d${i}`, text })}\n`).join(""));
  const out = join(folder, "out");
  const params = { inputs: [corpus], out, redis, fleet, model, run: "r", maxTokens: 64, producerThreads: 1 };
  const report = await enqueueCorpus({ ...params, ...(engine && { engine }) });
  expect(report).toMatchObject({ plannedRows: DOCUMENTS, plannedShards: 1 });
  const id = model === "mini" ? model : "hashed";
  const queue = new BullQueue({ redisUrl: redis, name: await queueNameIn(out, fleet, id) });
  onTestFinished(() => queue.close());
  return { out, fleet, model, queue };
}

const cacheFolder = await mkdtemp(join(tmpdir(), "embedfleet-test-"));
afterAll(() => rm(cacheFolder, { recursive: true }));

/** Works until nothing is left to do. @returns The lines that it logged. */
async function work({ out, fleet, model }: Scene, engine?: EngineChoice): Promise<Record<string, unknown>[]> {
  const lines: Record<string, unknown>[] = [];
  const write = (line: string): void => void lines.push(JSON.parse(line) as Record<string, unknown>);
  const place = { out, redis, fleet, model, cacheFolder, device: { kind: "cpu", index: 0 } } as const;
  const worker = await startWorker({
    ...place,
    threads: 1,
    exitWhenDone: true,
    log: pino({ level: "warn" }, { write }),
    ...(engine && { engine }),
  });
  await worker.done;
  return lines;
}

async function expectUntouched({ queue }: Scene): Promise<void> {
  expect(await queue.counts()).toEqual({ waiting: 1, active: 0, failed: 0 });
}

test("a worker of another engine hands back the jobs of an onnx run, whose own do them", async () => {
  const scene = await planned();
  await expect(work(scene, hashEngine)).rejects.toMatchObject({
    code: "worker_unfit",
    message: "run r wants vectors of engine onnx; this worker has engine hash",
    cure: "start workers with --engine onnx",
  });
  await expectUntouched(scene);
  await work(scene);
  const store = new FileStore(scene.out);
  const { options, engineVersion } = await readRun(store, "r");
  expect(options).toMatchObject({ engine: "onnx", precision: "fp32" });
  const { version } = chooseEngine("onnx");
  expect(engineVersion).toBe(version);
  const wanted = { ok: true, sealed: true, rows: DOCUMENTS, engines: [`onnx ${version}`] };
  expect(await verifyRun({ store, run: "r" })).toMatchObject(wanted);
});

test("a worker of onnx hands back the jobs of another engine's run, and another version of that one does them", async () => {
  const scene = await planned(hashEngine);
  const store = new FileStore(scene.out);
  expect(await readRun(store, "r")).toMatchObject({ options: { engine: "hash" }, engineVersion: "1.0.0" });
  await expect(work(scene)).rejects.toMatchObject({
    code: "worker_unfit",
    message: "run r wants vectors of engine hash; this worker has engine onnx",
  });
  await expectUntouched(scene);
  const lines = await work(scene, { ...hashEngine, version: "2.0.0" });
  const said = lines.filter(({ engine }) => engine !== undefined);
  expect(said).toEqual([
    expect.objectContaining({ run: "r", engine: "hash", version: "2.0.0", engineVersion: "1.0.0" }),
  ]);
  const wanted = { ok: true, sealed: true, rows: DOCUMENTS, engines: ["hash 2.0.0"] };
  expect(await verifyRun({ store, run: "r" })).toMatchObject(wanted);
});

test("a model without any ONNX file is planned and embedded by the engine that its manifest names", async () => {
  const { folder } = await foreignModel(await tempFolder());
  const scene = await planned(hashEngine, folder);
  await expect(work(scene)).rejects.toMatchObject({
    code: "bad_usage",
    message: expect.stringContaining(
      'no engine named "hash" is bundled with embedfleet; the model\'s manifest names it',
    ),
  });
  await expect(work(scene, "onnx")).rejects.toMatchObject({
    code: "bad_usage",
    message: "engine onnx cannot run model hashed",
  });
  await expectUntouched(scene);
  await work(scene, hashEngine);
  const verified = await verifyRun({ store: new FileStore(scene.out), run: "r" });
  expect(verified).toMatchObject({ ok: true, rows: DOCUMENTS, engines: ["hash 1.0.0"] });
});
