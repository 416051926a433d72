/** Models by name (a manifest shipped with embedfleet) or by path (a folder with a manifest.json). */
import { createHash } from "node:crypto";
import { createReadStream, existsSync, readdirSync, readFileSync } from "node:fs";
import { stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import type { Head, ModelRef } from "../src/core/contracts.ts";
import { FleetError, messageOf } from "../src/core/errors.ts";
import { type ModelFile, type ModelManifest, modelManifestSchema } from "./manifest.ts";

export interface Model {
  readonly manifest: ModelManifest;
  readonly folder: string;
  readonly weightsPath: string;
  readonly tokenizerPath: string;
  readonly ref: ModelRef;
}

/** @throws FleetError `model_unknown`, `model_invalid` */
export function findModel(nameOrPath: string): Model {
  const isPath = /[/\\]/.test(nameOrPath) || existsSync(join(nameOrPath, "manifest.json"));
  const file = isPath ? resolve(nameOrPath, "manifest.json") : join(manifestsFolder(), `${basename(nameOrPath)}.json`);
  if (!existsSync(file)) {
    throw new FleetError(
      "model_unknown",
      isPath
        ? `there is no model at ${nameOrPath}: ${file} does not exist`
        : `there is no model named ${JSON.stringify(nameOrPath)}`,
      {
        cure: `choose one of: ${listModels()
          .map((model) => model.manifest.id)
          .join(", ")}; or give the path of a folder with a manifest.json`,
      },
    );
  }
  return readModel(file);
}

export function listModels(): Model[] {
  return readdirSync(manifestsFolder())
    .filter((name) => name.endsWith(".json"))
    .sort()
    .map((name) => readModel(join(manifestsFolder(), name)));
}

/**
 * Reads the files whole and compares sizes and digests, so that a run never starts on a damaged model.
 * @throws FleetError `model_invalid`
 */
export async function verifyModelFiles(model: Model): Promise<void> {
  const { tokenizer, id } = model.manifest;
  for (const expected of [...weightsOf(model.manifest), tokenizer]) {
    const path = join(model.folder, expected.path);
    const found = await describeFile(path).catch((error: unknown) => {
      throw new FleetError("model_invalid", `model ${id} lacks its file ${path}: ${messageOf(error)}`, {
        cure: "install the model again",
        cause: error,
      });
    });
    const { bytes = found.bytes, sha256 = found.sha256 } = expected;
    if (found.bytes !== bytes || found.sha256 !== sha256) {
      throw new FleetError(
        "model_invalid",
        `${path} of model ${id} is ${found.bytes} bytes with sha256 ${found.sha256}; its manifest says ${bytes} bytes, ${sha256}`,
        { cure: "the file is damaged or of another revision: install the model again" },
      );
    }
  }
}

/** @throws FleetError `bad_usage` when the model cannot do what is asked of it. */
export function assertModelCan(model: Model, asked: Readonly<{ heads: readonly Head[]; maxTokens: number }>): void {
  const { id, heads, architecture } = model.manifest;
  const { maxTokens } = architecture;
  const missing = asked.heads.filter((head) => heads[head] === undefined);
  if (missing.length > 0) {
    throw new FleetError("bad_usage", `model ${id} has no ${missing.join(" and no ")} head`, {
      cure: `ask for --heads ${Object.keys(heads).join(",")}`,
    });
  }
  if (asked.maxTokens > maxTokens) {
    throw new FleetError("bad_usage", `--max-tokens ${asked.maxTokens} is more than model ${id} can take`, {
      cure: `use at most ${maxTokens}`,
    });
  }
}

function readModel(file: string): Model {
  const manifest = parseManifest(file);
  const folder = resolve(dirname(file), manifest.folder ?? ".");
  const weights = weightsOf(manifest);
  return {
    manifest,
    folder,
    weightsPath: join(folder, weights[0]!.path),
    tokenizerPath: join(folder, manifest.tokenizer.path),
    ref: {
      id: manifest.id,
      revision: manifest.revision,
      sha256: weights[0]!.sha256!,
      dim: manifest.dim,
      maxTokens: manifest.architecture.maxTokens,
    },
  };
}

function weightsOf({ id, weights, heads }: ModelManifest): readonly ModelFile[] {
  const unfinished = Object.values(heads).filter((head) => head?.finished === false);
  if (unfinished.length > 0)
    throw new FleetError("model_invalid", `model ${id} has heads that its graph does not finish`);
  const files = weights.fp32;
  if (files?.length === 1 && files[0]!.sha256 !== undefined) return files;
  throw new FleetError("model_invalid", `model ${id} has no fp32 weights in one file of known digest`);
}

function parseManifest(file: string): ModelManifest {
  try {
    return modelManifestSchema.parse(JSON.parse(readFileSync(file, "utf8")));
  } catch (error) {
    throw new FleetError("model_invalid", `the model manifest ${file} is not valid: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/** Manifests and the embedded model's files are data beside the sources, so `dist/` looks back at them. */
function manifestsFolder(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, "package.json"))) folder = dirname(folder);
  return join(folder, "models", "manifests");
}

async function describeFile(path: string): Promise<{ bytes: number; sha256: string }> {
  const { size } = await stat(path);
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return { bytes: size, sha256: hash.digest("hex") };
}
