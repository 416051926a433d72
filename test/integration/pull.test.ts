/** Pulling models from a server with the hub's layout and from mirrors: broken off, tampered with, twice at once. */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { pathToFileURL } from "node:url";
import { Ajv2020 } from "ajv/dist/2020.js";
import { expect, test } from "vitest";
import { type ModelManifest, modelManifestSchema } from "../../models/registry/manifest.ts";
import { openModel } from "../../models/registry/open-model.ts";
import { type ModelSource, type Pulled, pullModel } from "../../models/registry/pull.ts";
import { findModel, pulledFolder } from "../../models/registry/registry.ts";
import { HubSource, MirrorSource } from "../../models/registry/pull-sources.ts";
import { FileStore } from "../../src/adapters/file/file-store.ts";
import { cli } from "../fixtures/cli.ts";
import { ExternalFolders } from "../fixtures/external-folder.ts";
import { type Fault, HubServer, type HubServerParams } from "../fixtures/hub-server.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

const REPOSITORY = "people/tiny";
const COMMIT = "0123456789abcdef0123456789abcdef01234567";
const FILES = {
  "tokenizer.json": Buffer.from('{"a tokenizer": true}'),
  "onnx/model.onnx": Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 7919) % 251)),
  "onnx/model.onnx_data": Buffer.from(Array.from({ length: 5000 }, (_, i) => i % 13)),
};

function sha256(bytes: Buffer): string {
  return createHash("sha256").update(bytes).digest("hex");
}

function manifestOf(known: "digests known" | "nothing known", revision = COMMIT): ModelManifest {
  const file = (path: keyof typeof FILES): object =>
    known === "nothing known" ? { path } : { path, bytes: FILES[path].length, sha256: sha256(FILES[path]) };
  return modelManifestSchema.parse({
    id: "tiny",
    hub: REPOSITORY,
    revision,
    description: "tiny",
    notice: null,
    license: "MIT",
    tokenizer: file("tokenizer.json"),
    architecture: { kind: "bert", hiddenSize: 8, vocabSize: 8, padId: 0, maxTokens: 8 },
    dim: 8,
    prefixes: { query: "", passage: "" },
    inputs: { ids: "input_ids", mask: "attention_mask" },
    heads: { dense: { output: "x", finished: true } },
    weights: { fp32: [file("onnx/model.onnx"), file("onnx/model.onnx_data")] },
  });
}

async function serve(params: Partial<HubServerParams> = {}): Promise<HubServer> {
  return HubServer.start({ repository: REPOSITORY, revision: COMMIT, commit: COMMIT, files: FILES, ...params });
}

function sourceOf(hub: HubServer, token?: string, revision = COMMIT): ModelSource {
  return new HubSource({ endpoint: hub.url, repository: REPOSITORY, revision, token });
}

async function pull(source: ModelSource, manifest: ModelManifest, modelsFolder: string): Promise<Pulled> {
  return pullModel({ manifest, source, modelsFolder, backoffMs: 1 });
}

async function expectWhole({ folder }: Pulled): Promise<void> {
  for (const [path, bytes] of Object.entries(FILES))
    expect((await readFile(join(folder, path))).equals(bytes)).toBe(true);
}

test("every file arrives, and what is there already is left alone", async () => {
  const hub = await serve();
  const models = await tempFolder();
  const first = await pull(sourceOf(hub), manifestOf("digests known"), models);
  await expectWhole(first);
  expect(first.files.map(({ isNew, digest }) => [isNew, digest])).toEqual(
    Object.keys(FILES).map(() => [true, "manifest"]),
  );
  const requests = hub.requests.length;
  const again = await pull(sourceOf(hub), manifestOf("digests known"), models);
  expect(again.files.every(({ isNew }) => !isNew)).toBe(true);
  expect(hub.requests.length).toBe(requests);
  const model = await openModel(findModel(first.folder, { modelsFolder: models }));
  expect(model.ref).toMatchObject({ id: "tiny", revision: COMMIT });
});

test("the token goes to the hub and never to where it redirects", async () => {
  const hub = await serve({ token: "hf_secret" });
  await pull(sourceOf(hub, "hf_secret"), manifestOf("digests known"), await tempFolder());
  const elsewhere = hub.requests.filter(({ origin }) => origin === "elsewhere");
  expect(elsewhere.length).toBe(1);
  expect(elsewhere.every(({ authorization }) => authorization === undefined)).toBe(true);
  expect(hub.requests.filter(({ origin }) => origin === "hub").every(({ authorization }) => authorization)).toBe(true);
});

