/** `embedfleet models …`: the models that can be used. */
import { listModels } from "../../../models/registry.ts";
import { printJson } from "../context.ts";

export interface ModelsFlags {
  readonly models: string;
  readonly json: boolean;
}

export function listKnown(flags: ModelsFlags): void {
  const known = listModels({ modelsFolder: flags.models });
  if (flags.json) return printJson(known.map(({ manifest, folder }) => ({ ...manifest, folder })));
  for (const { manifest, folder } of known) {
    const { id, dim, architecture, heads, weights, description, notice } = manifest;
    const what = `${dim} wide, ${architecture.maxTokens} tokens, ${Object.keys(heads).join(" + ")}, ${Object.keys(weights).join(" ")}`;
    console.log(`${id.padEnd(22)} ${what}`);
    for (const line of [description, notice === null ? "" : `Note: ${notice}.`])
      if (line !== "") console.log(`    ${line}`);
    if (folder === null) console.log(`    Not on this machine; fetch it with: embedfleet models pull ${id}`);
  }
}
