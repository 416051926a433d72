import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { expect, test } from "vitest";
import { sessionParams } from "../../models/onnx/thread-embedder.ts";
import { openModel } from "../../models/registry/open-model.ts";
import { findModel } from "../../models/registry/registry.ts";
import { ModelSession } from "../../models/onnx/session.ts";
import { chooseTier, type Engine, usableEngines } from "../../models/onnx/tensorrt-tiers.ts";
import { rowsOf, shardOf } from "../conformance/embedder.suite.ts";
import { ExternalFolders } from "../fixtures/external-folder.ts";
import { openMini } from "../fixtures/mini.ts";
import { exportPython } from "../fixtures/model-export.ts";

const DATA = "model.onnx_data";
const OTHER = "other.onnx_data";

const shape = fc.record({ batch: fc.integer({ min: 1, max: 64 }), length: fc.integer({ min: 1, max: 8192 }) });
const engine = fc.tuple(shape, shape).map(([a, b]) => ({
  min: { batch: Math.min(a.batch, b.batch), length: Math.min(a.length, b.length) },
  max: { batch: Math.max(a.batch, b.batch), length: Math.max(a.length, b.length) },
}));

test("no engine is ever handed a shape outside its range, and one that takes it is found", () => {
  fc.assert(
    fc.property(fc.array(engine, { maxLength: 5 }), shape, (engines, asked) => {
      const takes = ({ min, max }: (typeof engines)[number]): boolean =>
        asked.batch >= min.batch &&
        asked.batch <= max.batch &&
        asked.length >= min.length &&
        asked.length <= max.length;
      const chosen = chooseTier(engines, asked);
      if (chosen === -1) return !engines.some(takes);
      const shorter = engines.filter((each) => takes(each) && each.max.length < engines[chosen]!.max.length);
      return takes(engines[chosen]!) && shorter.length === 0;
    }),
  );
});

function engineOf(changed: Partial<Engine>, path = "model.onnx"): Engine {
  const min = { batch: 1, length: 3 };
  const max = { batch: 4, length: 16 };
  const versions = { gpuArch: "sm90", trtVersion: "10.9", ortVersion: "1.30.0", precision: "fp16" } as const;
  return { ...versions, min, opt: max, max, files: [{ path }], ...changed };
}

test("engines of another GPU, runtime or precision are not used", async () => {
  const { manifest } = await openMini();
  const here = { gpuArch: "sm90", ortVersion: "1.30.0", precision: "fp16" } as const;
  const engines = [
    engineOf({}),
    engineOf({ gpuArch: "sm80" }),
    engineOf({ ortVersion: "1.29.0" }),
    engineOf({ precision: "int8" }),
  ];
  expect(usableEngines({ ...manifest, engines }, here)).toEqual([engines[0]]);
  expect(usableEngines({ ...manifest, engines }, { ...here, gpuArch: null })).toEqual([]);
});

test("a batch within a tier gives what the graph gives, and an engine that does not load is done without", async () => {
  const model = await openMini();
  const params = sessionParams({ model, threads: 1 });
  const engines = [engineOf({ max: { batch: 4, length: 16 } }), engineOf({}, "tokenizer.json")];
  const [tiered, plain] = await Promise.all([ModelSession.open({ ...params, engines }), ModelSession.open(params)]);
  expect(tiered.notes).toEqual([expect.stringMatching(/engine .*tokenizer\.json cannot be used, so CUDA takes/)]);
  for (const lengths of [
    [5, 16],
    [5, 17],
    [3, 3, 3, 3, 3],
  ]) {
    const [found, wanted] = [shardOf(lengths), shardOf(lengths)];
    await tiered.run(rowsOf(found));
    await plain.run(rowsOf(wanted));
    expect(found.dense).toEqual(wanted.dense);
  }
});

test("an engine of other weights is not used, whatever its manifest says; nor one whose files are others", async () => {
  const made = new ExternalFolders([DATA]);
  const folder = await made.make({ location: DATA });
  const model = await openModel(findModel(folder, { modelsFolder: "" }));
  const params = sessionParams({ model, threads: 1 });
  // Beside the graph, one that takes its weights from another file.
  const graph = await readFile(join(folder, "onnx/model.onnx"), "latin1");
  await writeFile(join(folder, "onnx/other.onnx"), graph.replace(DATA, OTHER), "latin1");
  await writeFile(join(folder, "onnx", OTHER), made.weights(true));
  const files = (name: string, data: string): Engine["files"] => [{ path: `onnx/${name}` }, { path: `onnx/${data}` }];
  const own = files("model.onnx", DATA);
  const engines = [
    engineOf({ files: own, weightsSha256: model.ref.sha256 }),
    engineOf({ files: own, weightsSha256: "0".repeat(64) }),
    engineOf({ files: [own[0]!, { ...own[1]!, sha256: "0".repeat(64) }] }),
    engineOf({ files: [own[0]!] }),
    engineOf({ files: files("other.onnx", OTHER) }),
  ];
  const { notes } = await ModelSession.open({ ...params, engines });
  const reasons = [
    /compiled from other weights/,
    /model\.onnx_data has been changed/,
    /loads "onnx\/model\.onnx_data", which .* does not list/,
    /other\.onnx cannot be used, .*: its vectors are not those of the model's graph/,
  ];
  expect(notes).toEqual(reasons.map((reason) => expect.stringMatching(reason)));
});

test("an exporter names the weights as the fleet does", async () => {
  const folder = await new ExternalFolders([DATA]).make({ location: DATA });
  const code = `
import json, pathlib
from export.manifest import digest_of, file_entry
folder = pathlib.Path(${JSON.stringify(folder)})
def entry(name): return {**file_entry(folder / name), "path": name}
names = ["onnx/model.onnx", "onnx/${DATA}"]
print(json.dumps([digest_of([entry(name) for name in names[:1]]), digest_of([entry(name) for name in names])]))`;
  const [one, several] = exportPython(code) as string[];
  const heads = { dense: { output: "last_hidden_state", finished: false, pooling: "cls" } } as const;
  const { manifest } = findModel(folder, { modelsFolder: "" });
  expect(several).toBe((await openModel({ folder, manifest: { ...manifest, heads } })).ref.sha256);
  expect(one).toBe(
    createHash("sha256")
      .update(await readFile(join(folder, "onnx/model.onnx")))
      .digest("hex"),
  );
});
