/**
 * Folders in sentence-transformers' layout: what `modules.json` says is done once and in its order, and anything else is
 * refused by name. `model-layouts.test.ts` compares many more with sentence-transformers itself.
 */
import { rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { describeFolder } from "../../models/registry/hub-folder.ts";
import { poolStates } from "../../models/onnx/pooling.ts";
import { openModel } from "../../models/registry/open-model.ts";
import { findModel } from "../../models/registry/registry.ts";
import type { Pooling } from "../../models/registry/manifest.ts";
import { FleetError } from "../../src/core/errors.ts";
import { randomOf } from "../fixtures/made-corpus.ts";
import {
  embedRows,
  layoutFolder,
  put,
  readConfig,
  ROW,
  safetensors,
  someValues,
  WIDTH,
} from "../fixtures/layout-folder.ts";

const HIDDEN = 32;
async function edit(folder: string, name: string, changed: Readonly<Record<string, unknown>>): Promise<void> {
  await put(folder, name, { ...(await readConfig(folder, name)), ...changed });
}

function cosine(found: ArrayLike<number>, wanted: ArrayLike<number>): number {
  expect(found.length).toBe(wanted.length);
  const [a, b] = [Array.from(found), Array.from(wanted)];
  return a.reduce((sum, value, i) => sum + value * b[i]!, 0) / (Math.hypot(...a) * Math.hypot(...b));
}

/** One row's states are 1, 2 | 3, 0 | 5, 7, and a padded place follows. */
test.each<[Pooling[], number[]]>([
  [["cls"], [1, 2]],
  [["last"], [5, 7]],
  [["mean"], [3, 3]],
  [["max"], [5, 7]],
  [["mean_sqrt_len"], [9 / Math.sqrt(3), 9 / Math.sqrt(3)]],
  [["weightedmean"], [22 / 6, 23 / 6]],
  [
    ["max", "cls"],
    [5, 7, 1, 2],
  ],
])("%s pools a row's own states, in the order given", (poolings, wanted) => {
  const values = Float32Array.of(9, 9, 9, 9, 9, 9, 9, 9, 1, 2, 3, 0, 5, 7, 99, 99);
  const pooled = poolStates({ values, batch: 2, longest: 4, lengths: [1, 3] }, poolings, 2);
  expect([...pooled.subarray(poolings.length * 2)].map((value) => value.toFixed(5))).toEqual(
    wanted.map((value) => value.toFixed(5)),
  );
});

test("Dense, its activation and LayerNorm are applied to the pooled vector, which has their width", async () => {
  const folder = await layoutFolder();
  expect(describeFolder(folder)).toMatchObject({
    dim: WIDTH,
    architecture: { maxTokens: 48 },
    prefixes: { query: "query: ", passage: "" },
  });
  const { dense } = await embedRows(folder, [ROW, [0, 20, 2]]);
  const states = (await embedStates(folder)).slice(0, HIDDEN);
  const weights = someValues(WIDTH * HIDDEN);
  const bias = someValues(WIDTH);
  const bent = bias.map((value, row) =>
    Math.tanh(value + states.reduce((sum, state, i) => sum + state * weights[row * HIDDEN + i]!, 0)),
  );
  const mean = bent.reduce((sum, value) => sum + value, 0) / WIDTH;
  const deviation = Math.sqrt(bent.reduce((sum, value) => sum + (value - mean) ** 2, 0) / WIDTH + 1e-5);
  const wanted = bent.map((value, i) => ((value - mean) / deviation) * bias[i]! + bias[i]!);
  expect(cosine(dense!.subarray(0, WIDTH), wanted)).toBeGreaterThan(0.999999);
  expect(Math.hypot(...dense!.subarray(0, WIDTH))).toBeCloseTo(1, 5);
});

/** The mean of the row's states, not normalised: a dense layer adds a number that says the length. */
async function embedStates(folder: string): Promise<number[]> {
  const identity = Array.from({ length: HIDDEN * HIDDEN }, (_, i) => (i % (HIDDEN + 1) === 0 ? 1e-3 : 0));
  const plain = await layoutFolder({
    "2_Dense/config.json": {
      in_features: HIDDEN,
      out_features: HIDDEN + 1,
      bias: true,
      activation_function: "torch.nn.modules.linear.Identity",
    },
    "2_Dense/model.safetensors": safetensors({
      "linear.weight": [
        [HIDDEN + 1, HIDDEN],
        [...identity, ...Array.from({ length: HIDDEN }, () => 0)],
      ],
      "linear.bias": [[HIDDEN + 1], [...Array.from({ length: HIDDEN }, () => 0), 1e-3]],
    }),
    "modules.json": ((await readConfig(folder, "modules.json")) as unknown as unknown[]).slice(0, 3),
  });
  const { dense } = await embedRows(plain, [ROW]);
  return Array.from(dense!.subarray(0, HIDDEN), (value) => value / dense![HIDDEN]!);
}

test("both forms of a pooling's configuration, and several at once", async () => {
  const forms: [unknown, Pooling | Pooling[]][] = [
    [{ pooling_mode: "lasttoken" }, "last"],
    [{ pooling_mode: ["max", "cls"] }, ["max", "cls"]],
    [{ pooling_mode_mean_tokens: true, pooling_mode_max_tokens: true }, ["max", "mean"]],
    [{ pooling_mode_cls_token: false, word_embedding_dimension: HIDDEN }, "mean"],
    [{ pooling_mode: null, pooling_mode_cls_token: true }, "cls"],
  ];
  for (const [config, pooling] of forms) {
    const folder = await layoutFolder({
      "1_Pooling/config.json": config,
      "modules.json": ["Transformer", "Pooling"].map((type) => ({ type: `sentence_transformers.models.${type}` })),
    });
    expect(describeFolder(folder)).toMatchObject({
      dim: [pooling].flat().length * HIDDEN,
      heads: { dense: { pooling } },
    });
  }
});

test("the lengths, sizes and special ids that configurations have in place of numbers", async () => {
  const folder = await layoutFolder({ "sentence_bert_config.json": { max_seq_length: null } });
  await edit(folder, "config.json", { pad_token_id: null, eos_token_id: [2, 3], bos_token_id: null });
  expect(describeFolder(folder).architecture).toMatchObject({ padId: 1, maxTokens: 64 });
  await edit(folder, "config.json", {
    hidden_size: undefined,
    dim: HIDDEN,
    max_position_embeddings: null,
    n_positions: 40,
  });
  expect(describeFolder(folder).architecture).toMatchObject({ hiddenSize: HIDDEN, maxTokens: 40 });
  await put(folder, "config.json", {
    model_type: "gemma3",
    text_config: { ...(await readConfig(folder, "config.json")), model_type: "mpnet", pad_token_id: 1 },
  });
  expect(describeFolder(folder).architecture).toMatchObject({ hiddenSize: HIDDEN, maxTokens: 40 });
  await edit(folder, "config.json", { model_type: "mpnet" });
  expect(describeFolder(folder).architecture).toMatchObject({ kind: "mpnet", maxTokens: 38 });
});

test("prompts: the document's before the passage's, an empty one for none, and the default for what has none", async () => {
  const cases: [Record<string, unknown>, query: string, passage: string][] = [
    [{ prompts: { query: "q: ", document: "d: ", passage: "p: " } }, "q: ", "d: "],
    [{ prompts: { query: "q: ", document: "", passage: "p: " } }, "q: ", "p: "],
    [{ prompts: { query: "", document: "", sts: "s: " }, default_prompt_name: "sts" }, "s: ", "s: "],
    [{ prompts: { query: "q: ", document: "" }, default_prompt_name: "query" }, "q: ", ""],
    [{ prompts: null, default_prompt_name: null }, "", ""],
    [{ prompts: { query: null } }, "", ""],
  ];
  for (const [config, query, passage] of cases) {
    const folder = await layoutFolder({ "config_sentence_transformers.json": config });
    expect(describeFolder(folder).prefixes, JSON.stringify(config)).toEqual({ query, passage });
  }
  const folder = await layoutFolder({ "sentence_bert_config.json": { do_lower_case: true } });
  expect(describeFolder(folder)).toMatchObject({ lowerCase: true, prompts: { query: "query: ", document: "" } });
});

test("the names that exporters give to graphs", async () => {
  for (const [name, precision] of [
    ["model_qint8_avx512_vnni", "int8"],
    ["model_quint8_avx2", "int8"],
    ["model_uint8", "int8"],
    ["model_q4", "int8"],
    ["model_O3", "fp32"],
    ["model_O4", "fp16"],
  ]) {
    const folder = await layoutFolder();
    await rename(join(folder, "onnx/model.onnx"), join(folder, `onnx/${name}.onnx`));
    expect(describeFolder(folder).weights).toEqual({ [precision!]: [{ path: `onnx/${name}.onnx` }] });
  }
});

test("a dense layer in another run's place changes the run's digests", async () => {
  const folder = await layoutFolder();
  const refOf = async () => (await openModel(findModel(folder, { modelsFolder: "" }))).ref;
  const before = await refOf();
  await edit(folder, "2_Dense/config.json", { activation_function: "torch.nn.modules.linear.Identity" });
  const other = await refOf();
  expect(other.sha256).toBe(before.sha256);
  expect(other.setupSha256).not.toBe(before.setupSha256);
  await put(
    folder,
    "3_LayerNorm/model.safetensors",
    safetensors({
      "norm.weight": [[WIDTH], someValues(WIDTH)],
      "norm.bias": [[WIDTH], someValues(WIDTH + 1).slice(1)],
    }),
  );
  expect((await refOf()).sha256).not.toBe(before.sha256);
});

// --- What is refused ------------------------------------------------------------------------

const refused: [string, (folder: string) => Promise<void>, RegExp][] = [
  ...["WordEmbeddings", "CNN", "LSTM", "StaticEmbedding", "Router", "Asym", "SpladePooling"].map(
    (type): [string, (folder: string) => Promise<void>, RegExp] => [
      `the module ${type}`,
      (folder) => put(folder, "modules.json", [{ idx: 0, path: "", type: `sentence_transformers.models.${type}` }]),
      new RegExp(`modules\\.json cannot be used: the module .*${type} (?:makes it|is not known)`),
    ],
  ),
  [
    "code of its own",
    (folder) => put(folder, "modules.json", [{ path: "", type: "custom_st.Transformer" }]),
    /model's own code/,
  ],
  [
    "a reranker",
    (folder) => edit(folder, "config_sentence_transformers.json", { model_type: "CrossEncoder" }),
    /a reranker/,
  ],
  [
    "a sparse encoder",
    (folder) => edit(folder, "config_sentence_transformers.json", { model_type: "SparseEncoder" }),
    /SPLADE/,
  ],
  [
    "a dense layer of tokens",
    (folder) => edit(folder, "2_Dense/config.json", { module_input_name: "token_embeddings" }),
    /module_input_name is token_embeddings/,
  ],
  [
    "another width before Dense",
    (folder) => edit(folder, "2_Dense/config.json", { in_features: 64 }),
    /in_features is 64; .* has 32/,
  ],
  [
    "weights of another width",
    (folder) => edit(folder, "2_Dense/config.json", { out_features: 8 }),
    /dimension is 16; .* has 8/,
  ],
  [
    "an unknown activation",
    (folder) => edit(folder, "2_Dense/config.json", { activation_function: "torch.nn.PReLU" }),
    /its activation torch\.nn\.PReLU is none of/,
  ],
  [
    "no weights of a layer",
    (folder) => rm(join(folder, "2_Dense/model.safetensors")),
    /2_Dense\/model\.safetensors does not exist/,
  ],
  [
    "a layer that is cut short",
    (folder) => put(folder, "2_Dense/model.safetensors", Buffer.from([9, 9])),
    /safetensors file .* cannot be read/,
  ],
  [
    "a layer of another model",
    (folder) =>
      put(folder, "2_Dense/config.json", { in_features: HIDDEN, out_features: WIDTH, bias: false }).then(() =>
        put(folder, "3_LayerNorm/model.safetensors", Buffer.from("\u0002\0\0\0\0\0\0\0{}", "latin1")),
      ),
    /the layer norm needs \[16\]/,
  ],
  [
    "dot product and no Normalize",
    async (folder) => {
      await put(
        folder,
        "modules.json",
        ((await readConfig(folder, "modules.json")) as unknown as unknown[]).slice(0, 4),
      );
      await edit(folder, "config_sentence_transformers.json", { similarity_fn_name: "dot" });
    },
    /similarity_fn_name is dot/,
  ],
  [
    "prompts outside the pooling",
    (folder) => edit(folder, "1_Pooling/config.json", { include_prompt: false }),
    /include_prompt/,
  ],
  [
    "a default prompt that is none",
    (folder) => edit(folder, "config_sentence_transformers.json", { default_prompt_name: "none" }),
    /default_prompt_name "none"/,
  ],
  [
    "a width that is text",
    (folder) => edit(folder, "config.json", { hidden_size: "32" }),
    /hidden_size is "32"; it must be a whole number from 1/,
  ],
];

test.each(refused)("a folder with %s is refused by name, before any row", async (_, change, message) => {
  const folder = await layoutFolder();
  await change(folder);
  const open = async () => openModel(findModel(folder, { modelsFolder: "" }));
  await expect(open()).rejects.toThrow(message);
  await expect(open()).rejects.toMatchObject({ code: "model_invalid", cure: expect.stringMatching(/\w/) });
});

// --- Configurations with anything in them ---------------------------------------------------

const CONFIGS = [
  "config.json",
  "modules.json",
  "1_Pooling/config.json",
  "2_Dense/config.json",
  "3_LayerNorm/config.json",
  "sentence_bert_config.json",
  "tokenizer_config.json",
  "config_sentence_transformers.json",
];
const VALUES: readonly unknown[] = [
  undefined,
  null,
  "text",
  "",
  -1,
  0,
  1,
  2.5,
  1e12,
  true,
  false,
  [],
  [3],
  {},
  { a: 1 },
];
const SEED = Number(process.env["FUZZ_SEED"] ?? 1);

test("with any field removed, nulled or of another type, a folder gives vectors of its width or an error that says what is wrong", async () => {
  const random = randomOf(SEED);
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)]!;
  const folder = await layoutFolder();
  const originals = new Map(
    await Promise.all(CONFIGS.map(async (name) => [name, await readConfig(folder, name)] as const)),
  );
  const outcomes = { opened: 0, refused: 0 };
  for (let round = 0; round < 250; round++) {
    const changes: string[] = [];
    for (const [name, original] of originals) await put(folder, name, original);
    for (let i = 0; i <= round % 3; i++) {
      const name = pick(CONFIGS);
      const config = await readConfig(folder, name);
      const target = (Array.isArray(config) ? (pick(config) ?? {}) : config) as Record<string, unknown>;
      const field = pick(Object.keys(target).concat("pooling_mode_mean_tokens", "text_config"));
      target[field] = pick(VALUES);
      changes.push(`${name}: ${field} = ${JSON.stringify(target[field])}`);
      await put(folder, name, random() < 0.02 ? pick(VALUES.slice(1)) : config);
    }
    const what = `seed ${SEED}, round ${round}: ${changes.join("; ")}`;
    try {
      const { dense, dim } = await embedRows(folder, [[0, 7, 2]]);
      expect(dense!.length, what).toBe(dim);
      expect(Math.hypot(...dense!), what).toBeCloseTo(1, 4);
      outcomes.opened++;
    } catch (error) {
      expect(error, what).toBeInstanceOf(FleetError);
      const { code, message, cure } = error as FleetError;
      expect(["model_invalid", "model_unknown"], what).toContain(code);
      expect(message, what).not.toMatch(/undefined|\[object|TypeError|\n/);
      expect(cure, what).toMatch(/\w/);
      outcomes.refused++;
    }
  }
  expect(outcomes.opened).toBeGreaterThan(20);
  expect(outcomes.refused).toBeGreaterThan(20);
});
