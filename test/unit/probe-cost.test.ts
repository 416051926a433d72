import { writeFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import { pino } from "pino";
import { describe, expect, test } from "vitest";
import { CostCache } from "../../src/disk/cost-cache.ts";
import { predictMs } from "../../src/core/cost-model.ts";
import { costOf, type ProbeParams } from "../../workers/probe-cost.ts";
import { PacedDevice } from "../fixtures/paced-device.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

const GPU = { batchMs: 1, tokenMs: 0.001, pairMs: 1e-7 };
const key = { modelSha256: "ab".repeat(32), precision: "fp32", device: "paced", threads: 1 };
const log = pino({ level: "silent" });

function probeOf(embedder: PacedDevice): ProbeParams {
  return { embedder, dim: 4, heads: ["dense"], maxTokens: 8192, vocabSize: 100, maxBatchTokens: 16_384, budgetMs: 400 };
}

describe("costOf", () => {
  test("measures a device once, and then knows it", async () => {
    const cache = new CostCache(await tempFolder());
    const device = new PacedDevice(GPU);
    const cost = await costOf({ ...probeOf(device), cache, key, log });
    for (const shape of [
      { rows: 16, length: 1024 },
      { rows: 2, length: 8192 },
    ])
      expect(predictMs(cost, shape) / predictMs(GPU, shape)).toBeCloseTo(1, 1);
    const { batches } = device;
    expect(await costOf({ ...probeOf(device), cache, key, log })).toEqual(cost);
    expect(device.batches).toBe(batches);
    await costOf({ ...probeOf(device), cache, key: { ...key, threads: 2 }, log });
    expect(device.batches).toBeGreaterThan(batches);
  });

  test("does not try batches that a slow device would need long for", async () => {
    const device = new PacedDevice({ batchMs: 1, tokenMs: 1, pairMs: 0 });
    await costOf({ ...probeOf(device), budgetMs: 300, cache: new CostCache(await tempFolder()), key, log });
    expect(device.batches).toBe(2);
  });

  test("measures again where the file was damaged, and works without a cache folder", async () => {
    const folder = await tempFolder();
    const cache = new CostCache(folder);
    const device = new PacedDevice(GPU);
    await costOf({ ...probeOf(device), cache, key, log });
    const [name] = await readdir(join(folder, "costs"));
    await writeFile(join(folder, "costs", name!), "{");
    const { batches } = device;
    await costOf({ ...probeOf(device), cache, key, log });
    expect(device.batches).toBeGreaterThan(batches);
    const nowhere = new CostCache(join(folder, "costs", name!));
    expect((await costOf({ ...probeOf(device), cache: nowhere, key, log })).tokenMs).toBeGreaterThan(0);
  });
});
