/**
 * The engine port: what a runtime has to do to compute a fleet's models. Everything that knows a runtime is behind one
 * of these; `choose-engine.ts` picks one. Its suite is `test/conformance/engine.suite.ts`.
 */
import type { Head, Precision } from "../src/core/contracts.ts";
import type { Device, DeviceChoice } from "../src/core/device-name.ts";
import { FleetError } from "../src/core/errors.ts";
import type { Embedder } from "../src/core/ports.ts";
import type { ModelManifest } from "./registry/manifest.ts";
import type { Model, PrecisionChoice } from "./registry/open-model.ts";

/** What an engine can make of a model. */
export interface Offer {
  /** Most exact first; none when the engine cannot run the model at all. */
  readonly precisions: readonly Precision[];
  readonly heads: readonly Head[];
}

/** What to load, and where. */
export interface OpenParams {
  readonly model: Model;
  /** CPU threads. */
  readonly threads: number;
  /** The CPU when left out. */
  readonly device?: Device;
  /** Padded area, rows x longest row in tokens, of the largest batch to come. */
  readonly maxBatchTokens?: number;
}

/** A model that is loaded on a device. */
export interface OpenedEmbedder {
  readonly embedder: Embedder;
  /** How many batches a worker hands over at once to keep the device busy: at least 1. */
  readonly batchesInFlight: number;
  /** Padded area of the largest batch that the device's memory has shown to hold; it may shrink, and limits a packer. */
  readonly maxBatchTokens: () => number;
  /** What did not go as asked when the model was loaded, one sentence each. */
  readonly notes: readonly string[];
}

/**
 * A runtime for models. Its faults: `device_memory` (the batch is tried again in halves), `inference_failed`,
 * `inference_crashed` (of a sandbox), `model_invalid` when a model is opened.
 */
export interface InferenceEngine {
  /**
   * As in `--engine`, in manifests and in runs' records. It also says what makes the engine's vectors its own: of one
   * name, model and precision they are the same up to rounding, whatever the version. An engine that comes to compute
   * other vectors takes another name.
   */
  readonly name: string;
  /** Version of the runtime; runs and result files record it. */
  readonly version: string;
  /** Every precision that it can compute, with the least mean cosine to PyTorch's float32 that a sound model has at it. */
  readonly precisions: Readonly<Partial<Record<Precision, number>>>;
  /** @returns Null for what is not the name of one of its devices. */
  parseDevice(name: string): Device | null;
  /** The first device of each kind that it can open on this machine, the best one first; at least one. */
  devices(): readonly Device[];
  /**
   * The device itself, or for `auto` the first of `devices()`.
   * @throws FleetError `bad_usage` when it cannot open that device here
   */
  chooseDevice(choice: DeviceChoice): Device;
  /** What it can make of a model; nothing of one that it cannot run. */
  offers(manifest: ModelManifest): Offer;
  /**
   * Loads a model, held to the digests that `model.files` has, and returns once it can take batches.
   * @throws FleetError `model_invalid`
   */
  open(params: OpenParams): Promise<OpenedEmbedder>;
  /**
   * The model in a process of its own, started when first used, for rows that may crash the runtime. Without it, rows
   * that crash a worker again and again end as a failed job.
   * @param params.maxBatchMs A batch that takes longer counts as a crash.
   */
  openSandbox?(params: Pick<OpenParams, "model" | "threads"> & Readonly<{ maxBatchMs: number }>): Embedder;
  /** Floating-point operations a second of one large fp32 matrix product, for `models bench`. */
  measurePeak?(params: Readonly<{ device: Device; threads: number }>): Promise<number>;
}

/**
 * The precision to open a model at; `auto` is the most exact that the engine offers.
 * @throws FleetError `bad_usage` naming what the engine offers of the model
 */
export function offeredPrecision(
  engine: InferenceEngine,
  manifest: ModelManifest,
  choice: PrecisionChoice = "auto",
): Precision {
  const { precisions } = engine.offers(manifest);
  const precision = choice === "auto" ? precisions[0] : precisions.find((each) => each === choice);
  if (precision !== undefined) return precision;
  const asked = choice === "auto" ? "" : ` at ${choice}`;
  if (precisions.length === 0)
    throw new FleetError("bad_usage", `engine ${engine.name} cannot run model ${manifest.id}${asked}`, {
      cure: `use the engine that its manifest names, or a model that was made for ${engine.name}`,
    });
  const why = manifest.weights[choice as Precision] === undefined ? `: it has no ${choice} weights` : "";
  throw new FleetError("bad_usage", `engine ${engine.name} does not offer model ${manifest.id}${asked}${why}`, {
    cure: `use --precision ${precisions.join(" or ")}, or export it: see docs/models.md`,
  });
}

/** @throws FleetError `bad_usage` naming the heads that the engine offers of the model */
export function assertOffersHeads(engine: InferenceEngine, manifest: ModelManifest, heads: readonly Head[]): void {
  const offered = engine.offers(manifest).heads;
  const missing = heads.filter((head) => !offered.includes(head));
  if (missing.length === 0) return;
  throw new FleetError(
    "bad_usage",
    `engine ${engine.name} has no ${missing.join(" and no ")} head of model ${manifest.id}`,
    { cure: `ask for --heads ${offered.join(",")}` },
  );
}
