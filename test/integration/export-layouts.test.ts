/**
 * Folders as sentence-transformers saves them, exported and held to what the library itself answers for their texts:
 * test/fixtures/layouts/make.py makes the folders and, in the exporter's environment, made the answers.
 */
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { readManifest } from "../../models/registry/registry.ts";
import { cliInProcess } from "../fixtures/cli.ts";
import { modelPython, runExport } from "../fixtures/model-export.ts";

const layouts = fileURLToPath(new URL("../fixtures/layouts", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "embedfleet-test-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const made = spawnSync(modelPython(), [join(layouts, "make.py"), join(folder, "hub")], { encoding: "utf8" });
const names = JSON.parse(made.stdout) as string[];

/** Width, longest row and prefixes that each folder's files say. */
const MANIFESTS: Readonly<Record<string, object>> = {
  e5: { dim: 32, architecture: { maxTokens: 60 }, prefixes: { query: "query: ", passage: "passage: " } },
  "two-dense": { dim: 16, architecture: { maxTokens: 90 } },
  "roberta-max-mean": { dim: 64, architecture: { maxTokens: 88 } },
  "roberta-prompt": { prefixes: { query: "Represent this sentence:", passage: "" }, defaultPrompt: "query" },
  "distilbert-relu": { dim: 24 },
  "lower-case": { lowerCase: true, architecture: { maxTokens: 80 } },
  mpnet: { architecture: { kind: "mpnet", maxTokens: 120 } },
};

describe.each(names)("%s", (name) => {
  test("gives sentence-transformers' vectors in each precision, from the text on", async () => {
    const into = join(folder, "exported", name);
    const exported = runExport("graph", join(folder, "hub", name), "--out", into);
    expect(exported.status, exported.output).toBe(0);
    copyFileSync(join(layouts, "answers", `${name}.json`), join(into, "reference.json"));
    const checked = await cliInProcess(["models", "check", into, "--threads", "1", "--json"]);
    expect(checked, checked.stderr).toMatchObject({ code: 0, stderr: "" });
    const { precisions } = JSON.parse(checked.stdout) as { precisions: { heads: { batchedCosineMin: number }[] }[] };
    expect(precisions).toHaveLength(3);
    for (const { heads } of precisions) expect(heads[0]!.batchedCosineMin).toBeGreaterThan(0.99999);
    expect(readManifest(join(into, "manifest.json"))).toMatchObject(MANIFESTS[name] ?? {});
  }, 300_000);
});

/** A fault in one file of a folder, and what it is refused with, before any weights are read. */
const REFUSED: readonly (readonly [layout: string, file: string, change: (text: string) => string, message: RegExp])[] =
  [
    ["minilm", "config.json", (text) => text.replace('"bert"', '"deberta-v2"'), /model_type is 'deberta-v2', and only/],
    ["minilm", "config.json", (text) => text.replace('"gelu"', '"silu"'), /hidden_act is 'silu'/],
    ["minilm", "config.json", () => "[]", /config\.json is no JSON object/],
    [
      "modernbert",
      "config.json",
      (text) => text.replace("{", '{"rope_scaling": {"type": "yarn"},'),
      /rotary positions/,
    ],
    [
      "minilm",
      "modules.json",
      (text) => text.replace("models.Pooling", "models.LSTM"),
      /has sentence_transformers.models.LSTM/,
    ],
    [
      "minilm",
      "modules.json",
      (text) => text.replace("models.Normalize", "models.CNN"),
      /models.CNN after the pooling/,
    ],
    ["minilm", "modules.json", (text) => text.replace("1_Pooling", "../elsewhere"), /a path outside the folder/],
    [
      "minilm",
      "1_Pooling/config.json",
      () => '{"pooling_mode": "attention"}',
      /the pooling 'attention', and only cls, max/,
    ],
    ["labse", "2_Dense/config.json", (text) => text.replace("Tanh", "Mish"), /activation.Mish', and only/],
    ["labse", "2_Dense/config.json", (text) => text.replace("{", '{"use_residual": true,'), /use_residual/],
    [
      "labse",
      "2_Dense/config.json",
      (text) => text.replace('"in_features": 32', '"in_features": 33'),
      /it is given 32/,
    ],
    ["e5", "1_Pooling/config.json", (text) => text.replace("{", '{"include_prompt": false,'), /leaves the prompt out/],
    [
      "roberta-prompt",
      "config_sentence_transformers.json",
      (text) => text.replace('name": "query"', 'name": "none"'),
      /default prompt 'none'/,
    ],
    [
      "minilm",
      "config_sentence_transformers.json",
      () => '{"model_type": "SparseEncoder"}',
      /the model is a SparseEncoder/,
    ],
  ];

test.each(REFUSED)(
  "%s with another %s is refused by name before anything is installed",
  async (layout, file, change, message) => {
    const source = join(folder, `refused-${layout}`);
    await rm(source, { recursive: true, force: true });
    spawnSync("cp", ["-r", join(folder, "hub", layout), source]);
    const path = join(source, file);
    await writeFile(path, change(await readFile(path, "utf8").catch(() => "")));
    // The weights are not there: what refuses has not looked at them.
    await rm(join(source, "model.safetensors"), { force: true });
    const cacheFolder = join(folder, "cache");
    const { code, stderr } = await cliInProcess([
      "models",
      "export",
      source,
      "--into",
      join(folder, "no"),
      "--cache-folder",
      cacheFolder,
    ]);
    expect({ code, stderr }).toMatchObject({ code: 1, stderr: expect.stringMatching(message) });
    expect(stderr).not.toMatch(/Traceback|creating a Python environment/);
  },
);

test("a folder that does not say how its tokens become a vector is refused", async () => {
  const source = join(folder, "unsaid");
  spawnSync("cp", ["-r", join(folder, "hub", "minilm"), source]);
  await rm(join(source, "modules.json"));
  await rm(join(source, "1_Pooling"), { recursive: true });
  const { code, stderr } = await cliInProcess(["models", "export", source, "--into", join(folder, "no")]);
  expect({ code, stderr }).toMatchObject({
    code: 1,
    stderr: expect.stringContaining("does not say how an encoder becomes one vector"),
  });
});
