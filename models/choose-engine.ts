/** Chooses the engine that computes a model; the single entry to every bundled runtime. */
import { engineNameOf } from "../src/core/same-model.ts";
import { FleetError } from "../src/core/errors.ts";
import type { InferenceEngine } from "./engine.ts";
import { onnxEngine } from "./onnx/onnx-engine.ts";
import type { ModelManifest } from "./registry/manifest.ts";

/** The bundled engines; programs that use embedfleet as a library can pass their own. */
const ENGINES: readonly InferenceEngine[] = [onnxEngine];

/** An engine, or the name of a bundled one. */
export type EngineChoice = InferenceEngine | string;

/**
 * The named engine; else the one that the model's manifest names; else ONNX Runtime.
 * @throws FleetError `bad_usage` when no bundled engine has that name
 */
export function chooseEngine(
  choice: EngineChoice | undefined,
  manifest?: Pick<ModelManifest, "engine">,
): InferenceEngine {
  if (typeof choice === "object") return choice;
  const name = choice ?? engineNameOf(manifest ?? {});
  const engine = ENGINES.find((each) => each.name === name);
  if (engine !== undefined) return engine;
  const why = choice === undefined ? "the model's manifest names it" : "it was asked for";
  throw new FleetError("bad_usage", `no engine named ${JSON.stringify(name)} is bundled with embedfleet; ${why}`, {
    cure: `use --engine ${ENGINES.map((each) => each.name).join(" or ")}, or pass the engine itself to startWorker: see docs/models.md`,
  });
}

export { gpuLibraries, installGpuLibraries } from "./onnx/gpu-libraries.ts";
