/** One digest of everything but the weights that determines vectors: workers that differ in it must not share a run. */
import { createHash } from "node:crypto";
import { ALL_HEADS } from "../../src/core/contracts.ts";
import { isOnnx, type ModelManifest, type OnnxManifest } from "./manifest.ts";

/**
 * The digest covers the graph's inputs and the use of its outputs, from the manifest or, in the hub's layout, from its
 * configurations. Files of linear layers are weights. Descriptions, sizes and TensorRT engines are not covered.
 * For another engine's manifest, it covers everything about the heads.
 *
 * @param files.tokenizer SHA-256 of the tokenizer's file.
 * @param files.exact SHA-256 of the fp32 weights for rows that another precision cannot compute; null without any.
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
