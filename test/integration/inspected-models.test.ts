/** What shows in a model's graph is refused before the corpus is read, and what only a runtime finds is said once. */
import { existsSync } from "node:fs";
import { cp, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, inject, test } from "vitest";
import { onnxEngine } from "../../models/onnx/onnx-engine.ts";
import { ModelSession } from "../../models/onnx/session.ts";
import { sessionParams } from "../../models/onnx/thread-embedder.ts";
import { openModel } from "../../models/registry/open-model.ts";
import { findModel } from "../../models/registry/registry.ts";
import { allocateShard } from "../../src/core/batch.ts";
import { cli, cliInProcess } from "../fixtures/cli.ts";
import { exportPython } from "../fixtures/model-export.ts";
import { openMini } from "../fixtures/mini.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

const SOUND = fileURLToPath(new URL("../fixtures/hub-folder", import.meta.url));

async function copyOf(): Promise<string> {
  const folder = join(await tempFolder(), "little");
  await cp(SOUND, folder, { recursive: true });
  return folder;
}

/** As ONNX Runtime's `quantize_dynamic` changes a matrix product: one scale for the whole input. */
function dynamicallyQuantised(graph: string): Buffer {
  const code = `
import base64, json, numpy, onnx
from onnx import helper, numpy_helper
model = onnx.load(${JSON.stringify(graph)})
node = next(node for node in model.graph.node if node.op_type == "MatMul" and "mix" in node.input)
weight = next(tensor for tensor in model.graph.initializer if tensor.name == "mix")
values = numpy_helper.to_array(weight)
scale = numpy.float32(abs(values).max() / 127)
model.graph.initializer.extend([
    numpy_helper.from_array(numpy.rint(values / scale).astype(numpy.int8), "mix.int8"),
    numpy_helper.from_array(numpy.array(scale), "mix.scale")])
x = next(each for each in node.input if each != "mix")
made = [
    helper.make_node("DynamicQuantizeLinear", [x], ["x.int8", "x.scale", "x.zero"]),
    helper.make_node("MatMulInteger", ["x.int8", "mix.int8", "x.zero"], ["product"]),
    helper.make_node("Cast", ["product"], ["product.float"], to=onnx.TensorProto.FLOAT),
    helper.make_node("Mul", ["x.scale", "mix.scale"], ["both"]),
    helper.make_node("Mul", ["product.float", "both"], list(node.output))]
at = list(model.graph.node).index(node)
nodes = list(model.graph.node)
del model.graph.node[:]
model.graph.node.extend(nodes[:at] + made + nodes[at + 1:])
print(json.dumps(base64.b64encode(model.SerializeToString()).decode()))`;
  return Buffer.from(exportPython(code) as string, "base64");
}

async function quantisedCopy(): Promise<string> {
  const folder = await copyOf();
  const graph = join(folder, "onnx/model.onnx");
  await writeFile(join(folder, "onnx/model_quantized.onnx"), dynamicallyQuantised(graph));
  return folder;
}

/** The first row's dense vector, in a batch with the others. */
async function firstOf(session: ModelSession, rows: readonly number[][]): Promise<number[]> {
  const shard = allocateShard({ lengths: rows.map((ids) => ids.length), dim: 32, heads: ["dense"] });
  shard.ids.set(rows.flat());
  await session.run(rows.map((_, row) => ({ shard, row })));
  return [...shard.dense!.subarray(0, 32)];
}

test("a graph with one scale per batch is found, and its vectors do depend on the batch", async () => {
  const folder = await quantisedCopy();
  const found = findModel(folder, { modelsFolder: "" });
  const int8 = await openModel(found, { precision: "int8" });
  expect(onnxEngine.inspect!(int8)).toEqual({
    batchDependence: "its graph quantises all rows of a batch with one scale (DynamicQuantizeLinear)",
  });
  expect(onnxEngine.inspect!(await openModel(found, { precision: "fp32" }))).toEqual({ batchDependence: null });
  const session = await ModelSession.open(sessionParams({ model: int8, threads: 1 }));
  const row = [0, 7, 9, 2];
  const alone = await firstOf(session, [row]);
  const batched = await firstOf(session, [row, [0, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 2], [0, 40, 41, 42, 2]]);
  expect(Math.max(...alone.map((value, i) => Math.abs(value - batched[i]!)))).toBeGreaterThan(1e-4);
});

test("scales per token, as an export has them, are no such thing", async () => {
  const { manifest, ...mini } = await openMini();
  for (const precision of onnxEngine.offers(manifest).precisions) {
    const model = await openModel({ manifest, ...mini }, { precision });
    expect(onnxEngine.inspect!(model), precision).toEqual({ batchDependence: null });
  }
});

test("enqueue refuses such a model unless it is accepted, and a graph without a head's output, before it plans", async () => {
  const out = await tempFolder();
  const corpus = join(out, "corpus.jsonl");
  await writeFile(corpus, '{"id":"a","text":"w7 w9"}\n');
  const args = ["enqueue", corpus, "--out", join(out, "o"), "--redis", inject("redisUrl"), "--model"];
  const quantised = await quantisedCopy();
  expect(await cliInProcess([...args, quantised, "--precision", "int8"])).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(
      /^error: the int8 vectors of model little depend on .*\(DynamicQuantizeLinear\), so a retry.*\n {2}use --precision fp32; or .*--allow-batch-dependent\n$/,
    ),
  });
  const renamed = await copyOf();
  const graph = join(renamed, "onnx/model.onnx");
  const bytes = await readFile(graph, "latin1");
  await writeFile(graph, bytes.replaceAll("last_hidden_state", "last_hidden_stale"), "latin1");
  expect(await cliInProcess([...args, renamed])).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/last_hidden_stale/),
  });
  expect(existsSync(join(out, "o"))).toBe(false);
  const accepted = await cli([...args, quantised, "--precision", "int8", "--allow-batch-dependent"]);
  expect(accepted.code, accepted.stderr).toBe(0);
  expect(accepted.stderr).toContain("depend on the rows that share a batch");
});

test("what only the runtime finds is said once by run, whatever the number of workers, and nothing is planned", async () => {
  const folder = await copyOf();
  const graph = join(folder, "onnx/model.onnx");
  const bytes = await readFile(graph, "latin1");
  await writeFile(graph, bytes.replaceAll("Tanh", "Tanz"), "latin1");
  const out = await tempFolder();
  const corpus = join(out, "corpus.jsonl");
  await writeFile(corpus, '{"id":"a","text":"w7 w9"}\n');
  const { code, stderr } = await cli(["run", corpus, "--out", join(out, "o"), "--model", folder, "--workers", "2"]);
  expect(code).toBe(1);
  expect(stderr).toMatch(
    /^error: [^\n]*No Op registered for Tanz[^\n]*\n {2}[^\n]*operator that this runtime lacks[^\n]*\n$/,
  );
  expect(existsSync(join(out, "o", "runs"))).toBe(false);
});
