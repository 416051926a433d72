/** A model on a device, with all that keeps it working when the device does not. */
import type { Logger } from "pino";
import type { Embedder } from "../../src/core/ports.ts";
import { type Observe, unobserved } from "../../src/core/telemetry.ts";
import { CPU } from "./device.ts";
import { type OpenParams, ThreadEmbedder } from "./thread-embedder.ts";
import { type Model, openModel } from "../registry/open-model.ts";
import { changedFile } from "../registry/plain-file.ts";
import { FallbackEmbedder } from "../resilience/fallback-embedder.ts";
import { RecomputingEmbedder } from "../resilience/recomputing-embedder.ts";
import { SplittingEmbedder } from "../resilience/splitting-embedder.ts";

export interface OpenedEmbedder {
  readonly embedder: Embedder;
  /** What the device's memory has shown to hold, in padded tokens: a packer's budget. */
  readonly maxBatchTokens: () => number;
}

/**
 * From the inside out: batches that do not fit are halved; a device that fails is replaced by the CPU;
 * rows that are not finite are computed again in fp32, where the model has it.
 *
 * @throws FleetError `model_invalid`
 */
export async function openEmbedder(
  params: OpenParams & Readonly<{ log: Logger; observe?: Observe }>,
): Promise<OpenedEmbedder> {
  const { model, device = CPU, log, observe = unobserved } = params;
  const split = (embedder: Embedder): SplittingEmbedder => new SplittingEmbedder({ embedder, observe, log });
  const open = async (): Promise<SplittingEmbedder> => {
    const thread = await ThreadEmbedder.open(params);
    for (const note of thread.notes) log.warn({ device: thread.device }, note);
    return split(thread);
  };
  const openOnCpu = async (of = model): Promise<Embedder> =>
    split(await ThreadEmbedder.open({ ...params, model: of, device: CPU }));

  let splitting = await open();
  let embedder: Embedder = splitting;
  if (device.kind !== "cpu") {
    const reopen = async (): Promise<Embedder> => (splitting = await open());
    embedder = new FallbackEmbedder({ primary: splitting, reopen, openFallback: openOnCpu, observe, log });
  }
  if (model.exactSha256 !== null) {
    const openExact = async (): Promise<Embedder> => openOnCpu(await openExactModel(model));
    embedder = new RecomputingEmbedder({ embedder, precision: model.precision, openExact, observe, log });
  }
  return { embedder, maxBatchTokens: () => splitting.maxBatchTokens };
}

/** @throws FleetError `model_invalid` when the fp32 weights are not those that the run is held to. */
async function openExactModel(model: Model): Promise<Model> {
  const exact = await openModel(model, { precision: "fp32" });
  if (exact.ref.sha256 === model.exactSha256) return exact;
  throw changedFile(exact.weightsPath);
}
