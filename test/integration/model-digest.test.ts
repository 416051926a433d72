/** What a model's digests cover: every file that its graph loads, under whatever name, and all else that decides vectors. */
import { createHash } from "node:crypto";
import { appendFileSync, existsSync } from "node:fs";
import { cp, link, mkdir, readFile, rename, stat, symlink, truncate, utimes, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";
import { sessionParams } from "../../models/onnx/thread-embedder.ts";
import { describeFolder } from "../../models/registry/hub-folder.ts";
import { openTokenizer } from "../../models/tokenizer/open-tokenizer.ts";
import { type Model, openModel } from "../../models/registry/open-model.ts";
import { sha256Of, statPlain } from "../../models/registry/plain-file.ts";
import { findModel } from "../../models/registry/registry.ts";
import { ModelSession } from "../../models/onnx/session.ts";
import { allocateShard } from "../../src/core/batch.ts";
import { ExternalFolders, HUB_FOLDER, WEIGHT_BYTES } from "../fixtures/external-folder.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

const BESIDE = "model.onnx_data";
const BLIND = ["w.pt", "w.model", "sub/w.bin", "w.json", "w.txt", "w.md", "w.lock", "w.onnx", ".w", "./sub/./w"];
const LEADING_OUT = ["/etc/hostname", "../outside.bin", "sub/../w.bin", "w\\v", "*/_ORT_MEM_ADDR_/*"];
const folders = new ExternalFolders([BESIDE, ...BLIND, ...LEADING_OUT]);
const MIB = 1024 * 1024;

async function open(folder: string): Promise<Model> {
  return openModel(findModel(folder, { modelsFolder: "" }));
}

async function dense(folder: string): Promise<Float32Array> {
  const session = await ModelSession.open(sessionParams({ model: await open(folder), threads: 1 }));
  const shard = allocateShard({ lengths: [4], dim: 32, heads: ["dense"] });
  shard.ids.set([0, 7, 8, 2]);
  await session.run([{ shard, row: 0 }]);
  return shard.dense!;
}

async function twins(params: Readonly<{ location: string; padding?: number }>): Promise<[string, string]> {
  return [await folders.make(params), await folders.make({ ...params, weights: folders.weights(true) })];
}

test.each(BLIND)("two folders that differ only in %s have two digests", async (location) => {
  const [one, other] = await twins({ location });
  expect((await open(one)).ref.sha256).not.toBe((await open(other)).ref.sha256);
});

test("and so they do where the graph is above 64 MiB", async () => {
  const [one, other] = await twins({ location: "sub/w.bin", padding: 65 * MIB });
  expect((await open(one)).ref.sha256).not.toBe((await open(other)).ref.sha256);
});

test("such folders have other vectors, too", async () => {
  const [one, other] = await twins({ location: "sub/w.bin" });
  expect(await dense(one)).toEqual(await dense(HUB_FOLDER));
  expect(await dense(other)).not.toEqual(await dense(one));
});

test("the digest of a model whose data lie beside its graph is what it always was", async () => {
  const folder = await folders.make({ location: BESIDE });
  const paths = ["onnx/model.onnx", `onnx/${BESIDE}`, "sparse_linear.pt", "colbert_linear.pt"];
  const lines = await Promise.all(
    paths.map(async (path) => `${sha256(await readFile(join(folder, path)))}  ${path}\n`),
  );
  expect((await open(folder)).ref.sha256).toBe(sha256(lines.toSorted().join("")));
});

function sha256(bytes: Buffer | string): string {
  return createHash("sha256").update(bytes).digest("hex");
}

// --- What is refused ------------------------------------------------------------------------

test.each(LEADING_OUT)("data at %s are refused", async (location) => {
  const folder = await folders.make({ location, weights: null });
  await writeFile(join(dirname(folder), "outside.bin"), folders.weights());
  await expect(open(folder)).rejects.toMatchObject({
    code: "model_invalid",
    message: expect.stringMatching(/keeps weights in .*, which is not a plain path inside/),
    cure: expect.stringMatching(/\w/),
  });
});

const spoilt: [string, (place: string, folder: string) => Promise<void>, RegExp][] = [
  ["that are missing", async () => {}, /which is not there/],
  ["in a folder's place", (place) => mkdir(place), /which cannot be used: .* is a folder/],
  ["behind a link that leads out", async (place, folder) => linkOut(place, folder), /a link that leads out/],
  ["cut short", (place) => writeFile(place, folders.weights().subarray(1)), /has 4095 bytes, .* up to 4096/],
];
test.each(spoilt)("data %s are refused", async (_, spoil, message) => {
  const folder = await folders.make({ location: BESIDE, weights: null });
  await spoil(join(folder, "onnx", BESIDE), folder);
  await expect(open(folder)).rejects.toThrow(message);
  await expect(open(folder)).rejects.toMatchObject({ code: "model_invalid", cure: expect.stringMatching(/\w/) });
});

async function linkOut(place: string, folder: string): Promise<void> {
  const outside = join(dirname(folder), "outside.bin");
  await writeFile(outside, folders.weights());
  await symlink(outside, place);
}

test("links inside the folder, and those of a hub's cache, are the model's own files", async () => {
  const folder = await folders.make({ location: BESIDE });
  const digest = (await open(folder)).ref.sha256;
  for (const blobs of [join(folder, "blobs"), join(dirname(folder), "blobs")]) {
    await mkdir(blobs);
    for (const name of ["model.onnx", BESIDE]) {
      const place = join(folder, "onnx", name);
      const bytes = await readFile(place);
      await rename(place, join(blobs, `was-${name}`));
      await writeFile(join(blobs, name), bytes);
      await symlink(join(blobs, name), place);
    }
    expect((await open(folder)).ref.sha256).toBe(digest);
    expect(await dense(folder)).toEqual(await dense(HUB_FOLDER));
  }
});

test("a file that the graph loads and manifest.json does not list is refused; a listed one counts", async () => {
  const [one, other] = await twins({ location: "sub/w.bin" });
  const described = describeFolder(one);
  const [graph] = described.weights.fp32!;
  const write = (folder: string, paths: readonly { path: string }[]): Promise<void> =>
    writeFile(join(folder, "manifest.json"), JSON.stringify({ ...described, weights: { fp32: paths } }));
  await write(one, [graph!]);
  await expect(open(one)).rejects.toMatchObject({
    code: "model_invalid",
    message: expect.stringMatching(/loads "onnx\/sub\/w\.bin", which the model's manifest\.json does not list/),
    cure: expect.stringContaining("weights"),
  });
  for (const folder of [one, other]) await write(folder, [graph!, { path: "onnx/sub/w.bin" }]);
  expect((await open(one)).ref.sha256).not.toBe((await open(other)).ref.sha256);
});

test("a manifest cannot have its files outside its folder", async () => {
  const folder = await folders.make({ location: BESIDE });
  const manifest = describeFolder(folder);
  for (const elsewhere of ["..", "../../etc", "/etc"]) {
    await writeFile(join(folder, "manifest.json"), JSON.stringify({ ...manifest, folder: elsewhere }));
    await expect(open(folder)).rejects.toThrow(/outside its own folder/);
  }
});

// --- Files that change ----------------------------------------------------------------------

/** Other bytes of the same size, with the times that the file had. */
async function swap(path: string, inPlace: boolean): Promise<void> {
  const { atime, mtime } = await stat(path);
  const target = inPlace ? path : `${path}.new`;
  await writeFile(target, folders.weights(true));
  await utimes(target, atime, mtime);
  if (!inPlace) await rename(target, path);
}

test.each([true, false])("weights changed between digest and load are found (in place: %s)", async (inPlace) => {
  const folder = await folders.make({ location: BESIDE });
  const model = await open(folder);
  await swap(join(folder, "onnx", BESIDE), inPlace);
  await expect(ModelSession.open(sessionParams({ model, threads: 1 }))).rejects.toMatchObject({
    code: "model_invalid",
    message: expect.stringMatching(/model\.onnx_data has been changed since the model was opened/),
  });
});

test("a file that was only linked meanwhile is the same; another tokenizer is not", async () => {
  const folder = await folders.make({ location: BESIDE });
  const model = await open(folder);
  await link(join(folder, "onnx", BESIDE), join(folder, "linked"));
  await ModelSession.open(sessionParams({ model, threads: 1 }));
  await cp(join(folder, "config.json"), join(folder, "tokenizer.json"));
  await expect(openTokenizer(model, "query")).rejects.toThrow(/tokenizer\.json has been changed/);
});

test("a file that grows while it is read is refused", async () => {
  const folder = await folders.make({ location: BESIDE });
  const path = join(folder, "onnx", BESIDE);
  await truncate(path, 8 * MIB);
  const digest = sha256Of(path, statPlain(path).identity);
  appendFileSync(path, "more");
  await expect(digest).rejects.toMatchObject({ code: "model_invalid" });
  await truncate(path, 0);
  expect(await sha256Of(path, statPlain(path).identity)).toBe(sha256(""));
});

test("no kept digest outlives its file, and nothing in the folder says what digests are", async () => {
  const folder = await folders.make({ location: BESIDE });
  const data = join(folder, "onnx", BESIDE);
  await truncate(data, 65 * MIB);
  await utimes(data, 1, 1);
  const cacheFolder = await tempFolder();
  const digest = async (): Promise<string> =>
    (await openModel(findModel(folder, { modelsFolder: "" }), { cacheFolder })).ref.sha256;
  const before = await digest();
  // Digests are kept of files that have not been changed for two seconds.
  while (!existsSync(join(cacheFolder, "digests"))) expect(await digest()).toBe(before);
  expect(await digest()).toBe(before);
  const { size, mtimeMs, ctimeMs } = await stat(data);
  const forged = { [`onnx/${BESIDE}`]: { bytes: size, sha256: "0".repeat(64), mtimeMs, ctimeMs } };
  await writeFile(join(folder, ".digests.json"), JSON.stringify(forged));
  expect(await digest()).toBe(before);
  const other = Buffer.concat([folders.weights(true), Buffer.alloc(65 * MIB - WEIGHT_BYTES)]);
  await writeFile(data, other);
  await utimes(data, 1, 1);
  expect(await digest()).not.toBe(before);
});

// --- What else decides vectors --------------------------------------------------------------

const setups: [string, string, (json: Record<string, unknown>) => Record<string, unknown>][] = [
  ["pooling", "1_Pooling/config.json", () => ({ pooling_mode_cls_token: true })],
  ["a prompt", "config_sentence_transformers.json", () => ({ prompts: { passage: "doc: " } })],
  ["a special id", "config.json", (config) => ({ ...config, eos_token_id: 9 })],
  ["the padding's id", "config.json", (config) => ({ ...config, pad_token_id: 5 })],
  ["the tokenizer", "tokenizer.json", (tokenizer) => ({ ...tokenizer, pre_tokenizer: { type: "WhitespaceSplit" } })],
];
test.each(setups)("another setup has another digest, beside that of the weights: %s", async (_, path, change) => {
  const folder = await folders.make({ location: BESIDE });
  const before = (await open(folder)).ref;
  const file = join(folder, path);
  await writeFile(file, JSON.stringify(change(JSON.parse(await readFile(file, "utf8")))));
  const after = (await open(folder)).ref;
  expect(after.sha256).toBe(before.sha256);
  expect(after.setupSha256).not.toBe(before.setupSha256);
});

test("the fp32 weights that take over rows of int8 are part of its setup", async () => {
  const [one, other] = await twins({ location: BESIDE });
  const setup = async (folder: string): Promise<string | undefined> => {
    await cp(join(HUB_FOLDER, "onnx/model.onnx"), join(folder, "onnx/model_int8.onnx"));
    return (await openModel(findModel(folder, { modelsFolder: "" }), { precision: "int8" })).ref.setupSha256;
  };
  expect(await setup(one)).not.toBe(await setup(other));
});
