/** TensorRT engines as the exporter plans and names them, held to the manifest's schema and the chooser of tiers. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { modelManifestSchema, onnxManifestOf } from "../../models/registry/manifest.ts";
import { findModel } from "../../models/registry/registry.ts";
import { exportPython, runExport } from "../fixtures/model-export.ts";

interface Tier {
  readonly name: string;
  readonly min: readonly [number, number];
  readonly opt: readonly [number, number];
  readonly max: readonly [number, number];
}

const folder = mkdtempSync(join(tmpdir(), "embedfleet-test-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const IMPORTS =
  "import json, dataclasses, pathlib; from export.tensorrt import *; m = Machine('sm90', '10.9', '1.30.0')";

function tiersFor(maxTokens: number): Tier[] {
  return exportPython(`${IMPORTS}; print(json.dumps([dataclasses.asdict(t) for t in tiers(${maxTokens})]))`) as Tier[];
}

test.each([512, 1000, 8192])(
  "tiers for %i tokens: equal areas, ranges in order, the longest row is taken",
  (tokens) => {
    const found = tiersFor(tokens);
    expect(found.at(-1)!.max[1]).toBe(tokens);
    for (const { min, opt, max } of found) {
      for (const side of [0, 1] as const) {
        expect(min[side]).toBeLessThanOrEqual(opt[side]);
        expect(opt[side]).toBeLessThanOrEqual(max[side]);
      }
      expect(max[0] * max[1]).toBeGreaterThan(65_536 * 0.98);
      expect(max[0] * max[1]).toBeLessThanOrEqual(65_536);
    }
  },
);

test("an engine is named by all that it is bound to, and its manifest entry fits the schema", () => {
  const file = join(folder, "engine.onnx");
  writeFileSync(file, "an engine");
  const [name, entry] = exportPython(
    `${IMPORTS}; t = tiers(8192)[1]; print(json.dumps([engine_name(t, m), entry(t, m, [pathlib.Path(${JSON.stringify(file)})])]))`,
  ) as [string, unknown];
  expect(name).toBe("model_fp16_medium_sm90_trt10.9_ort1.30.0.onnx");
  const { manifest } = findModel("mini", { modelsFolder: folder });
  const { engines } = onnxManifestOf(modelManifestSchema.parse({ ...manifest, engines: [entry] }));
  expect(engines![0]).toMatchObject({ gpuArch: "sm90", max: { batch: 64, length: 1024 }, precision: "fp16" });
});

test("TensorRT is told the tier's shapes, float16 and where the engine goes", () => {
  const options = exportPython(
    `${IMPORTS}; print(json.dumps(options(tiers(8192)[0], pathlib.Path("/models/a.onnx"), pathlib.Path("/models/t"), 1)))`,
  );
  expect(options).toMatchObject({
    device_id: "1",
    trt_fp16_enable: "1",
    trt_profile_min_shapes: "input_ids:1x2,attention_mask:1x2",
    trt_profile_max_shapes: "input_ids:256x256,attention_mask:256x256",
    trt_ep_context_file_path: "/models/a.onnx",
  });
});

test("new engines replace those of the same machine and leave the others", () => {
  const merged = exportPython(
    `${IMPORTS}
def engine(arch, mark): return {"gpuArch": arch, "trtVersion": "10", "ortVersion": "1", "precision": "fp16", "mark": mark}
print(json.dumps(merged([engine("sm80", "old"), engine("sm90", "old")], [engine("sm90", "new")])))`,
  ) as { gpuArch: string; mark: string }[];
  expect(merged.map(({ gpuArch, mark }) => `${gpuArch} ${mark}`)).toEqual(["sm80 old", "sm90 new"]);
});

test("where there is no TensorRT, it is refused before anything is written", () => {
  const into = join(folder, "none");
  const { status, output } = runExport("graph", "generated:tiny", "--out", into, "--tensorrt");
  expect(status).toBe(1);
  expect(output).toMatch(/^error: TensorRT engines need .*\n.*compile on a machine with an NVIDIA GPU/);
});
