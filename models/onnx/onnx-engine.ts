/** ONNX Runtime as an engine: on the CPU, on CUDA, and on CUDA with TensorRT engines beside the graph. */
import "./no-telemetry.ts";
import { createRequire } from "node:module";
import { ALL_HEADS, precisionSchema } from "../../src/core/contracts.ts";
import { DEFAULT_ENGINE } from "../../src/core/same-model.ts";
import type { InferenceEngine, Offer, OpenedEmbedder, OpenParams } from "../engine.ts";
import { isOnnx, type ModelManifest } from "../registry/manifest.ts";
import { chooseDevice, devices, parseDevice } from "./device.ts";
import { inspectGraph } from "./inspect-graph.ts";
import { PRECISIONS } from "./precisions.ts";
import { SandboxEmbedder } from "./sandbox.ts";
import { ThreadEmbedder } from "./thread-embedder.ts";

/** One batch runs, the next is ready, and the previous one is scattered to its rows; see `output-slots.ts`. */
const BATCHES_IN_FLIGHT = 3;

const { version } = createRequire(import.meta.url)("onnxruntime-node/package.json") as { version: string };

export const onnxEngine: InferenceEngine = {
  name: DEFAULT_ENGINE,
  version,
  precisions: PRECISIONS,
  parseDevice,
  devices,
  chooseDevice,
  offers,
  inspect: inspectGraph,
  open,
  openSandbox: (params) => new SandboxEmbedder(params),
  // Imported on demand, because it loads the runtime into this thread.
  measurePeak: async (params) => (await import("./measure-peak.ts")).measurePeak(params),
};

function offers(manifest: ModelManifest): Offer {
  if (!isOnnx(manifest)) return { precisions: [], heads: [] };
  return {
    precisions: precisionSchema.options.filter(
      (precision) => PRECISIONS[precision] !== undefined && manifest.weights[precision] !== undefined,
    ),
    heads: ALL_HEADS.filter((head) => manifest.heads[head] !== undefined),
  };
}

async function open(params: OpenParams): Promise<OpenedEmbedder> {
  const embedder = await ThreadEmbedder.open(params);
  // A session does not report how much memory it has; `resilience/open-embedder.ts` finds the limit.
  return { embedder, batchesInFlight: BATCHES_IN_FLIGHT, maxBatchTokens: () => Infinity, notes: embedder.notes };
}
