/**
 * Whether models and engines give the same vectors. Runs of earlier versions record less, and only what both sides
 * record is compared.
 */
import type { ModelRef, RunOptions } from "./contracts.ts";

/** By digest: of the weights, and of the setup where both have one. */
export function givesSameVectors(one: ModelRef, other: ModelRef): boolean {
  const haveSetups = one.setupSha256 !== undefined && other.setupSha256 !== undefined;
  return one.sha256 === other.sha256 && (!haveSetups || one.setupSha256 === other.setupSha256);
}

/** For messages: the model's name, and how its digests begin. */
export function modelName({ id, sha256, setupSha256 }: ModelRef): string {
  const setup = setupSha256 === undefined ? "" : `, setup ${setupSha256.slice(0, 12)}`;
  return `model ${id} ${sha256.slice(0, 12)}${setup}`;
}

/** The engine that everything without a name of one is of. */
export const DEFAULT_ENGINE = "onnx";

/**
 * The engine of a run, a manifest or a worker.
 *
 * Names are compared and versions are not. Releases of one runtime differ in the order of their sums, so in the last
 * bits of a vector: less than a batch differs from the same rows alone, or one CPU from another, all of which share a
 * run today. To refuse on them would stop a fleet in the middle of every rolling update. So versions are recorded, in
 * the run and in each result file, and `verify` and the workers' logs name them where they differ.
 */
export function engineNameOf({ engine = DEFAULT_ENGINE }: Readonly<{ engine?: string | undefined }>): string {
  return engine;
}

/** The wanted options without what the found ones, of an earlier version, do not record of their model and engine. */
export function knownTo(found: RunOptions, wanted: RunOptions): RunOptions {
  const { engine: _named, ...others } = wanted;
  const engine = engineNameOf(wanted);
  const known = found.engine === undefined && engine === DEFAULT_ENGINE ? others : { ...others, engine };
  if (found.model.setupSha256 !== undefined) return known;
  const { setupSha256: _, ...model } = wanted.model;
  return { ...known, model };
}