test("without the token the refusal says what to set, and no token", async () => {
  const hub = await serve({ token: "hf_secret" });
  const pulled = pull(sourceOf(hub, "hf_wrong"), manifestOf("digests known"), await tempFolder());
  await expect(pulled).rejects.toMatchObject({
    code: "model_unavailable",
    message: expect.not.stringContaining("hf_"),
    cure: expect.stringContaining("HF_TOKEN"),
  });
});

test("digests that nobody knew are the hub's where it says them, and recorded where it does not", async () => {
  const hub = await serve({ revision: "main" });
  const models = await tempFolder();
  const manifest = manifestOf("nothing known", "main");
  const pulled = await pull(sourceOf(hub, undefined, "main"), manifest, models);
  await expectWhole(pulled);
  expect(Object.fromEntries(pulled.files.map(({ path, digest }) => [path, digest]))).toEqual({
    "tokenizer.json": "recorded",
    "onnx/model.onnx": "source",
    "onnx/model.onnx_data": "recorded",
  });
  // The branch's name stood for a commit, and the record says which.
  const { manifest: recorded } = findModel(pulled.folder, { modelsFolder: models });
  expect(recorded.revision).toBe(COMMIT);
  expect(recorded.weights.fp32!.map(({ sha256 }) => sha256)).toEqual(
    (["onnx/model.onnx", "onnx/model.onnx_data"] as const).map((path) => sha256(FILES[path])),
  );
  await writeFile(join(pulled.folder, "onnx/model.onnx_data"), "changed later");
  await expect(openModel(findModel(pulled.folder, { modelsFolder: models }))).rejects.toThrow(/13 bytes/);
});

const passing: [string, (Fault | null)[]][] = [
  ["broken off again and again", [null, { cut: 1000 }, { cut: 90_000 }, { cut: 70_000 }]],
  ["answered with 500, 503 and 429", [{ status: 500 }, { status: 503 }, { status: 429 }]],
];
test.each(passing)("a download that is %s goes on and arrives whole", async (_, faults) => {
  const hub = await serve({ faults });
  await expectWhole(await pull(sourceOf(hub), manifestOf("digests known"), await tempFolder()));
});

test("a pull that was given up goes on where it stopped", async () => {
  const cut: Fault = { cut: 100_000 };
  const models = await tempFolder();
  const broken = await serve({ faults: [null, cut, ...Array.from({ length: 20 }, (): Fault => ({ status: 500 }))] });
  await expect(pull(sourceOf(broken), manifestOf("digests known"), models)).rejects.toMatchObject({
    code: "model_unavailable",
    cure: expect.stringContaining("goes on"),
  });
  const folder = pulledFolder(manifestOf("digests known"), models);
  const part = (await stat(join(folder, "onnx/model.onnx.part"))).size;
  expect(part).toBeGreaterThan(0);
  await expect(stat(join(folder, "manifest.json"))).rejects.toThrow(/ENOENT/);
  const healed = await serve();
  await expectWhole(await pull(sourceOf(healed), manifestOf("digests known"), models));
  expect(healed.requests.find(({ origin }) => origin === "elsewhere")?.range).toBe(`bytes=${part}-`);
});

test("a server that knows no ranges is read from the start", async () => {
  const hub = await serve({ faults: [null, { cut: 1000 }], ignoresRanges: true });
  await expectWhole(await pull(sourceOf(hub), manifestOf("digests known"), await tempFolder()));
});

test.each([
  ["its manifest's digest", "digests known"],
  ["the digest that the hub says", "nothing known"],
] as const)("a file that differs from %s is refused and does not stay", async (_, known) => {
  const hub = await serve({ faults: [null, { lie: true }] });
  const models = await tempFolder();
  const manifest = manifestOf(known);
  await expect(pull(sourceOf(hub), manifest, models)).rejects.toMatchObject({
    code: "model_invalid",
    message: expect.stringContaining("onnx/model.onnx"),
    cure: expect.stringContaining("tampered"),
  });
  for (const name of ["onnx/model.onnx", "onnx/model.onnx.part", "manifest.json"])
    await expect(stat(join(pulledFolder(manifest, models), name))).rejects.toThrow(/ENOENT/);
});

test("a damaged part of an earlier pull is thrown away", async () => {
  const models = await tempFolder();
  const folder = pulledFolder(manifestOf("digests known"), models);
  await mkdir(join(folder, "onnx"), { recursive: true });
  await writeFile(join(folder, "onnx/model.onnx.part"), "rubbish that no server sent");
  await writeFile(join(folder, "onnx/model.onnx_data.part"), Buffer.alloc(9999));
  const hub = await serve();
  await expectWhole(await pull(sourceOf(hub), manifestOf("digests known"), models));
});

