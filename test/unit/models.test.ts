/** Which model, at which precision, on which device; and what is said when it cannot be. */
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { chooseDevice, parseDevice } from "../../models/onnx/device.ts";
import { deviceName } from "../../src/core/device-name.ts";
import { modelManifestSchema } from "../../models/registry/manifest.ts";
import { openModel } from "../../models/registry/open-model.ts";
import { assertModelCan, findModel, listModels, pulledFolder, readManifest } from "../../models/registry/registry.ts";
import { openRun } from "../../src/run/open-run.ts";
import { Loader } from "../../workers/loader.ts";
import { cli } from "../fixtures/cli.ts";
import { openMini } from "../fixtures/mini.ts";
import { runOptions } from "../fixtures/run-options.ts";
import { ScriptedStore } from "../fixtures/scripted-store.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

const MANIFESTS = fileURLToPath(new URL("../../models/manifests", import.meta.url));

test("every manifest that comes along is valid and named like its model", async () => {
  const names = (await readdir(MANIFESTS)).toSorted();
  expect(names.length).toBeGreaterThanOrEqual(10);
  for (const name of names) expect(`${readManifest(join(MANIFESTS, name)).id}.json`).toBe(name);
  expect(listModels({ modelsFolder: "/nonexistent" }).map(({ manifest }) => manifest.id)).toEqual(
    names.map((name) => name.replace(".json", "")),
  );
});

test("the list says what each model is, how to fetch it, and which precision is for what", async () => {
  const { code, stdout } = await cli(["models", "list", "--models", "/nonexistent"]);
  expect(code).toBe(0);
  expect(stdout).toMatch(/^gte-multilingual-base +768 wide, 8192 tokens, dense, fp32 fp16 int8$/m);
  expect(stdout).toContain("fetch it with: embedfleet models pull bge-m3");
  expect(stdout).toMatch(/^Snowflake\/snowflake-arctic-embed-l-v2\.0 +1024 wide, 8192 tokens, dense$/m);
  const purposes = [
    "throughput on a GPU",
    "throughput on a CPU",
    "the least error",
    "a small device",
    "what int8 costs",
  ];
  for (const purpose of purposes) expect(stdout).toMatch(new RegExp(`^ {2}${purpose} +\\S`, "m"));
});

test("a model that is known and not here names the command that fetches it", () => {
  expect(() => findModel("bge-m3", { modelsFolder: "/nonexistent" })).toThrow(
    expect.objectContaining({ code: "model_unknown", cure: "embedfleet models pull bge-m3" }),
  );
  expect(() => findModel("bge-m4", { modelsFolder: "/nonexistent" })).toThrow(/no model named "bge-m4"/);
  expect(() => findModel("gte-modernbert-base", { modelsFolder: "/nonexistent" })).toThrow(
    expect.objectContaining({ cure: expect.stringContaining("models pull Alibaba-NLP/gte-modernbert-base") }),
  );
  expect(() => findModel("./bge-m4", { modelsFolder: "/nonexistent" })).toThrow(
    /neither manifest.json nor config.json/,
  );
});

test("paths in a manifest cannot leave the model's folder", () => {
  const manifest = readManifest(join(MANIFESTS, "mini.json"));
  for (const path of ["../model.onnx", "/etc/passwd", "a/../../b", ""]) {
    expect(modelManifestSchema.safeParse({ ...manifest, tokenizer: { path } }).success).toBe(false);
  }
});

test("what a model cannot do is refused with what it can", async () => {
  const found = findModel("bge-m3", { modelsFolder: await withPulled("bge-m3") });
  const asked = { heads: ["dense"], maxTokens: 512 } as const;
  expect(() => assertModelCan(found, { ...asked, maxTokens: 8193 })).toThrow(
    expect.objectContaining({ code: "bad_usage", cure: "use at most 8192" }),
  );
  expect(() => assertModelCan(found, { ...asked, dim: 256 })).toThrow(/at that width/);
  const matryoshka = { ...found, manifest: { ...found.manifest, truncateDims: [256, 512] } };
  expect(() => assertModelCan(matryoshka, { ...asked, dim: 256 })).not.toThrow();
  expect(() => assertModelCan(matryoshka, { heads: ["dense", "colbert"], maxTokens: 8, dim: 256 })).toThrow(/ColBERT/);
});

/** A models folder where a known model seems to have been pulled. */
async function withPulled(name: string): Promise<string> {
  const folder = await tempFolder();
  const manifest = readManifest(join(MANIFESTS, `${name}.json`));
  await mkdir(pulledFolder(manifest, folder), { recursive: true });
  await writeFile(join(pulledFolder(manifest, folder), "manifest.json"), JSON.stringify(manifest));
  return folder;
}

test("a precision that is not there is refused with those that are; auto is the most exact", async () => {
  const found = findModel("mini", { modelsFolder: "" });
  await expect(openModel(found, { precision: "int8" })).rejects.toMatchObject({
    code: "bad_usage",
    cure: expect.stringContaining("--precision fp32"),
  });
  expect((await openModel(found)).precision).toBe("fp32");
  const twice = { ...found.manifest.weights, int8: found.manifest.weights.fp32! };
  const model = await openModel({ ...found, manifest: { ...found.manifest, weights: twice } }, { precision: "int8" });
  expect(model.precision).toBe("int8");
});

test("a worker refuses a run of another precision", async () => {
  const model = await openMini();
  const store = new ScriptedStore();
  const options = runOptions({ model: model.ref, precision: "int8" });
  await openRun(store, { run: "r", inputs: ["x"], options });
  const loader = new Loader({ store, model: model.ref, precision: "fp32", heads: ["dense"], vocabSize: 20_000 });
  const payload = {
    v: 1,
    run: "r",
    shard: "w000000-s0000",
    start: 0,
    end: 10,
    rows: 1,
    tokens: 3,
    longest: 3,
  } as const;
  await expect(loader.load({ id: "r-w000000-s0000", payload, stalls: 0 })).rejects.toMatchObject({
    code: "worker_unfit",
    message: expect.stringContaining("int8"),
    cure: "start workers with --precision int8",
  });
});

test("devices are named as they are typed", () => {
  for (const text of ["cpu", "cuda:0", "tensorrt:3"]) expect(deviceName(parseDevice(text)!)).toBe(text);
  expect(deviceName(parseDevice("cuda")!)).toBe("cuda:0");
  for (const text of ["gpu", "cpu:0", "cuda:x", "cuda:-1", "", "auto"]) expect(parseDevice(text)).toBeNull();
});

test("a device whose library is not installed is refused with how to install it", () => {
  let refusal: unknown = null;
  try {
    expect(chooseDevice({ kind: "cuda", index: 0 }).kind).toBe("cuda");
  } catch (error) {
    refusal = error;
  }
  if (refusal !== null)
    expect(refusal).toMatchObject({ code: "bad_usage", cure: expect.stringContaining("doctor --install-gpu") });
  expect(["cpu", "cuda:0"]).toContain(deviceName(chooseDevice("auto")));
});
