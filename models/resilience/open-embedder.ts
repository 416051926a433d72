/** Opens a model on a device with the layers that keep it working when the device fails, for every engine. */
import type { Logger } from "pino";
import { CPU } from "../../src/core/device-name.ts";
import type { Embedder } from "../../src/core/ports.ts";
import { type Observe, unobserved } from "../../src/core/telemetry.ts";
import type { InferenceEngine, OpenedEmbedder, OpenParams } from "../engine.ts";
import { type Model, openModel } from "../registry/open-model.ts";
import { changedFile } from "../registry/plain-file.ts";
import { FallbackEmbedder } from "./fallback-embedder.ts";
import { RecomputingEmbedder } from "./recomputing-embedder.ts";
import { SplittingEmbedder } from "./splitting-embedder.ts";

/**
 * Layers from the inside out: batches that do not fit are halved; a failing device is replaced by the CPU, if the
 * engine has one; non-finite rows are recomputed in fp32, if the model has it.
 *
 * @throws FleetError `model_invalid`
 */
export async function openEmbedder(
  params: OpenParams & Readonly<{ engine: InferenceEngine; log: Logger; observe?: Observe }>,
): Promise<OpenedEmbedder> {
  const { engine, model, device = CPU, log, observe = unobserved } = params;
  const split = ({ embedder }: OpenedEmbedder): SplittingEmbedder => new SplittingEmbedder({ embedder, observe, log });
  const openOnDevice = async (): Promise<OpenedEmbedder> => {
    const opened = await engine.open(params);
    for (const note of opened.notes) log.warn({ device: opened.embedder.device }, note);
    return opened;
  };
  const openOnCpu = async (of = model): Promise<Embedder> =>
    split(await engine.open({ ...params, model: of, device: CPU }));

  let opened = await openOnDevice();
  let splitting = split(opened);
  let embedder: Embedder = splitting;
  const hasCpu = engine.devices().some(({ kind }) => kind === "cpu");
  if (device.kind !== "cpu" && hasCpu) {
    const reopen = async (): Promise<Embedder> => {
      opened = await openOnDevice();
      return (splitting = split(opened));
    };
    embedder = new FallbackEmbedder({ primary: splitting, reopen, openFallback: openOnCpu, observe, log });
  }
  if (model.exactSha256 !== null && hasCpu && engine.precisions.fp32 !== undefined) {
    const openExact = async (): Promise<Embedder> => openOnCpu(await openExactModel(model));
    embedder = new RecomputingEmbedder({ embedder, precision: model.precision, openExact, observe, log });
  }
  const { batchesInFlight, notes } = opened;
  const maxBatchTokens = (): number => Math.min(opened.maxBatchTokens(), splitting.maxBatchTokens);
  return { embedder, batchesInFlight, maxBatchTokens, notes };
}

/** @throws FleetError `model_invalid` when the fp32 weights are not those that the run requires. */
async function openExactModel(model: Model): Promise<Model> {
  const exact = await openModel(model, { precision: "fp32" });
  if (exact.ref.sha256 === model.exactSha256) return exact;
  throw changedFile(exact.weightsPath);
}
