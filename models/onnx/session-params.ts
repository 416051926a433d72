/** What a session of ONNX Runtime is opened with. */
import { roundedLength } from "../../src/core/shapes.ts";
import type { OnnxManifest } from "../registry/manifest.ts";
import type { PinnedFile } from "../registry/pinned-files.ts";
import type { Device } from "../../src/core/device-name.ts";
import type { Engine } from "./tensorrt-tiers.ts";

/** Plain data: it is sent to threads and processes. */
export interface SessionParams {
  readonly manifest: OnnxManifest;
  /** Where the manifest's files are. */
  readonly folder: string;
  readonly weightsPath: string;
  /** Of the weights: see `ModelRef`. */
  readonly modelSha256: string;
  /** What is loaded, held to its digests. */
  readonly files: readonly PinnedFile[];
  readonly device: Device;
  /** Threads inside one operator; 0 lets the runtime decide. */
  readonly threads: number;
  /** Padded area of the largest batch to come; a GPU is warmed up with it. */
  readonly maxBatchTokens: number;
  /** Compiled for this very device; a batch that none of them takes runs on the graph itself. */
  readonly engines: readonly Engine[];
}

/**
 * Tokens that a batch's longest row is padded to: on a GPU one of few, because each shape that it sees costs
 * memory that it keeps.
 */
export function paddedLengthOf({ device, manifest }: SessionParams, longest: number): number {
  return device.kind === "cpu" ? longest : roundedLength(longest, manifest.architecture.maxTokens);
}
