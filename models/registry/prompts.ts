/** The prompts of a model: which one is put before a text, by its use and by `--prompt`. */
import { FleetError } from "../../src/core/errors.ts";
import type { ModelManifest } from "./manifest.ts";

/** What a text is embedded for. */
export type Use = keyof ModelManifest["prefixes"];

type Prompted = Pick<ModelManifest, "id" | "prefixes" | "prompts" | "poolPrompt">;

/** Names of a use's own prompt, besides those that the model lists. */
const USUAL_NAMES: Readonly<Record<string, Use>> = { query: "query", document: "passage", passage: "passage" };

/**
 * The text that is put before every text of that use; empty for none.
 *
 * @param asked `--prompt`: the name of one of the model's prompts, or else a text, known by a white space or colon in
 *   it; an empty one is no prompt. By default the model's own prompt for that use.
 * @throws FleetError `bad_usage` for a name that the model does not have; `model_invalid` for a prompt that its pooling
 *   leaves out
 */
export function promptOf(manifest: Prompted, use: Use, asked?: string): string {
  const prompt = asked === undefined ? manifest.prefixes[use] : askedPrompt(manifest, asked);
  assertPooled(manifest, prompt);
  return prompt;
}

function askedPrompt(manifest: Prompted, asked: string): string {
  const known = knownPrompts(manifest);
  const found = known.get(asked);
  if (found !== undefined) return found;
  if (asked === "" || /[\s:]/.test(asked)) return asked;
  const names = known.size === 0 ? "it has none" : `its prompts are ${[...known.keys()].join(", ")}`;
  throw new FleetError("bad_usage", `model ${manifest.id} has no prompt named ${JSON.stringify(asked)}: ${names}`, {
    cure: `pass one of its names, or a text with a blank or a colon in it, such as --prompt "${asked}: "; --prompt "" is none`,
  });
}

function knownPrompts({ prompts = {}, prefixes }: Prompted): ReadonlyMap<string, string> {
  const usual = Object.entries(USUAL_NAMES)
    .map(([name, use]) => [name, prefixes[use]] as const)
    .filter(([, text]) => text !== "");
  return new Map([...usual, ...Object.entries(prompts)]);
}

/** Pooling that leaves the prompt's tokens out is not computed here; a vector of all tokens would be another one. */
function assertPooled({ id, poolPrompt = true }: Prompted, prompt: string): void {
  if (poolPrompt || prompt === "") return;
  throw new FleetError(
    "model_invalid",
    `model ${id} leaves the tokens of its prompt ${JSON.stringify(prompt)} out of pooling (include_prompt is false), which embedfleet does not compute`,
    { cure: 'embed without a prompt, if that serves: --prompt ""; else use another model' },
  );
}
