/** Which prompt is put before a text, and which model and width a name and a number stand for. */
import { cp, mkdir, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { promptOf } from "../../models/registry/prompts.ts";
import { assertModelCan, findModel, namesake } from "../../models/registry/registry.ts";
import { loadTokenizer } from "../../models/tokenizer/native.ts";
import { runOptionsOf } from "../../src/fleet/open-ports.ts";
import type { RunOptions } from "../../src/core/contracts.ts";
import { withDefaults } from "../../src/fleet/check-settings.ts";
import { planSettings } from "../../src/fleet/settings.ts";
import { openModel } from "../../models/registry/open-model.ts";
import { contentDifferences } from "../../src/core/content.ts";
import { openRun } from "../../src/run/open-run.ts";
import { runOptions } from "../fixtures/run-options.ts";
import { ScriptedStore } from "../fixtures/scripted-store.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";
import { TOKENIZERS } from "../fixtures/tokenizers.ts";

const HUB_FOLDER = fileURLToPath(new URL("../fixtures/hub-folder", import.meta.url));
const e5 = { id: "e5", prefixes: { query: "query: ", passage: "passage: " } };
const task = { ...e5, prompts: { query: "find: ", STS: "task: similarity | query: ", none: "" } };

test("without --prompt it is the model's own for documents or for queries", () => {
  expect(promptOf(e5, "passage")).toBe("passage: ");
  expect(promptOf(e5, "query")).toBe("query: ");
});

test("a name is one of the model's prompts; its own names come before the usual ones", () => {
  expect(promptOf(task, "passage", "STS")).toBe("task: similarity | query: ");
  expect(promptOf(task, "passage", "query")).toBe("find: ");
  expect(promptOf(task, "query", "document")).toBe("passage: ");
  expect(promptOf(task, "query", "none")).toBe("");
});

test("what has a blank or a colon in it is a text, as it is; empty is none", () => {
  for (const text of ["topic:", "find this ", "query: ", " ", "Instruct: x\nQuery:"])
    expect(promptOf(e5, "query", text)).toBe(text);
  expect(promptOf(e5, "passage", "")).toBe("");
});

test("any other word is refused, with the names that the model has", () => {
  expect(() => promptOf(task, "passage", "sts")).toThrow(
    expect.objectContaining({
      code: "bad_usage",
      message: 'model e5 has no prompt named "sts": its prompts are query, document, passage, STS, none',
      cure: expect.stringContaining('--prompt "sts: "'),
    }),
  );
  expect(() => promptOf({ id: "m", prefixes: { query: "", passage: "" } }, "query", "query")).toThrow(/it has none/);
});

test("a prompt that pooling leaves out is refused, and no prompt is not", () => {
  const instructor = { ...e5, poolPrompt: false };
  expect(() => promptOf(instructor, "passage")).toThrow(
    expect.objectContaining({ code: "model_invalid", message: expect.stringContaining("include_prompt") }),
  );
  expect(promptOf(instructor, "passage", "")).toBe("");
});

test("a run has one prompt: with another, or none, it is another run and no base of a delta", async () => {
  const model = { id: "m", revision: "1", sha256: "0".repeat(64), dim: 8, maxTokens: 64 };
  const [none, one, other] = [{}, { prompt: "query: " }, { prompt: "passage: " }].map((each) =>
    runOptions({ model, ...each }),
  ) as [RunOptions, RunOptions, RunOptions];
  const store = new ScriptedStore();
  await openRun(store, { run: "r", inputs: [], options: one });
  for (const options of [none, other]) {
    await expect(openRun(store, { run: "r", inputs: [], options })).rejects.toMatchObject({
      code: "run_conflict",
      message: expect.stringMatching(/prompt is "query: " there and ("passage: "|unset) here/),
    });
    expect(contentDifferences(one, options)).toEqual([expect.stringMatching(/^prompt is "query: " there/)]);
  }
  expect(contentDifferences(none, one)).toEqual(['prompt is unset there and "query: " here']);
  expect((await openRun(store, { run: "r", inputs: [], options: one })).isNew).toBe(false);
});

test("texts in small letters have the ids of theirs, and positions in the text as it is", async () => {
  const file = join(await tempFolder(), "tokenizer.json");
  await writeFile(file, TOKENIZERS["BERT, cased"]!);
  const cased = await loadTokenizer(file);
  const lower = await loadTokenizer(file, { lowerCase: true });
  const encode = async (of: typeof cased, text: string): Promise<number[][]> => {
    const [encoded] = await of.encode({ texts: [text], startsAbove: 0 });
    return [[...encoded!.ids], [...encoded!.starts]];
  };
  const [ids, starts] = await encode(lower, "The RIVER İn");
  expect([ids, starts]).not.toEqual(await encode(cased, "The RIVER İn"));
  expect(ids!.slice(0, 2)).toEqual((await encode(cased, "the river"))[0]);
  expect(starts!.slice(0, 2)).toEqual([0, 4]);
});

// --- Models by name and by folder -----------------------------------------------------------

async function atHome<T>(act: () => Promise<T> | T): Promise<T> {
  const before = process.cwd();
  process.chdir(await tempFolder());
  try {
    await cp(HUB_FOLDER, "my-model", { recursive: true });
    await cp(HUB_FOLDER, "bge-m3", { recursive: true });
    return await act();
  } finally {
    process.chdir(before);
  }
}

test("a folder needs no ./ before its name, unless a known model has that name, which is said", async () => {
  await atHome(() => {
    expect(basename(findModel("my-model", { modelsFolder: "" }).folder)).toBe("my-model");
    expect(namesake("my-model")).toBeNull();
    expect(() => findModel("bge-m3", { modelsFolder: "/nonexistent" })).toThrow(/models pull|not on this machine/);
    expect(namesake("bge-m3")).toBe("./bge-m3");
    expect(namesake("./bge-m3")).toBeNull();
    expect(() => findModel("no-model", { modelsFolder: "" })).toThrow(/no model named "no-model"/);
  });
});

test("an empty folder is no model", async () => {
  await atHome(async () => {
    await mkdir("empty");
    expect(() => findModel("empty", { modelsFolder: "" })).toThrow(/no model named "empty"/);
  });
});

test("heads, length and prompt are by default what the model has", async () => {
  const folder = await tempFolder();
  await cp(HUB_FOLDER, folder, { recursive: true });
  for (const name of ["sparse_linear.pt", "colbert_linear.pt"]) await rm(join(folder, name));
  const model = await openModel(findModel(folder, { modelsFolder: "" }));
  const options = (given: object): object => runOptionsOf(withDefaults(planSettings, given), model);
  expect(options({})).toMatchObject({
    heads: ["dense"],
    prompt: "passage: ",
    maxTokens: model.ref.maxTokens,
    chunkTokens: model.ref.maxTokens,
  });
  expect(model.ref.maxTokens).toBeLessThan(8192);
  expect(options({ prompt: "" })).not.toHaveProperty("prompt");
  expect(options({ prompt: "query", maxTokens: 8 })).toMatchObject({ prompt: "query: ", maxTokens: 8 });
});

test("a folder that says nothing of its widths may be cut to any, a wider one is refused", () => {
  const found = findModel(HUB_FOLDER, { modelsFolder: "" });
  expect(() => assertModelCan(found, { heads: ["dense"], dim: 8 })).not.toThrow();
  expect(() => assertModelCan(found, { heads: ["dense"], dim: 64 })).toThrow(/at that width/);
  const listed = { ...found, manifest: { ...found.manifest, truncateDims: [16] } };
  expect(() => assertModelCan(listed, { heads: ["dense"], dim: 8 })).toThrow(/at that width/);
});
