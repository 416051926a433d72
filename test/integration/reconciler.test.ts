/** What reconciling a run costs its store: one reads it back, another when that one dies, and plans are read once. */
import { randomUUID } from "node:crypto";
import { pino } from "pino";
import { expect, inject, onTestFinished, test } from "vitest";
import { FileStore } from "../../src/adapters/file/file-store.ts";
import { BullQueue } from "../../src/adapters/redis/bull-queue.ts";
import { RedisTurn } from "../../src/adapters/redis/redis-turn.ts";
import { untilComplete } from "../../src/cli/commands/run.ts";
import { runKeys, windowId } from "../../src/core/layout.ts";
import type { QueueCounts } from "../../src/core/ports.ts";
import { type FleetEvent, type Observe, unobserved } from "../../src/core/telemetry.ts";
import { listActive, markActive } from "../../src/run/active-runs.ts";
import { readManifest } from "../../src/run/seal.ts";
import { Reconciler } from "../../src/run/reconciler.ts";
import { MemoryQueue } from "../fixtures/memory-queue.ts";
import { runUnsealed } from "../fixtures/pretend-fleet.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

const RUN = "night";
/** Of the only window. */
const PLAN = runKeys(RUN).plan(windowId(0));
const log = pino({ level: "silent" });

/** Counts how often each object is read, and reads no result file before `mayRead`. */
class CountingStore extends FileStore {
  readonly #reads = new Map<string, number>();
  mayRead: Promise<void> = Promise.resolve();
  onFirstRead: () => void = () => {};

  override async read(params: Parameters<FileStore["read"]>[0]): Promise<Uint8Array> {
    const { key } = params;
    this.#reads.set(key, (this.#reads.get(key) ?? 0) + 1);
    if (key.startsWith(runKeys(RUN).dataPrefix)) {
      this.onFirstRead();
      await this.mayRead;
    }
    return super.read(params);
  }

  /** Those of the producer, say, who reads back what it has written. */
  forgetReads(): void {
    this.#reads.clear();
  }

  /** Of the objects below a prefix. */
  reads(prefix: string): Map<string, number> {
    return new Map([...this.#reads].filter(([key]) => key.startsWith(prefix)));
  }
}

function openTurn(fleet: string): RedisTurn {
  const turn = new RedisTurn({ redisUrl: inject("redisUrl"), key: fleet });
  onTestFinished(() => turn.close());
  return turn;
}

interface TestFleet {
  readonly store: CountingStore;
  readonly fleet: string;
  readonly openTender: (observe?: Observe) => Reconciler;
}

async function openFleet(): Promise<TestFleet> {
  const fleet = `test-${randomUUID()}`;
  const store = new CountingStore(await tempFolder());
  const corpus = Array.from({ length: 20 }, (_, i) => [`d${i}`, `text number ${i} `.repeat(i + 1)] as const);
  await runUnsealed(store, { run: RUN, corpus });
  store.forgetReads();
  await markActive(store, { fleet, run: RUN });
  const openTender = (observe: Observe = unobserved): Reconciler =>
    new Reconciler({
      store,
      queue: new MemoryQueue(),
      turn: openTurn(fleet),
      fleet,
      keepStaging: false,
      intervalMs: 60_000,
      log,
      observe,
    });
  return { store, fleet, openTender };
}

test("of two tenders one reads a finished run back, and the other knows that it is not sealed yet", async () => {
  const { store, fleet, openTender } = await openFleet();
  let goOn = (): void => {};
  store.mayRead = new Promise((resolve) => (goOn = resolve));
  const begun = new Promise<void>((resolve) => (store.onFirstRead = resolve));
  const [first, second] = [openTender(), openTender()];
  const sealing = first.reconcile();
  await begun;
  expect(await second.reconcile()).toBe(1);
  goOn();
  expect(await sealing).toBe(0);
  expect(await second.reconcile()).toBe(0);
  const manifest = (await readManifest(store, RUN))!;
  expect(manifest.files.length).toBeGreaterThan(0);
  expect(store.reads(runKeys(RUN).dataPrefix)).toEqual(new Map(manifest.files.map(({ key }) => [key, 1])));
  expect(await listActive(store, fleet)).toEqual([]);
});

test("a sealer that died is replaced when its turn has lapsed", async () => {
  const { store, fleet, openTender } = await openFleet();
  const dead = openTurn(fleet);
  expect(await dead.hold({ name: `seal:${RUN}`, durationMs: 1000 })).not.toBeNull();
  const alive = openTender();
  expect(await alive.reconcile()).toBe(1);
  // Renewed no more, as when its process is killed.
  await dead.close();
  await expect.poll(() => alive.reconcile(), { timeout: 60_000 }).toBe(0);
  expect(await readManifest(store, RUN)).not.toBeNull();
});

test("who seals says so file by file, since a large run takes longer than a process may be silent", async () => {
  const { store, openTender } = await openFleet();
  const events: FleetEvent[] = [];
  await openTender((event) => void events.push(event)).reconcile();
  const { files } = (await readManifest(store, RUN))!;
  const readBack = files.map((_, i) => ({ kind: "read-back", run: RUN, files: i + 1, plannedFiles: files.length }));
  expect(events).toEqual([...readBack, { kind: "reconciled", runs: 1, requeued: 0, sealed: 1 }]);
});

/** The first result file as if it had not been written yet. @returns What writes it. */
async function unwrite(store: CountingStore): Promise<() => Promise<unknown>> {
  for await (const { key } of store.list({ prefix: runKeys(RUN).dataPrefix })) {
    const body = await store.read({ key });
    await store.remove({ key });
    return () => store.create({ key, body });
  }
  throw new Error("the run has no result files");
}

test("each window's plan is read once, however often an open run is reconciled", async () => {
  const { store, openTender } = await openFleet();
  await unwrite(store);
  const reconciler = openTender();
  expect(await reconciler.reconcile()).toBe(1);
  expect(await reconciler.reconcile()).toBe(0);
  expect(await reconciler.reconcile()).toBe(0);
  expect(store.reads(PLAN)).toEqual(new Map([[PLAN, 1]]));
});

test("each window's plan is read once, however often `run` looks how far it is", async () => {
  const { store, fleet } = await openFleet();
  const write = await unwrite(store);
  let looks = 0;
  class LookedAtQueue extends BullQueue {
    override async counts(): Promise<QueueCounts> {
      if (++looks === 3) await write();
      return super.counts();
    }
  }
  const queue = new LookedAtQueue({ redisUrl: inject("redisUrl"), name: fleet });
  onTestFinished(() => queue.close());
  const report = await untilComplete({ store, queue, run: RUN, progress: { update() {}, stop() {} } });
  expect(report).toMatchObject({ state: "complete", shards: report.plannedShards });
  expect(looks).toBe(3);
  expect(store.reads(PLAN)).toEqual(new Map([[PLAN, 1]]));
});
