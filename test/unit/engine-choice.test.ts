/** Which engine computes a model or a run, and what records and manifests of before there was a choice mean. */
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { tableFromIPC } from "apache-arrow";
import { expect, test } from "vitest";
import { chooseEngine } from "../../models/choose-engine.ts";
import { offeredPrecision } from "../../models/engine.ts";
import { modelManifestSchema } from "../../models/registry/manifest.ts";
import { openModel } from "../../models/registry/open-model.ts";
import { decodeResults, encodeResults } from "../../src/arrow/results.ts";
import { contentDifferences } from "../../src/core/content.ts";
import { type RunOptions, runRecordSchema } from "../../src/core/contracts.ts";
import { openRun } from "../../src/run/open-run.ts";
import { Loader } from "../../workers/loader.ts";
import { foreignModel } from "../fixtures/foreign-model.ts";
import { hashEngine } from "../fixtures/hash-engine.ts";
import { runOptions } from "../fixtures/run-options.ts";
import { ScriptedStore } from "../fixtures/scripted-store.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

const onnx = chooseEngine("onnx");
const model = { id: "m", revision: "1", sha256: "a".repeat(64), dim: 4, maxTokens: 64 };

test("an engine is the one that is given or named, else the manifest's, else onnx", () => {
  expect(chooseEngine(hashEngine, { engine: "onnx" })).toBe(hashEngine);
  expect(chooseEngine("onnx", { engine: "hash" })).toBe(onnx);
  expect(chooseEngine(undefined, {}).name).toBe("onnx");
  expect(chooseEngine(undefined).name).toBe("onnx");
  const refused = (why: string): unknown =>
    expect.objectContaining({
      code: "bad_usage",
      message: expect.stringContaining(why),
      cure: expect.stringContaining("--engine onnx"),
    });
  expect(() => chooseEngine("abacus")).toThrow(
    refused('no engine named "abacus" is bundled with embedfleet; it was asked for'),
  );
  expect(() => chooseEngine(undefined, { engine: "hash" })).toThrow(refused("the model's manifest names it"));
});

async function miniManifest(): Promise<Record<string, unknown>> {
  const file = fileURLToPath(new URL("../../models/manifests/mini.json", import.meta.url));
  return JSON.parse(await readFile(file, "utf8")) as Record<string, unknown>;
}

test("a manifest for another engine needs no ONNX file, and one for onnx says what it lacks", async () => {
  const { inputs: _, ...bare } = await miniManifest();
  expect(() => modelManifestSchema.parse(bare)).toThrow(/inputs/);
  expect(() => modelManifestSchema.parse({ ...bare, engine: "onnx" })).toThrow(/inputs/);
  expect(() => modelManifestSchema.parse({ ...bare, engine: "Not A Name" })).toThrow(/small letters/);
  expect(() => modelManifestSchema.parse({ ...bare, engine: "hash", weights: {} })).toThrow(/at least one precision/);
  const foreign = modelManifestSchema.parse({ ...bare, engine: "hash", heads: { dense: { anything: [1, "a"] } } });
  expect(foreign.heads.dense).toEqual({ anything: [1, "a"] });
  expect(onnx.offers(foreign)).toEqual({ precisions: [], heads: [] });
  expect(() => offeredPrecision(onnx, foreign)).toThrow(
    expect.objectContaining({ code: "bad_usage", message: "engine onnx cannot run model mini" }),
  );
});

test("a manifest of an earlier version, with a positionOffset, is read all the same", async () => {
  const manifest = await miniManifest();
  const architecture = { ...(manifest["architecture"] as object), positionOffset: 2 };
  expect(modelManifestSchema.parse({ ...manifest, architecture })).toEqual(modelManifestSchema.parse(manifest));
  expect(() => modelManifestSchema.parse({ ...manifest, architecture: null })).toThrow(/architecture/);
});

test("what a manifest for another engine says of a head decides about vectors; its description does not", async () => {
  const setupOf = async (changed: Readonly<Record<string, unknown>>): Promise<string | undefined> =>
    (await openModel(await foreignModel(await tempFolder(), changed))).ref.setupSha256;
  const before = await setupOf({});
  expect(await setupOf({ description: "another" })).toBe(before);
  expect(await setupOf({ heads: { dense: { cut: 1 }, sparse: { firstWordId: 4 }, colbert: {} } })).not.toBe(before);
  expect(await setupOf({ engine: "hash2" })).not.toBe(before);
  const { ref, weightsPath } = await openModel(await foreignModel(await tempFolder()));
  expect(weightsPath).toMatch(/seed\.txt$/);
  expect(ref.sha256).toMatch(/^[0-9a-f]{64}$/);
});

