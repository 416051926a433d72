/** Which engine computes a model: the one door to every runtime that comes with embedfleet. */
import { engineNameOf } from "../src/core/same-model.ts";
import { FleetError } from "../src/core/errors.ts";
import type { InferenceEngine } from "./engine.ts";
import { onnxEngine } from "./onnx/onnx-engine.ts";
import type { ModelManifest } from "./registry/manifest.ts";

/** Those that come with embedfleet; programs that use it as a library bring others. */
const ENGINES: readonly InferenceEngine[] = [onnxEngine];

/** An engine, or the name of one that comes with embedfleet. */
export type EngineChoice = InferenceEngine | string;

/**
 * The engine that was named; else the one that the model's manifest names; else ONNX Runtime.
 * @throws FleetError `bad_usage` when no engine of that name comes with embedfleet
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
  throw new FleetError("bad_usage", `embedfleet comes without an engine named ${JSON.stringify(name)}; ${why}`, {
    cure: `use --engine ${ENGINES.map((each) => each.name).join(" or ")}, or give startWorker the engine itself: see docs/models.md`,
  });
}
