/** Checks a graph's inputs and outputs against a manifest, without running it. */
import { ALL_HEADS, type Head } from "../../src/core/contracts.ts";
import { FleetError } from "../../src/core/errors.ts";
import type { GraphSignature, GraphValue } from "../graph/graph-signature.ts";
import type { OnnxManifest } from "./manifest.ts";

const ID_TYPES = ["int64", "int32"];
const VECTOR_TYPES = ["float32", "float16"];

/** @param path Of the graph, for messages. @throws FleetError `model_invalid` */
export function assertSignature(manifest: OnnxManifest, path: string, signature: GraphSignature): void {
  assertInputs(manifest, path, signature.inputs);
  for (const head of ALL_HEADS) if (manifest.heads[head] !== undefined) assertOutput(manifest, path, signature, head);
}

function assertInputs({ id, inputs }: OnnxManifest, path: string, found: readonly GraphValue[]): void {
  const { past } = inputs;
  const known = [inputs.ids, inputs.mask, inputs.typeIds, inputs.positionIds];
  const isPast = ({ name }: GraphValue): boolean => past !== undefined && name.startsWith(past);
  const strange = found.filter((input) => !known.includes(input.name) && !isPast(input));
  const lacking = [inputs.ids, inputs.mask].filter((name) => !found.some((input) => input.name === name));
  if (strange.length + lacking.length > 0) {
    throw unlike(
      `${path} takes ${found.map(({ name }) => name).join(", ")}; the manifest of model ${id} has ${known.filter(Boolean).join(", ")}`,
    );
  }
  for (const input of found) {
    if (isPast(input)) assertPast(path, input);
    else assertIds(path, input);
  }
}

function assertIds(path: string, { name, type, shape }: GraphValue): void {
  if (!ID_TYPES.includes(type ?? ""))
    throw unlike(`the input ${name} of ${path} is ${type ?? "no tensor"}; it must be int64 or int32`);
  const [rows, tokens] = shape ?? ["", ""];
  if (shape !== null && shape.length !== 2)
    throw unlike(`the input ${name} of ${path} has ${shape.length} dimensions; it must have rows and tokens`);
  if (typeof rows === "number" || typeof tokens === "number") {
    const [some, many] = [rows, tokens].map((size) => (typeof size === "number" ? size : "any number of"));
    throw new FleetError("model_invalid", `${path} has a fixed shape: it takes ${some} rows of ${many} tokens alone`, {
      cure: "export the model with dynamic axes for batch and sequence: see docs/models.md",
    });
  }
}

/** [batch, heads, earlier tokens, width] */
function assertPast(path: string, { name, type, shape }: GraphValue): void {
  const isUsable = shape?.length === 4 && typeof shape[1] === "number" && typeof shape[3] === "number";
  if (!isUsable || typeof shape[2] === "number" || !VECTOR_TYPES.includes(type ?? ""))
    throw unlike(
      `the input ${name} of ${path} cannot be given empty: it is ${type ?? "no tensor"} [${shape?.join(", ") ?? "?"}]`,
    );
}

function assertOutput(manifest: OnnxManifest, path: string, { outputs }: GraphSignature, head: Head): void {
  const { id, heads, dim, architecture } = manifest;
  const { output, finished } = heads[head]!;
  const found = outputs.find(({ name }) => name === output);
  if (found === undefined || found.type === null) {
    throw unlike(
      `${path} has the outputs ${outputs.map(({ name }) => name).join(", ")}; none of them is ${output}, the ${head} head of model ${id}`,
    );
  }
  const { type, shape } = found;
  const expected = finished ? dim : architecture.hiddenSize;
  const hasWidth = head !== "sparse" || !finished;
  const width = shape?.at(-1);
  // A finished vector may be cut, and is then wider than the model's own width.
  const fits = typeof width !== "number" || width === expected || (head === "dense" && finished && width > dim);
  if (hasWidth && !fits)
    throw unlike(`the output ${output} of ${path} is ${width} wide; the manifest of model ${id} says ${expected}`);
  // Finished weights of words may be [batch, seq] or [batch, seq, 1].
  const rank = head === "dense" && finished ? 2 : 3;
  if (shape !== null && shape.length !== rank && (head !== "sparse" || !finished))
    throw unlike(
      `the output ${output} of ${path} has ${shape.length} dimensions; the ${head} head of model ${id} needs ${rank}`,
    );
  if (!VECTOR_TYPES.includes(type))
    throw unlike(`the output ${output} of ${path} is ${type}; it must be float32 or float16`);
}

function unlike(message: string): FleetError {
  return new FleetError("model_invalid", message, {
    cure: "fix the model's manifest.json, or export the model again",
  });
}
