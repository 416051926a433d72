/**
 * Comparison of models and engines by the vectors they produce. Runs of earlier versions record less; only fields that
 * both sides record are compared.
 */
import type { ModelRef, RunOptions } from "./contracts.ts";

/** Whether two models have the same digest of the weights, and of the setup where both have one. */
export function givesSameVectors(one: ModelRef, other: ModelRef): boolean {
  const haveSetups = one.setupSha256 !== undefined && other.setupSha256 !== undefined;
  return one.sha256 === other.sha256 && (!haveSetups || one.setupSha256 === other.setupSha256);
}

/** Name of a model for messages, with the beginnings of its digests. */
export function modelName({ id, sha256, setupSha256 }: ModelRef): string {
  const setup = setupSha256 === undefined ? "" : `, setup ${setupSha256.slice(0, 12)}`;
  return `model ${id} ${sha256.slice(0, 12)}${setup}`;
}

/** Engine of every record that names none. */
export const DEFAULT_ENGINE = "onnx";

/**
 * The engine of a run, a manifest or a worker.
 *
 * Names are compared, versions are not. Releases of one runtime differ in the order of summation, so in the last bits of a
 * vector: less than the difference between a batch and the same rows alone, or between two CPUs, which may share a run
 * already. Refusing other versions would stop a fleet during every rolling update. So versions are recorded, in the run
 * and in each result file, and `verify` and the workers' logs name them where they differ.
 */
export function engineNameOf({ engine = DEFAULT_ENGINE }: Readonly<{ engine?: string | undefined }>): string {
  return engine;
}

/** The wanted options without the model and engine fields that the found ones, of an earlier version, do not record. */
export function knownTo(found: RunOptions, wanted: RunOptions): RunOptions {
  const { engine: _named, ...others } = wanted;
  const engine = engineNameOf(wanted);
  const known = found.engine === undefined && engine === DEFAULT_ENGINE ? others : { ...others, engine };
  if (found.model.setupSha256 !== undefined) return known;
  const { setupSha256: _, ...model } = wanted.model;
  return { ...known, model };
}
