/** Whether models give the same vectors. Runs of before tell of their weights alone, and these are then compared. */
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

/** The wanted options without what the found ones, of an earlier version, do not tell of their model. */
export function knownTo(found: RunOptions, wanted: RunOptions): RunOptions {
  if (found.model.setupSha256 !== undefined) return wanted;
  const { setupSha256: _, ...model } = wanted.model;
  return { ...wanted, model };
}
