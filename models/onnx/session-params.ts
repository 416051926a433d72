/** Parameters of a session of ONNX Runtime. */
import { roundedLength } from "../../src/core/shapes.ts";
import type { OnnxManifest } from "../registry/manifest.ts";
import type { PinnedFile } from "../registry/pinned-files.ts";
import type { Device } from "../../src/core/device-name.ts";
import type { Engine } from "./tensorrt-tiers.ts";

/** Plain data, because it is sent to threads and processes. */
export interface SessionParams {
  readonly manifest: OnnxManifest;
  /** The folder of the manifest's files. */
  readonly folder: string;
  readonly weightsPath: string;
  /** SHA-256 of the weights; see `ModelRef`. */
  readonly modelSha256: string;
  /** The files that are loaded, checked against their digests. */
  readonly files: readonly PinnedFile[];
  readonly device: Device;
  /** Threads inside one operator; 0 lets the runtime decide. */
  readonly threads: number;
  /** Padded area, in tokens, of the largest batch to come; a GPU is warmed up with it. */
  readonly maxBatchTokens: number;
  /** Engines compiled for this very device; a batch outside their shapes runs on the graph itself. */
  readonly engines: readonly Engine[];
}

/**
 * Tokens that a batch's longest row is padded to; on a GPU one of few lengths, because it allocates memory for
 * each shape and keeps it.
 */
export function paddedLengthOf({ device, manifest }: SessionParams, longest: number): number {
  return device.kind === "cpu" ? longest : roundedLength(longest, manifest.architecture.maxTokens);
}