test("a file that the repository lacks is named", async () => {
  const hub = await serve({ files: { ...FILES, "onnx/model.onnx": undefined as unknown as Buffer } });
  await expect(pull(sourceOf(hub), manifestOf("digests known"), await tempFolder())).rejects.toThrow(
    /has no onnx\/model\.onnx \(HTTP 404\)/,
  );
});

test("nobody waits for a pipe among the files: one in a download's place goes, one in a file's is refused", async () => {
  const hub = await serve();
  const models = await tempFolder();
  const manifest = manifestOf("digests known");
  const folder = pulledFolder(manifest, models);
  await mkdir(join(folder, "onnx"), { recursive: true });
  const pipe = (name: string): void => void spawnSync("mkfifo", [join(folder, name)]);
  const outside = join(models, "outside");
  for (const name of ["manifest.json.part", "onnx/model.onnx.part"]) pipe(name);
  await symlink(outside, join(folder, "tokenizer.json.part"));
  await expectWhole(await pull(sourceOf(hub), manifest, models));
  await expect(stat(outside)).rejects.toMatchObject({ code: "ENOENT" });
  await rm(join(folder, "tokenizer.json"));
  pipe("tokenizer.json");
  await expect(pull(sourceOf(hub), manifest, models)).rejects.toMatchObject({
    code: "model_invalid",
    message: expect.stringMatching(/tokenizer\.json is a named pipe/),
  });
});

test("two at once do not get into each other's way", async () => {
  const hub = await serve();
  const models = await tempFolder();
  const both = await Promise.all([1, 2].map(() => pull(sourceOf(hub), manifestOf("digests known"), models)));
  for (const pulled of both) await expectWhole(pulled);
  expect(hub.requests.filter(({ origin }) => origin === "elsewhere").length).toBe(1);
});

// --- Mirrors and the command ----------------------------------------------------------------

async function mirrorOf(files: Readonly<Record<string, Buffer>>): Promise<string> {
  const folder = await tempFolder();
  await mkdir(join(folder, "onnx"));
  for (const [path, bytes] of Object.entries(files)) await writeFile(join(folder, path), bytes);
  return folder;
}

test("a mirror in a store serves as well", async () => {
  const source = new MirrorSource(new FileStore(await mirrorOf(FILES)));
  const models = await tempFolder();
  await expectWhole(await pull(source, manifestOf("digests known"), models));
  const lacking = new MirrorSource(new FileStore(await mirrorOf({ "tokenizer.json": FILES["tokenizer.json"] })));
  await expect(pull(lacking, manifestOf("digests known"), await tempFolder())).rejects.toThrow(/has no onnx\/model/);
});

test("embedfleet models pull: from a mirror, recorded, listed; a tampered one is refused; no token in sight", async () => {
  const mirror = pathToFileURL(await mirrorOf(FILES)).href;
  const models = await tempFolder();
  const env = { EMBEDFLEET_MODELS: models, HF_TOKEN: "hf_secret" };
  const pulled = await cli(["models", "pull", "multilingual-e5-large", "--from", mirror], env);
  expect(pulled).toMatchObject({ code: 0, stderr: "" });
  expect(pulled.stdout).toMatch(/onnx\/model\.onnx, 0\.3 MB, sha256 [0-9a-f]{16}… not known before; recorded/);
  const listed = JSON.parse((await cli(["models", "list", "--json"], env)).stdout) as {
    id: string;
    folder: string | null;
  }[];
  expect(listed.filter(({ folder }) => folder !== null).map(({ id }) => id)).toEqual(["mini", "multilingual-e5-large"]);

  const hub = await HubServer.start({
    repository: "BAAI/bge-small-en-v1.5",
    revision: "5c38ec7c405ec4b44b94cc5a9bb96e735b38267a",
    commit: COMMIT,
    files: FILES,
    token: "hf_secret",
  });
  const refused = await cli(["models", "pull", "bge-small-en-v1.5"], { ...env, HF_ENDPOINT: hub.url });
  expect(refused.code).toBe(1);
  expect(refused.stderr).toMatch(/tokenizer\.json from .* expected were 711396 bytes/);
  expect(refused.stdout + refused.stderr + pulled.stdout).not.toContain("hf_secret");
});

// --- Any repository, by the rules of its layout ---------------------------------------------------

const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));

