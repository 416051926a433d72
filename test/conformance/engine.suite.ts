/** What every `InferenceEngine` must do, whatever runtime stands behind it. */
import { describe, expect, test } from "vitest";
import { ALL_HEADS, engineNameSchema, precisionSchema } from "../../src/core/contracts.ts";
import { deviceName } from "../../src/core/device-name.ts";
import { assertOffersHeads, type InferenceEngine, offeredPrecision } from "../../models/engine.ts";
import type { Model } from "../../models/registry/open-model.ts";
import { rowsOf, shardOf } from "./embedder.suite.ts";

/** @param model One of mini's vocabulary and width that the engine can run, in fp32 at least and not in every precision. */
export function engineSuite(engine: InferenceEngine, model: () => Promise<Model>): void {
  describe(`the engine ${engine.name}`, () => {
    test("it has a name that a flag and a record can hold, and says its version", () => {
      expect(engineNameSchema.parse(engine.name)).toBe(engine.name);
      expect(engine.version).toMatch(/\d/);
    });

    test("its devices are named as they are typed, auto is the first of them, and any other is refused", () => {
      const devices = engine.devices();
      expect(devices.length).toBeGreaterThan(0);
      expect(engine.chooseDevice("auto")).toEqual(devices[0]);
      for (const device of devices) {
        expect(engine.parseDevice(deviceName(device))).toEqual(device);
        expect(engine.chooseDevice(device)).toEqual(device);
      }
      for (const name of ["", "auto", "cpu:0", "abacus", "cpu,cpu"]) expect(engine.parseDevice(name)).toBeNull();
      expect(() => engine.chooseDevice({ kind: "abacus", index: 0 })).toThrow(
        expect.objectContaining({ code: "bad_usage", cure: expect.stringContaining("cpu") }),
      );
    });

    test("it says how exact each precision is, and offers a model at some of them, most exact first", async () => {
      for (const minCosine of Object.values(engine.precisions)) {
        expect(minCosine).toBeGreaterThan(0.9);
        expect(minCosine).toBeLessThanOrEqual(1);
      }
      const { manifest } = await model();
      const { precisions, heads } = engine.offers(manifest);
      expect(precisions[0]).toBe("fp32");
      for (const precision of precisions) {
        expect(engine.precisions[precision]).toBeDefined();
        expect(manifest.weights[precision]).toBeDefined();
        expect(offeredPrecision(engine, manifest, precision)).toBe(precision);
      }
      expect(precisions).toEqual(precisionSchema.options.filter((each) => precisions.includes(each)));
      expect(offeredPrecision(engine, manifest)).toBe("fp32");
      expect(heads).toEqual(ALL_HEADS.filter((head) => heads.includes(head)));
      for (const head of heads) expect(manifest.heads[head]).toBeDefined();
    });

    test("what it does not offer is refused with what it does", async () => {
      const { manifest } = await model();
      const { precisions, heads } = engine.offers(manifest);
      const missing = precisionSchema.options.find((precision) => !precisions.includes(precision))!;
      expect(() => offeredPrecision(engine, manifest, missing)).toThrow(
        expect.objectContaining({
          code: "bad_usage",
          message: expect.stringContaining(`engine ${engine.name} does not offer model ${manifest.id} at ${missing}`),
          cure: expect.stringContaining(`--precision ${precisions.join(" or ")}`),
        }),
      );
      const { colbert: _, ...fewer } = manifest.heads;
      const narrow = { ...manifest, heads: fewer } as typeof manifest;
      expect(() => assertOffersHeads(engine, manifest, heads)).not.toThrow();
      expect(() => assertOffersHeads(engine, narrow, ["dense", "colbert"])).toThrow(
        expect.objectContaining({ code: "bad_usage", cure: expect.stringContaining("--heads dense,sparse") }),
      );
    });

    test("an opened model takes batches, and says how many at once and how large", async () => {
      const opened = await engine.open({ model: await model(), threads: 1, maxBatchTokens: 1024 });
      expect(opened.batchesInFlight).toBeGreaterThanOrEqual(1);
      expect(Number.isInteger(opened.batchesInFlight)).toBe(true);
      expect(opened.maxBatchTokens()).toBeGreaterThanOrEqual(64);
      expect(opened.notes).toEqual([]);
      const shards = Array.from({ length: opened.batchesInFlight + 1 }, (_, i) => shardOf([9, 4], ["dense"], i));
      await Promise.all(shards.map((shard) => opened.embedder.embed({ rows: rowsOf(shard) })));
      for (const { dense, broken } of shards) {
        expect(Math.hypot(...dense!)).toBeCloseTo(Math.SQRT2, 4);
        expect(broken).toEqual(new Uint8Array(2));
      }
      await opened.embedder.close();
      await opened.embedder.close();
    });

    test("the same rows come out alike from two openings, and from a sandbox where there is one", async () => {
      const opened = [
        (await engine.open({ model: await model(), threads: 1 })).embedder,
        (await engine.open({ model: await model(), threads: 2 })).embedder,
      ];
      const sandbox = engine.openSandbox?.({ model: await model(), threads: 1, maxBatchMs: 60_000 });
      if (sandbox !== undefined) opened.push(sandbox);
      const dense: Float32Array[] = [];
      for (const embedder of opened) {
        const shard = shardOf([9, 30], ["dense"]);
        await embedder.embed({ rows: rowsOf(shard) });
        await embedder.close();
        dense.push(shard.dense!);
      }
      for (const each of dense) each.forEach((value, i) => expect(value).toBeCloseTo(dense[0]![i]!, 4));
    });
  });
}
