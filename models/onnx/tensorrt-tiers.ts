/**
 * TensorRT engines are compiled for a range of shapes each: short, medium and long rows. This module decides which
 * one computes a batch; an engine never gets a shape outside its range.
 */
import { spawnSync } from "node:child_process";
import { childEnvironment } from "../../src/core/child-environment.ts";
import type { Precision } from "../../src/core/contracts.ts";
import type { OnnxManifest } from "../registry/manifest.ts";

export type Engine = NonNullable<OnnxManifest["engines"]>[number];

export interface BatchShape {
  readonly batch: number;
  readonly length: number;
}

/**
 * Chooses the engine for the shortest rows among those that accept the shape, as it wastes least.
 * @returns Its index, or -1 when none accepts the shape.
 */
export function chooseTier(engines: readonly Pick<Engine, "min" | "max">[], shape: BatchShape): number {
  let best = -1;
  engines.forEach(({ min, max }, index) => {
    const takes =
      shape.batch >= min.batch && shape.batch <= max.batch && shape.length >= min.length && shape.length <= max.length;
    if (takes && (best === -1 || max.length < engines[best]!.max.length)) best = index;
  });
  return best;
}

/** Engines compiled for this GPU, runtime and precision; any other would fail to load or compute wrong vectors. */
export function usableEngines(
  manifest: OnnxManifest,
  here: Readonly<{ gpuArch: string | null; ortVersion: string; precision: Precision }>,
): Engine[] {
  return (manifest.engines ?? []).filter(
    ({ gpuArch, ortVersion, precision }) =>
      gpuArch === here.gpuArch && ortVersion === here.ortVersion && precision === here.precision,
  );
}

/** `sm90` for a GPU of compute capability 9.0; null when the driver does not report it. */
export function gpuArchOf(index: number): string | null {
  const asked = spawnSync("nvidia-smi", ["--query-gpu=compute_cap", "--format=csv,noheader", "-i", `${index}`], {
    env: childEnvironment(),
    encoding: "utf8",
    timeout: 10_000,
  });
  const [, major, minor] = /^(\d+)\.(\d+)/.exec(asked.stdout ?? "") ?? [];
  return major === undefined ? null : `sm${major}${minor}`;
}
