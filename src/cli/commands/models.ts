/** `embedfleet models …`: lists and fetches the available models. */
import { KNOWN_REPOSITORIES } from "../../../models/registry/known-repositories.ts";
import type { ModelManifest } from "../../../models/registry/manifest.ts";
import { type ModelSource, type PulledFile, pullModel } from "../../../models/registry/pull.ts";
import {
  addManifest,
  pullRepository,
  repositoryName,
  type RepositoryName,
} from "../../../models/registry/pull-repository.ts";
import { knownManifest, listModels } from "../../../models/registry/registry.ts";
import { HubSource, MirrorSource } from "../../../models/registry/pull-sources.ts";
import { openStore } from "../../adapters/open-store.ts";
import { megabytes } from "../../core/format-figures.ts";
import { FleetError } from "../../core/errors.ts";
import { hubToken } from "../environment.ts";
import type { AddModelCommand, ListModelsCommand, PullCommand } from "../model-settings.ts";
import { loggerOf, printJson, printLine } from "../output.ts";
import { type Closer, withCloser } from "../../fleet/open-ports.ts";
import { startProgress } from "../progress-bar.ts";

/** Recommended precision and device per goal. The figures are measured; docs/models.md and docs/export.md say how. */
const GUIDANCE = [
  ["throughput on a GPU", "--precision fp16 --device cuda:N, of an export; half of fp32's memory"],
  ["throughput on a CPU", "--precision int8 of an export: 2.8 to 3.0 times fp32's rows/s with AVX512-VNNI"],
  ["the least error", "--precision fp32; on a CPU fp16 is never faster than it"],
  ["a small device", "a narrower model; or int8, a quarter of fp32's weights"],
  ["what int8 costs", "mean cosine to PyTorch 0.999, 96 % of the ten nearest stay; for yours: models check"],
] as const;

const HOW_ITS_GRAPH_IS_HAD = {
  export: "`models export` makes its graphs, int8 with a scale per token.",
  hub: "Use an ONNX graph of the hub's: `models export` does not know its kind.",
} as const;

export function listKnown(settings: ListModelsCommand): void {
  const known = listModels({ modelsFolder: settings.models });
  if (settings.json) return printJson(known.map(({ manifest, folder }) => ({ ...manifest, folder })));
  for (const { manifest, folder } of known) {
    const { id, dim, architecture, heads, weights, description, notice } = manifest;
    const what = `${dim} wide, ${architecture.maxTokens} tokens, ${Object.keys(heads).join(" + ")}, ${Object.keys(weights).join(" ")}`;
    printLine(`${id.padEnd(22)} ${what}`);
    for (const line of [description, notice === null ? "" : `Note: ${notice}.`])
      if (line !== "") printLine(`    ${line}`);
    if (folder === null) printLine(`    It is not on this machine; fetch it with: embedfleet models pull ${id}`);
  }
  printLine();
  printLine("Others that people use, by: embedfleet models pull OWNER/NAME (any repository of the hub):");
  for (const each of KNOWN_REPOSITORIES) {
    printLine(`${each.repository.padEnd(44)} ${each.dim} wide, ${each.maxTokens} tokens, dense`);
    printLine(`    ${each.goodFor[0]!.toUpperCase()}${each.goodFor.slice(1)}. ${HOW_ITS_GRAPH_IS_HAD[each.graph]}`);
  }
  printLine();
  printLine("Which precision and device (docs/models.md):");
  for (const [purpose, choice] of GUIDANCE) printLine(`  ${purpose.padEnd(20)} ${choice}`);
}

export async function pull(name: string, settings: PullCommand): Promise<void> {
  const repository = repositoryName(name);
  if (repository !== null) return pullAny(repository, settings);
  await withCloser(async (closer) => {
    const log = loggerOf(settings);
    const known = knownManifest(name);
    const source = await sourceOf(known, settings, closer);
    const progress = startProgress(`pulling ${known.id}`, "MB");
    const pulled = await pullModel({
      manifest: known,
      source,
      modelsFolder: settings.models,
      onProgress: (_, bytes, total) => progress.update(Math.floor(bytes / 1e6), Math.ceil((total ?? bytes) / 1e6)),
      onRetry: (path, reason) => log.warn({ path, reason }, "a download was interrupted and is retried"),
    }).finally(() => progress.stop());
    const { folder, manifest, files } = pulled;
    if (settings.json) return printJson({ model: manifest.id, revision: manifest.revision, folder, files });
    for (const file of files) printLine(describePulled(file));
    printLine(`model ${manifest.id} is in ${folder}`);
  });
}

/** Pulls a repository that no bundled manifest names. */
async function pullAny(named: RepositoryName, settings: PullCommand): Promise<void> {
  await withCloser(async (closer) => {
    const log = loggerOf(settings);
    const source = await hubSource({ hub: named.repository, revision: named.revision }, settings, closer);
    const progress = startProgress(`pulling ${named.repository}`, "MB");
    const { folder, manifest, files } = await pullRepository({
      ...named,
      source,
      modelsFolder: settings.models,
      precisions: settings.precisions ?? [],
      onProgress: (_, bytes, total) => progress.update(Math.floor(bytes / 1e6), Math.ceil((total ?? bytes) / 1e6)),
      onRetry: (path, reason) => log.warn({ path, reason }, "a download was interrupted and is retried"),
    }).finally(() => progress.stop());
    const model =
      manifest === null ? { model: null, revision: null } : { model: manifest.id, revision: manifest.revision };
    if (settings.json) return printJson({ ...model, folder, files });
    for (const file of files) printLine(describePulled(file));
    if (manifest !== null) return printLine(`use it with --model ${folder}`);
    printLine("The repository has no ONNX graph; its PyTorch weights were pulled. Export them with:");
    printLine(`    embedfleet models export ${folder} --into ./${named.repository.split("/")[1]}`);
  });
}

/** Writes the manifest that a folder's files describe. */
export async function add(folder: string, settings: AddModelCommand): Promise<void> {
  const file = await addManifest(folder);
  if (settings.json) return printJson({ folder, manifest: file });
  printLine(`wrote ${file}; edit it where the model's card says otherwise, and use it with --model ${folder}`);
}

function describePulled({ path, bytes, sha256, digest, isNew }: PulledFile): string {
  const because = {
    manifest: "matches embedfleet's manifest",
    source: "matches its source",
    recorded: "not known before; recorded for later checks",
  };
  const what = `${path}, ${megabytes(bytes)}, sha256 ${sha256.slice(0, 16)}… ${because[digest]}`;
  return isNew ? what : `${what} (already present)`;
}

async function sourceOf(
  { id, hub, revision }: ModelManifest,
  settings: PullCommand,
  closer: Closer,
): Promise<ModelSource> {
  if (hub === null) {
    throw new FleetError("bad_usage", `model ${id} is bundled with embedfleet`, {
      cure: `use it directly: --model ${id}`,
    });
  }
  return hubSource({ hub, revision }, settings, closer);
}

async function hubSource(
  { hub, revision }: Readonly<{ hub: string; revision: string }>,
  settings: PullCommand,
  closer: Closer,
): Promise<ModelSource> {
  if (settings.from === undefined)
    return new HubSource({ endpoint: settings.hub, repository: hub, revision, token: hubToken() });
  const s3 = { endpoint: settings.s3Endpoint, region: settings.s3Region };
  return new MirrorSource(closer.add(await openStore(settings.from, { s3 })));
}
