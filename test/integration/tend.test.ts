/** Tenders of one fleet on a finished run: one reads it back, and another does when that one dies. */
import { randomUUID } from "node:crypto";
import { pino } from "pino";
import { expect, inject, onTestFinished, test } from "vitest";
import { FileStore } from "../../src/adapters/file-store.ts";
import { RedisTurn } from "../../src/adapters/redis/redis-turn.ts";
import { runKeys } from "../../src/core/layout.ts";
import { listActive, markActive } from "../../src/run/active-runs.ts";
import { readManifest } from "../../src/run/seal.ts";
import { Tender } from "../../src/run/tend.ts";
import { MemoryQueue } from "../fixtures/memory-queue.ts";
import { runUnsealed } from "../fixtures/pretend-fleet.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

const RUN = "night";
const log = pino({ level: "silent" });

/** Counts how often each result file is read, and reads none before `mayRead`. */
class CountingStore extends FileStore {
  readonly reads = new Map<string, number>();
  mayRead: Promise<void> = Promise.resolve();
  onFirstRead: () => void = () => {};

  override async read(params: Parameters<FileStore["read"]>[0]): Promise<Uint8Array> {
    const { key } = params;
    if (key.startsWith(runKeys(RUN).dataPrefix)) {
      this.reads.set(key, (this.reads.get(key) ?? 0) + 1);
      this.onFirstRead();
      await this.mayRead;
    }
    return super.read(params);
  }
}

function openTurn(fleet: string): RedisTurn {
  const turn = new RedisTurn({ redisUrl: inject("redisUrl"), key: fleet });
  onTestFinished(() => turn.close());
  return turn;
}

async function openFleet(): Promise<{ store: CountingStore; fleet: string; openTender: () => Tender }> {
  const fleet = `test-${randomUUID()}`;
  const store = new CountingStore(await tempFolder());
  const corpus = Array.from({ length: 20 }, (_, i) => [`d${i}`, `text number ${i} `.repeat(i + 1)] as const);
  await runUnsealed(store, { run: RUN, corpus });
  await markActive(store, { fleet, run: RUN });
  const openTender = (): Tender =>
    new Tender({
      store,
      queue: new MemoryQueue(),
      turn: openTurn(fleet),
      fleet,
      keepStaging: false,
      intervalMs: 60_000,
      log,
    });
  return { store, fleet, openTender };
}

test("of two tenders one reads a finished run back, and the other knows that it is not sealed yet", async () => {
  const { store, fleet, openTender } = await openFleet();
  let goOn = (): void => {};
  store.mayRead = new Promise((resolve) => (goOn = resolve));
  const begun = new Promise<void>((resolve) => (store.onFirstRead = resolve));
  const [first, second] = [openTender(), openTender()];
  const sealing = first.tend();
  await begun;
  expect(await second.tend()).toBe(1);
  goOn();
  expect(await sealing).toBe(0);
  expect(await second.tend()).toBe(0);
  const manifest = (await readManifest(store, RUN))!;
  expect(manifest.files.length).toBeGreaterThan(0);
  expect(store.reads).toEqual(new Map(manifest.files.map(({ key }) => [key, 1])));
  expect(await listActive(store, fleet)).toEqual([]);
});

test("a sealer that died is replaced when its turn has lapsed", async () => {
  const { store, fleet, openTender } = await openFleet();
  const dead = openTurn(fleet);
  expect(await dead.hold({ name: `seal:${RUN}`, durationMs: 1000 })).not.toBeNull();
  const alive = openTender();
  expect(await alive.tend()).toBe(1);
  // Renewed no more, as when its process is killed.
  await dead.close();
  await expect.poll(() => alive.tend(), { timeout: 60_000 }).toBe(0);
  expect(await readManifest(store, RUN)).not.toBeNull();
}, 90_000);
