/** A folder in the hub's layout with BGE-M3's extra heads, against what PyTorch computes from the same files. */
import { cp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { sessionParams } from "../../models/onnx/thread-embedder.ts";
import { encodeRows } from "../../models/tokenizer/encode-prompted.ts";
import { openTokenizer } from "../../models/tokenizer/open-tokenizer.ts";
import { openModel } from "../../models/registry/open-model.ts";
import { findModel } from "../../models/registry/registry.ts";
import { ModelSession } from "../../models/onnx/session.ts";
import { allocateShard, type ShardBuffers } from "../../src/core/batch.ts";
import type { Head } from "../../src/core/contracts.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

const FOLDER = fileURLToPath(new URL("../fixtures/hub-folder", import.meta.url));
const golden: { rows: Record<"ids" | "cls" | "mean" | "last" | "sparse", number[]>[] } = JSON.parse(
  await readFile(join(FOLDER, "golden.json"), "utf8"),
);
const colberts = (golden.rows as unknown as { colbert: number[][] }[]).map(({ colbert }) => colbert.flat());
const DIM = 32;

async function copyOf(): Promise<string> {
  const folder = await tempFolder();
  await cp(FOLDER, folder, { recursive: true });
  return folder;
}

async function openSession(folder: string): Promise<ModelSession> {
  const model = await openModel(findModel(folder, { modelsFolder: "" }));
  return ModelSession.open(sessionParams({ model, threads: 1 }));
}

async function embedAll(folder: string, heads: readonly Head[], dim = DIM): Promise<ShardBuffers> {
  const session = await openSession(folder);
  const shard = allocateShard({ lengths: golden.rows.map(({ ids }) => ids.length), dim, heads });
  shard.ids.set(golden.rows.flatMap(({ ids }) => ids));
  await session.run(golden.rows.map((_, row) => ({ shard, row })));
  return shard;
}

function expectClose(found: ArrayLike<number>, wanted: readonly number[]): void {
  expect(found.length).toBe(wanted.length);
  wanted.forEach((value, i) => expect(Math.abs(value - found[i]!)).toBeLessThan(1e-5));
}

test("all three heads, padded together, are PyTorch's", async () => {
  const shard = await embedAll(FOLDER, ["dense", "sparse", "colbert"]);
  golden.rows.forEach(({ ids, mean, sparse }, row) => {
    expectClose(shard.dense!.subarray(row * DIM, (row + 1) * DIM), mean);
    const start = shard.offsets[row]!;
    expectClose(shard.colbert!.subarray((start - row) * DIM, (start - row + ids.length - 1) * DIM), colberts[row]!);
    const weights = new Map<number, number>();
    // 0, 1, 2 are the config's; a word-level tokenizer says no id for unknown words.
    ids.forEach((id, i) => id > 2 && sparse[i]! > 0 && weights.set(id, Math.max(sparse[i]!, weights.get(id) ?? 0)));
    const wanted = [...weights].toSorted(([a], [b]) => a - b);
    const end = start + shard.sparseCounts![row]!;
    expect([...shard.sparseIndices!.subarray(start, end)]).toEqual(wanted.map(([id]) => id));
    expectClose(
      shard.sparseValues!.subarray(start, end),
      wanted.map(([, weight]) => weight),
    );
  });
});

test.each([
  ["cls", "pooling_mode_cls_token"],
  ["last", "pooling_mode_lasttoken"],
] as const)("%s pooling, where 1_Pooling/config.json says so", async (pooling, mode) => {
  const folder = await copyOf();
  await writeFile(join(folder, "1_Pooling/config.json"), JSON.stringify({ [mode]: true }));
  const shard = await embedAll(folder, ["dense"]);
  golden.rows.forEach((wanted, row) => expectClose(shard.dense!.subarray(row * DIM, (row + 1) * DIM), wanted[pooling]));
});

test("a narrower shard gets the cut vector at unit length", async () => {
  const shard = await embedAll(FOLDER, ["dense"], 8);
  golden.rows.forEach(({ mean }, row) => {
    const norm = Math.hypot(...mean.slice(0, 8));
    expectClose(
      shard.dense!.subarray(row * 8, (row + 1) * 8),
      mean.slice(0, 8).map((value) => value / norm),
    );
  });
});

test("prefixes stand before every row, as ids", async () => {
  const model = await openModel(findModel(FOLDER, { modelsFolder: "" }));
  expect(model.manifest.prefixes).toEqual({ query: "query: ", passage: "passage: " });
  const [ids] = await encodeRows(await openTokenizer(model, "passage"), { texts: ["w7 w9"], maxTokens: 64 });
  expect([...ids!]).toEqual([0, 5, 6, 7, 9, 2]);
});

test("the weights' digest stands for the graph and both linear layers", async () => {
  const folder = await copyOf();
  const sha256 = async (): Promise<string> => (await openModel(findModel(folder, { modelsFolder: "" }))).ref.sha256;
  const before = await sha256();
  expect(await sha256()).toBe(before);
  await cp(join(folder, "float32.pt"), join(folder, "sparse_linear.pt"));
  expect(await sha256()).not.toBe(before);
});

// --- What is refused ------------------------------------------------------------------------

const broken: [string, (folder: string) => Promise<void>, RegExp][] = [
  ["no graph", (folder) => rm(join(folder, "onnx"), { recursive: true }), /no ONNX graph/],
  [
    "no pooling",
    (folder) => rm(join(folder, "1_Pooling"), { recursive: true }),
    /1_Pooling\/config\.json cannot be used/,
  ],
  [
    "an unknown pooling",
    (folder) => writeFile(join(folder, "1_Pooling/config.json"), '{"pooling_mode":["mean","median"]}'),
    /its pooling "median" is none of cls, max/,
  ],
  [
    "a config without sizes",
    (folder) => writeFile(join(folder, "config.json"), '{"model_type":"bert"}'),
    /config\.json cannot be used/,
  ],
  ["a graph that is none", (folder) => writeFile(join(folder, "onnx/model.onnx"), "what"), /ONNX Runtime cannot load/],
  [
    "another width",
    (folder) => writeConfig(folder, { hidden_size: 64 }),
    /last_hidden_state of .* is 32 wide; .* says 64/,
  ],
  [
    "a linear layer of another model",
    (folder) => cp(join(folder, "float32.pt"), join(folder, "sparse_linear.pt")),
    /sparse head needs \[1,32\]/,
  ],
  ["no tokenizer", (folder) => rm(join(folder, "tokenizer.json")), /lacks its file/],
  [
    "a tokenizer of more words than the table has",
    (folder) => writeConfig(folder, { vocab_size: 50 }),
    /makes 64 ids; the embedding table .* has 50/,
  ],
];

async function writeConfig(folder: string, changed: Readonly<Record<string, unknown>>): Promise<void> {
  const path = join(folder, "config.json");
  await writeFile(path, JSON.stringify({ ...JSON.parse(await readFile(path, "utf8")), ...changed }));
}

test.each(broken)("a folder with %s is refused, with a cure", async (_, spoil, message) => {
  const folder = await copyOf();
  await spoil(folder);
  const opened = async (): Promise<void> => {
    const model = await openModel(findModel(folder, { modelsFolder: "" }));
    await openTokenizer(model, "passage");
    await ModelSession.open(sessionParams({ model, threads: 1 }));
  };
  await expect(opened()).rejects.toThrow(message);
  await expect(opened()).rejects.toMatchObject({ code: "model_invalid", cure: expect.stringMatching(/\w/) });
});
