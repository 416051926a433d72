/** What decides vectors besides the weights, as one digest: two workers that differ in it must not share a run. */
import { createHash } from "node:crypto";
import { ALL_HEADS } from "../../src/core/contracts.ts";
import { isOnnx, type ModelManifest, type OnnxManifest } from "./manifest.ts";

/**
 * Of the manifest, what a graph is fed and what is made of its outputs; of a folder in the hub's layout this comes from
 * its configurations. Files of linear layers are weights. Descriptions, sizes and TensorRT's engines decide nothing.
 * Of a manifest for another engine, everything that it says of the heads.
 *
 * @param files.tokenizer Its SHA-256.
 * @param files.exact Of the fp32 weights that take rows which another precision cannot compute; null where there are none.
 */
export function setupSha256(
  manifest: ModelManifest,
  files: Readonly<{ tokenizer: string; exact: string | null }>,
): string {
  const { architecture, dim, prefixes } = manifest;
  const setup = [
    [architecture.padId, dim],
    [prefixes.query, prefixes.passage],
    ...(isOnnx(manifest)
      ? [inputsOf(manifest), ALL_HEADS.map((head) => headOf(manifest, head))]
      : [manifest.engine, ALL_HEADS.map((head) => manifest.heads[head] ?? null)]),
    [files.tokenizer, files.exact],
  ];
  return createHash("sha256").update(JSON.stringify(setup)).digest("hex");
}

function inputsOf({ inputs: { ids, mask, typeIds } }: OnnxManifest): readonly unknown[] {
  return [ids, mask, typeIds ?? null];
}

function headOf({ heads }: OnnxManifest, name: (typeof ALL_HEADS)[number]): readonly unknown[] | null {
  const head = heads[name];
  if (head === undefined) return null;
  const ids = "nonLexicalIds" in head ? head.nonLexicalIds : null;
  return [head.output, head.finished, "pooling" in head ? head.pooling : null, ids];
}