test("a precision that the engine does not offer is refused although the model has weights for it", async () => {
  const manifest = await miniManifest();
  const { fp32 } = manifest["weights"] as Record<string, unknown>;
  const both = modelManifestSchema.parse({ ...manifest, weights: { fp32, fp16: fp32 } });
  expect(offeredPrecision(onnx, both, "fp16")).toBe("fp16");
  expect(() => offeredPrecision(hashEngine, both, "fp16")).toThrow(
    expect.objectContaining({
      message: "engine hash does not offer model mini at fp16",
      cure: expect.stringContaining("--precision fp32"),
    }),
  );
});

const optionsOf = (engine?: string): RunOptions => runOptions({ model, ...(engine !== undefined && { engine }) });

async function load(run: RunOptions, worker?: string): Promise<unknown> {
  const store = new ScriptedStore();
  await openRun(store, { run: "r", inputs: ["x"], options: run });
  const engine = worker === undefined ? {} : { engine: { name: worker, version: "1" } };
  const loader = new Loader({ store, model, precision: "fp32", heads: ["dense"], vocabSize: 9, ...engine });
  const place = { start: 0, end: 10, rows: 1, tokens: 3, longest: 3 };
  const payload = { v: 1, run: "r", shard: "w000000-s0000", ...place } as const;
  return loader.load({ id: "r-w000000-s0000", payload, stalls: 0 }).catch(({ code }: { code: string }) => code);
}

test("a run without an engine is onnx's: its workers get as far as the rows, and any other refuses its jobs", async () => {
  for (const run of [optionsOf(), optionsOf("onnx")]) {
    expect(await load(run)).toBe("object_missing");
    expect(await load(run, "onnx")).toBe("object_missing");
    expect(await load(run, "hash")).toBe("worker_unfit");
  }
  expect(await load(optionsOf("hash"), "hash")).toBe("object_missing");
  expect(await load(optionsOf("hash"))).toBe("worker_unfit");
});

test("a run goes on, and a delta builds on it, with the same engine only; none named is onnx", async () => {
  const store = new ScriptedStore();
  const open = (run: string, options: RunOptions) => openRun(store, { run, inputs: ["x"], options });
  for (const [begun, others, same] of [
    [undefined, ["hash"], ["onnx", undefined]],
    ["onnx", ["hash"], ["onnx", undefined]],
    ["hash", ["onnx", undefined], ["hash"]],
  ] as const) {
    const run = begun ?? "old";
    await open(run, optionsOf(begun));
    for (const engine of same) {
      expect((await open(run, optionsOf(engine))).isNew).toBe(false);
      expect(contentDifferences(optionsOf(begun), optionsOf(engine))).toEqual([]);
    }
    for (const engine of others) {
      await expect(open(run, optionsOf(engine))).rejects.toMatchObject({ code: "run_conflict" });
      expect(contentDifferences(optionsOf(begun), optionsOf(engine))).toEqual([expect.stringMatching(/^engine is/)]);
    }
  }
  await openRun(store, { run: "v", inputs: ["x"], options: optionsOf("onnx"), engineVersion: "1.2.3" });
  const record = JSON.parse(Buffer.from(await store.read({ key: "runs/v/run.json" })).toString()) as unknown;
  expect(runRecordSchema.parse(record)).toMatchObject({ engineVersion: "1.2.3", options: { engine: "onnx" } });
  // The same run on a machine whose engine is of another version is the same run.
  const again = await openRun(store, { run: "v", inputs: ["x"], options: optionsOf("onnx"), engineVersion: "1.2.4" });
  expect(again.record.engineVersion).toBe("1.2.3");
});

test("a result file names the engine and its version, and is not taken for another engine's", () => {
  const rows = {
    ids: ["a"],
    chunks: new Uint32Array(1),
    charStarts: new Uint32Array(1),
    charEnds: new Uint32Array(1),
    tokenCounts: Uint32Array.of(3),
    textHashes: new Uint8Array(32),
    dim: 4,
    dense: Float32Array.of(1, 0, 0, 0),
    sparse: null,
    colbert: null,
    texts: null,
    kept: [],
  };
  const figures = { realTokens: 3, paddedTokens: 3, batches: 1, deviceMs: 1, idleMs: 0, idle: {} };
  const options = optionsOf("hash");
  const of = { run: "r", shard: "w000000-s0000" };
  const meta = { ...of, options, stats: { rows: 1, rejects: 0, ...figures }, rejectsKey: null };
  const bytes = encodeResults(rows, { ...meta, engineVersion: "1.0.0" });
  const { metadata } = tableFromIPC(bytes).schema;
  const said = ["engine", "engine_version", "precision"].map((name) => metadata.get(`embedfleet.${name}`));
  expect(said).toEqual(["hash", "1.0.0", "fp32"]);
  expect(decodeResults({ ...of, options, bytes }).engineVersion).toBe("1.0.0");
  expect(() => decodeResults({ ...of, options: optionsOf(), bytes })).toThrow(/embedfleet\.engine/);
  expect(decodeResults({ ...of, options, bytes: encodeResults(rows, meta) }).engineVersion).toBeNull();
});
