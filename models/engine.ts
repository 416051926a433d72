/**
 * The engine port: what a runtime must do to compute a fleet's models. All code that depends on a runtime is behind one
 * of these; `choose-engine.ts` chooses one. Its suite is `test/conformance/engine.suite.ts`.
 */
import type { Head, Precision } from "../src/core/contracts.ts";
import type { Device, DeviceChoice } from "../src/core/device-name.ts";
import { FleetError } from "../src/core/errors.ts";
import type { Embedder } from "../src/core/ports.ts";
import type { ModelManifest } from "./registry/manifest.ts";
import type { Model, PrecisionChoice } from "./registry/open-model.ts";

/** The capabilities of an engine for one model. */
export interface Offer {
  /** Most precise first; empty when the engine cannot run the model. */
  readonly precisions: readonly Precision[];
  readonly heads: readonly Head[];
}

/** What an engine finds out about a model from its files, without loading them. */
export interface Inspection {
  /** Why a row's vectors depend on the rows beside it in a batch, as a clause; null where they do not. */
  readonly batchDependence: string | null;
}

/** The model to load, and the device. */
export interface OpenParams {
  readonly model: Model;
  /** CPU threads. */
  readonly threads: number;
  /** Device; the CPU by default. */
  readonly device?: Device;
  /** Padded area, rows x longest row in tokens, of the largest batch to come. */
  readonly maxBatchTokens?: number;
}

/** A model that is loaded on a device. */
export interface OpenedEmbedder {
  readonly embedder: Embedder;
  /** Number of batches that a worker submits at once to keep the device busy: at least 1. */
  readonly batchesInFlight: number;
  /** Padded area of the largest batch known to fit the device's memory; it may shrink, and limits a packer. */
  readonly maxBatchTokens: () => number;
  /** Deviations from what was asked for when the model was loaded, one sentence each. */
  readonly notes: readonly string[];
}

/**
 * A runtime for models. Its errors: `device_memory` (the batch is retried in halves), `inference_failed`,
 * `inference_crashed` (by a sandbox), `model_invalid` when a model is opened.
 */
export interface InferenceEngine {
  /**
   * Name as in `--engine`, in manifests and in runs' records. It also identifies the engine's vectors: for the same
   * name, model and precision they are equal up to rounding, in every version. An engine whose vectors change
   * needs a new name.
   */
  readonly name: string;
  /** Version of the runtime; runs and result files record it. */
  readonly version: string;
  /** Every supported precision, with a sound model's minimum mean cosine to PyTorch's float32 at it. */
  readonly precisions: Readonly<Partial<Record<Precision, number>>>;
  /** @returns Null for text that is not the name of one of its devices. */
  parseDevice(name: string): Device | null;
  /** The first device of each kind that it can open on this machine, best first; at least one. */
  devices(): readonly Device[];
  /**
   * The device itself, or for `auto` the first of `devices()`.
   * @throws FleetError `bad_usage` when it cannot open that device here
   */
  chooseDevice(choice: DeviceChoice): Device;
  /** Its capabilities for a model; no precisions for one that it cannot run. */
  offers(manifest: ModelManifest): Offer;
  /**
   * Looks at a model's files before a corpus is read, at little cost.
   * @throws FleetError `model_invalid` for a fault that shows without loading the model
   */
  inspect?(model: Model): Inspection;
  /**
   * Loads a model, checked against the digests in `model.files`, and returns once it accepts batches.
   * @throws FleetError `model_invalid`
   */
  open(params: OpenParams): Promise<OpenedEmbedder>;
  /**
   * The model in a process of its own, started on first use, for rows that may crash the runtime. Without it, rows
   * that repeatedly crash workers end as a failed job.
   * @param params.maxBatchMs Time after which a batch counts as a crash.
   */
  openSandbox?(params: Pick<OpenParams, "model" | "threads"> & Readonly<{ maxBatchMs: number }>): Embedder;
  /** Floating-point operations per second of one large fp32 matrix product, for `models bench`. */
  measurePeak?(params: Readonly<{ device: Device; threads: number }>): Promise<number>;
}

/**
 * The precision to open a model at; `auto` is the most precise that the engine offers.
 * @throws FleetError `bad_usage`, which names what the engine offers of the model
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
      cure: `use the engine that its manifest names, or a model made for ${engine.name}`,
    });
  const why = manifest.weights[choice as Precision] === undefined ? `: it has no ${choice} weights` : "";
  throw new FleetError("bad_usage", `engine ${engine.name} does not offer model ${manifest.id}${asked}${why}`, {
    cure: `use --precision ${precisions.join(" or ")}, or export it: see docs/models.md`,
  });
}

/** @throws FleetError `bad_usage`, which names the heads that the engine offers of the model */
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
