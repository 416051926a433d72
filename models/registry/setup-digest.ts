/** What decides vectors besides the weights, as one digest: two workers that differ in it must not share a run. */
import { createHash } from "node:crypto";
import { ALL_HEADS } from "../../src/core/contracts.ts";
import type { ModelManifest } from "./manifest.ts";

/**
 * Of the manifest, what a graph is fed and what is made of its outputs; of a folder in the hub's layout this comes from
 * its configurations. Files of linear layers are weights. Descriptions, sizes and engines decide nothing.
 *
 * @param files.tokenizer Its SHA-256.
 * @param files.exact Of the fp32 weights that take rows which another precision cannot compute; null where there are none.
 */
export function setupSha256(
  manifest: ModelManifest,
  files: Readonly<{ tokenizer: string; exact: string | null }>,
): string {
  const { architecture, dim, prefixes, inputs } = manifest;
  const setup = [
    [architecture.padId, dim],
    [prefixes.query, prefixes.passage],
    [inputs.ids, inputs.mask, inputs.typeIds ?? null],
    ALL_HEADS.map((head) => headOf(manifest, head)),
    [files.tokenizer, files.exact],
  ];
  return createHash("sha256").update(JSON.stringify(setup)).digest("hex");
}

function headOf({ heads }: ModelManifest, name: (typeof ALL_HEADS)[number]): readonly unknown[] | null {
  const head = heads[name];
  if (head === undefined) return null;
  const ids = "nonLexicalIds" in head ? head.nonLexicalIds : null;
  return [head.output, head.finished, "pooling" in head ? head.pooling : null, ids];
}
