/** What a graph's own bytes tell about a model, before a runtime loads it. */
import { ALL_HEADS } from "../../src/core/contracts.ts";
import { FleetError, messageOf } from "../../src/core/errors.ts";
import type { Inspection } from "../engine.ts";
import { outlineOfGraph } from "../graph/onnx-reader.ts";
import { UnreadableGraph } from "../graph/graph-files.ts";
import { onnxManifestOf } from "../registry/manifest.ts";
import type { Model } from "../registry/open-model.ts";
import { withPlainFile } from "../registry/plain-file.ts";

/** Operators that find one scale for the whole tensor, so for all rows of a batch, while the model runs. */
const ONE_SCALE_A_BATCH = ["DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"];

/** @throws FleetError `model_invalid` for a graph that cannot be read, or lacks the output of a head */
export function inspectGraph({ manifest, weightsPath }: Pick<Model, "manifest" | "weightsPath">): Inspection {
  const { id, heads } = onnxManifestOf(manifest);
  const { operators, outputs } = outlineOf(weightsPath);
  for (const head of ALL_HEADS) {
    const output = heads[head]?.output;
    if (output === undefined || outputs.has(output)) continue;
    throw new FleetError(
      "model_invalid",
      `${weightsPath} has the outputs ${[...outputs].join(", ")}; none of them is ${output}, the ${head} head of model ${id}`,
      { cure: "fix the model's manifest.json, or export the model again" },
    );
  }
  const found = ONE_SCALE_A_BATCH.filter((name) => operators.has(name));
  if (found.length === 0) return { batchDependence: null };
  return { batchDependence: `its graph quantises all rows of a batch with one scale (${found.join(", ")})` };
}

function outlineOf(path: string): ReturnType<typeof outlineOfGraph> {
  try {
    return withPlainFile(path, outlineOfGraph);
  } catch (error) {
    throw error instanceof FleetError ? error : new UnreadableGraph(path, messageOf(error), error);
  }
}
