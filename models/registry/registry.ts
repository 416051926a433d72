/**
 * Finds models by name (a manifest bundled with embedfleet, its files bundled or pulled) or by path: a
 * folder with a `manifest.json`, or one in the layout of the Hugging Face hub.
 */
import { existsSync, readdirSync } from "node:fs";
import { basename, dirname, join, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";
import type { Head } from "../../src/core/contracts.ts";
import { readText } from "./plain-file.ts";
import { FleetError, messageOf } from "../../src/core/errors.ts";
import { describeFolder } from "./hub-folder.ts";
import { knownRepository } from "./known-repositories.ts";
import { type ModelManifest, modelManifestSchema } from "./manifest.ts";

/** A model that was found; its files are not checked before `openModel`. */
export interface FoundModel {
  readonly manifest: ModelManifest;
  readonly folder: string;
  /** True for a folder in the hub's layout: its manifest says no more than its configuration does. */
  readonly isDerived?: boolean;
}

/**
 * A model on this machine, by name or by the path of its folder. A name that is both is the known model's; see
 * `namesake`.
 *
 * @param params.modelsFolder Folder of pulled models, one subfolder each.
 * @throws FleetError `model_unknown`, `model_invalid`
 */
export function findModel(nameOrPath: string, params: Readonly<{ modelsFolder: string }>): FoundModel {
  const isPath = /[/\\]/.test(nameOrPath) || (!isKnown(nameOrPath) && isModelFolder(nameOrPath));
  if (isPath) return findFolder(resolve(nameOrPath));
  const manifest = knownManifest(nameOrPath);
  if (manifest.folder !== undefined) return { manifest, folder: resolve(manifestsFolder(), manifest.folder) };
  const pulled = pulledFolder(manifest, params.modelsFolder);
  if (existsSync(join(pulled, "manifest.json"))) return findFolder(pulled);
  throw new FleetError("model_unknown", `model ${manifest.id} is not on this machine: ${pulled} does not exist`, {
    cure: `embedfleet models pull ${manifest.id}`,
  });
}

/** Path of a model's folder here that a known model's name hides; null for none. */
export function namesake(nameOrPath: string): string | null {
  const isHidden = !/[/\\]/.test(nameOrPath) && isKnown(nameOrPath) && isModelFolder(nameOrPath);
  return isHidden ? `./${nameOrPath}` : null;
}

function isKnown(name: string): boolean {
  return existsSync(join(manifestsFolder(), `${basename(name)}.json`));
}

function isModelFolder(path: string): boolean {
  return ["manifest.json", "config.json", "modules.json"].some((name) => existsSync(join(path, name)));
}

/** A model that is known by name. */
export interface ListedModel {
  readonly manifest: ModelManifest;
  /** Null when its files must be pulled first. */
  readonly folder: string | null;
}

/** The models that are known by name. */
export function listModels(params: Readonly<{ modelsFolder: string }>): ListedModel[] {
  return namesOfModels().map((name) => {
    const manifest = readManifest(join(manifestsFolder(), `${name}.json`));
    if (manifest.folder !== undefined) return { manifest, folder: resolve(manifestsFolder(), manifest.folder) };
    const pulled = pulledFolder(manifest, params.modelsFolder);
    return { manifest, folder: existsSync(join(pulled, "manifest.json")) ? pulled : null };
  });
}

/** Folder that `models pull` writes a model to. Each revision has its own, so no running worker loses its files. */
export function pulledFolder({ id, revision }: ModelManifest, modelsFolder: string): string {
  return join(modelsFolder, id, revision);
}

/** A bundled manifest by name. @throws FleetError `model_unknown` */
export function knownManifest(name: string): ModelManifest {
  const file = join(manifestsFolder(), `${basename(name)}.json`);
  if (existsSync(file)) return readManifest(file);
  const known = knownRepository(name);
  throw new FleetError("model_unknown", `there is no model named ${JSON.stringify(name)}`, {
    cure:
      known !== undefined
        ? `embedfleet models pull ${known.repository}, then --model and its folder`
        : `choose one of: ${namesOfModels().join(", ")}; or pass the path of a model's folder`,
  });
}

/** @throws FleetError `bad_usage` when the model does not support what is asked for. */
export function assertModelCan(
  { manifest, isDerived = false }: FoundModel,
  asked: Readonly<{
    heads?: readonly Head[] | undefined;
    maxTokens?: number | undefined;
    dim?: number | undefined;
  }>,
): void {
  const { id, heads, architecture, dim, truncateDims = [] } = manifest;
  const missing = (asked.heads ?? []).filter((head) => heads[head] === undefined);
  if (missing.length > 0) {
    throw new FleetError("bad_usage", `model ${id} has no ${missing.join(" and no ")} head`, {
      cure: `ask for --heads ${Object.keys(heads).join(",")}`,
    });
  }
  if (asked.maxTokens !== undefined && asked.maxTokens > architecture.maxTokens) {
    throw new FleetError("bad_usage", `--max-tokens ${asked.maxTokens} is more than model ${id} supports`, {
      cure: `use at most ${architecture.maxTokens}`,
    });
  }
  if (asked.dim === undefined || asked.dim === dim) return;
  const maySayNothing = isDerived && manifest.truncateDims === undefined && asked.dim < dim;
  if (!truncateDims.includes(asked.dim) && !maySayNothing) {
    throw new FleetError("bad_usage", `--dim ${asked.dim}: the vectors of model ${id} mean nothing at that width`, {
      cure: `use ${[...truncateDims, dim].join(", ")}`,
    });
  }
  if (asked.heads?.includes("colbert") ?? heads.colbert !== undefined) {
    throw new FleetError("bad_usage", `--dim ${asked.dim} cuts dense vectors, and ColBERT vectors cannot be cut`, {
      cure: "leave colbert out of --heads",
    });
  }
}

/** Reads a manifest. @throws FleetError `model_unknown`, `model_invalid` */
export function readManifest(file: string): ModelManifest {
  try {
    return modelManifestSchema.parse(JSON.parse(readText(file)));
  } catch (error) {
    throw new FleetError("model_invalid", `the model manifest ${file} is not valid: ${messageOf(error)}`, {
      cure: "install or export the model again; models/registry/manifest.ts documents each field",
      cause: error,
    });
  }
}

function findFolder(path: string): FoundModel {
  const file = join(path, "manifest.json");
  if (existsSync(file)) {
    const manifest = readManifest(file);
    const folder = resolve(path, manifest.folder ?? ".");
    if (folder === path || folder.startsWith(path + sep)) return { manifest, folder };
    throw new FleetError("model_invalid", `${file} places its files in ${folder}, outside its own folder`, {
      cure: "put the model's files into the folder of its manifest.json",
    });
  }
  if (["config.json", "modules.json"].some((name) => existsSync(join(path, name))))
    return { manifest: describeFolder(path), folder: path, isDerived: true };
  throw new FleetError("model_unknown", `there is no model at ${path}: it has neither manifest.json nor config.json`, {
    cure: `choose one of: ${namesOfModels().join(", ")}; or pass the path of a model's folder`,
  });
}

function namesOfModels(): string[] {
  return readdirSync(manifestsFolder())
    .filter((name) => name.endsWith(".json"))
    .map((name) => name.slice(0, -".json".length))
    .sort();
}

/** Manifests, the embedded model and the exporter are data beside the sources, so `dist/` refers back to them. */
export function modelsFolder(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, "package.json"))) folder = dirname(folder);
  return join(folder, "models");
}

function manifestsFolder(): string {
  return join(modelsFolder(), "manifests");
}