/** The files of a repository: a real model of which one weight lies in a file beside the graph, and other files. */
async function anyFiles(changed: Readonly<Record<string, Buffer | null>> = {}): Promise<Record<string, Buffer>> {
  const folder = await new ExternalFolders(["weights.bin"]).make({ location: "weights.bin" });
  const paths = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = paths.filter((each) => each.isFile()).map((each) => join(each.parentPath, each.name));
  const found = files.map(async (file) => [relative(folder, file), await readFile(file)] as const);
  const all: Record<string, Buffer | null> = {
    ...Object.fromEntries(await Promise.all(found)),
    "modules.json": json([
      { idx: 0, name: "0", path: "", type: "sentence_transformers.models.Transformer" },
      { idx: 1, name: "1", path: "1_Pooling", type: "sentence_transformers.models.Pooling" },
      { idx: 2, name: "2", path: "2_Normalize", type: "sentence_transformers.models.Normalize" },
    ]),
    "config_sentence_transformers.json": json({ prompts: { query: "query: " } }),
    "unrelated.bin": Buffer.alloc(1000),
    ...changed,
  };
  return Object.fromEntries(Object.entries(all).filter((entry): entry is [string, Buffer] => entry[1] !== null));
}

test("any repository is pulled by its layout, at one commit, with a manifest that pins every file", async () => {
  const files = await anyFiles({ "onnx/model_fp16.onnx": FILES["onnx/model.onnx"] });
  const hub = await serve({ files });
  const models = await tempFolder();
  const args = ["models", "pull", `${REPOSITORY}@${COMMIT}`, "--hub", hub.url, "--models", models, "--json"];
  const pulled = await cli(args);
  expect(pulled, pulled.stderr).toMatchObject({ code: 0 });
  const { model, revision, folder } = JSON.parse(pulled.stdout) as { model: string; revision: string; folder: string };
  const place = join(models, "people--tiny", COMMIT);
  expect({ model, revision, folder }).toEqual({ model: "tiny", revision: COMMIT, folder: place });
  const found = findModel(folder, { modelsFolder: models });
  const pinned = (path: string): object => ({ path, sha256: sha256(files[path]!) });
  expect(found.manifest).toMatchObject({
    hub: REPOSITORY,
    prefixes: { query: "query: ", passage: "" },
    weights: { fp32: [pinned("onnx/model.onnx"), pinned("onnx/weights.bin")] },
    tokenizer: pinned("tokenizer.json"),
  });
  expect((await openModel(found)).ref).toMatchObject({ id: "tiny", revision: COMMIT });
  const asked = hub.requests.map(({ path }) => path);
  expect(asked).not.toContain("unrelated.bin");
  expect(asked).not.toContain("onnx/model_fp16.onnx");
});

test("a repository without the wanted graph says so; without any, it gives its PyTorch files to be exported", async () => {
  const none = { "onnx/model.onnx": null, "onnx/weights.bin": null };
  const hub = await serve({ files: await anyFiles({ ...none, "model.safetensors": Buffer.from("weights") }) });
  const args = ["models", "pull", `${REPOSITORY}@${COMMIT}`, "--hub", hub.url, "--models", await tempFolder()];
  const pulled = await cli(args);
  expect(pulled, pulled.stderr).toMatchObject({ code: 0 });
  expect(pulled.stdout).toMatch(/has no ONNX graph.*\n +embedfleet models export .*people--tiny.* --into \.\/tiny/);
  expect(pulled.stdout).toContain("model.safetensors");
  const int8 = await cli([...args, "--precisions", "int8"]);
  expect(int8).toMatchObject({ code: 1, stderr: expect.stringContaining("has no int8 graph") });
});

test.each([
  ["a path outside the repository", json([{ type: "a.Transformer", path: "../../etc" }]), "leads out of"],
  ["no list of modules", json({ a: 1 }), "modules.json cannot be used"],
])("%s in modules.json is refused", async (_, modules, message) => {
  const hub = await serve({ files: await anyFiles({ "modules.json": modules }) });
  const args = ["models", "pull", `${REPOSITORY}@${COMMIT}`, "--hub", hub.url, "--models", await tempFolder()];
  expect(await cli(args)).toMatchObject({ code: 1, stderr: expect.stringContaining(message) });
});

test("models add writes the manifest that a folder describes, once", async () => {
  const folder = await new ExternalFolders(["weights.bin"]).make({ location: "weights.bin" });
  const described = findModel(`${folder}/`, { modelsFolder: "" }).manifest;
  const added = await cli(["models", "add", folder]);
  expect(added, added.stderr).toMatchObject({ code: 0, stdout: expect.stringContaining("manifest.json; edit it") });
  expect(findModel(folder, { modelsFolder: "" }).manifest).toEqual(described);
  const schema = JSON.parse(await readFile("dist/schemas/model-manifest.json", "utf8")) as object;
  const isValid = new Ajv2020({ validateFormats: false }).compile(schema);
  expect(
    isValid(JSON.parse(await readFile(join(folder, "manifest.json"), "utf8"))),
    JSON.stringify(isValid.errors),
  ).toBe(true);
  expect(await cli(["models", "add", folder])).toMatchObject({ code: 2, stderr: expect.stringContaining("exists") });
});
