/** Opens a model that was found: chooses a precision and checks its files against their digests. */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { type ModelRef, type Precision, precisionSchema } from "../../src/core/contracts.ts";
import { FleetError, messageOf } from "../../src/core/errors.ts";
import { DigestCache, type FileDigest } from "./digest-cache.ts";
import { assertListed, readSignature, UnreadableGraph } from "../graph/graph-files.ts";
import { modulesGraph } from "../layers/layer-graphs.ts";
import { assertSignature } from "./check-signature.ts";
import { isOnnx, type ModelFile, type ModelManifest, type OnnxManifest } from "./manifest.ts";
import type { PinnedFile } from "./pinned-files.ts";
import type { FoundModel } from "./registry.ts";
import { setupSha256 } from "./setup-digest.ts";

export interface Model extends FoundModel {
  readonly precision: Precision;
  /** The first weights file: for ONNX the graph, whose external data are at the paths it names. */
  readonly weightsPath: string;
  readonly tokenizerPath: string;
  /** The weights and the tokenizer as they were when hashed; each is checked for changes when it is loaded. */
  readonly files: readonly PinnedFile[];
  /** Digest of the fp32 weights for rows that this precision cannot compute; null where there are none. */
  readonly exactSha256: string | null;
  readonly ref: ModelRef;
}

/** Precision of the weights; `auto` is the most precise that the model has. */
export type PrecisionChoice = Precision | "auto";

/** Parameters of opening a model. */
export interface OpenModelParams {
  /** `auto` by default. */
  readonly precision?: PrecisionChoice;
  /** Folder in which digests of large files are cached; without it, the files are hashed at every start. */
  readonly cacheFolder?: string;
}

/**
 * Checks every file of the model at this precision against its size and digest, so that a run never starts on
 * a damaged one. Where the manifest has no digest, the file is accepted, and the run's record keeps its digest.
 *
 * @throws FleetError `bad_usage` when the model lacks this precision; `model_invalid`
 */
export async function openModel(found: FoundModel, params: OpenModelParams = {}): Promise<Model> {
  const { manifest, folder } = found;
  const precision = choosePrecision(manifest, params.precision ?? "auto");
  const weights = weightsOf(manifest, precision);
  const digests = new DigestCache(params.cacheFolder ?? null);
  const check = (file: ModelFile): Promise<HashedFile> => checkFile({ manifest, folder, file, digests });
  const hashed: HashedFile[] = [];
  for (const file of weights) hashed.push(await check(file));
  if (isOnnx(manifest)) assertUsable(manifest, folder, weights);
  const tokenizer = await check(manifest.tokenizer);
  const exactSha256 = await exactDigest(found, precision, check);
  return {
    manifest,
    folder,
    precision,
    weightsPath: join(folder, weights[0]!.path),
    tokenizerPath: join(folder, manifest.tokenizer.path),
    files: [...hashed, tokenizer].map(({ path, sha256, identity }) => ({ path: join(folder, path), sha256, identity })),
    exactSha256,
    ref: {
      id: manifest.id,
      revision: manifest.revision,
      sha256: digestOfAll(hashed),
      setupSha256: setupSha256(manifest, { tokenizer: tokenizer.sha256, exact: exactSha256 }),
      dim: manifest.dim,
      maxTokens: manifest.architecture.maxTokens,
    },
  };
}

/** The precision to use; `auto` is the most precise available. */
function choosePrecision({ id, weights }: ModelManifest, choice: PrecisionChoice): Precision {
  const there = precisionSchema.options.filter((precision) => weights[precision] !== undefined);
  if (choice === "auto") return there[0]!;
  if (there.includes(choice)) return choice;
  throw new FleetError("bad_usage", `model ${id} has no ${choice} weights`, {
    cure: `use --precision ${there.join(" or ")}, or export it: see docs/models.md`,
  });
}

/** Every file that determines the vectors; the first of an ONNX model is the graph. */
export function weightsOf(manifest: ModelManifest, precision: Precision): ModelFile[] {
  const weights = manifest.weights[precision] ?? [];
  if (!isOnnx(manifest)) return weights;
  const { dense, sparse, colbert } = manifest.heads;
  const modules = dense?.finished === false ? (dense.modules ?? []) : (dense?.from?.modules ?? []);
  const layers = modules.flatMap((module) => ("file" in module ? [module.file] : []));
  const linears = [sparse, colbert].flatMap((head) => (head?.finished === false ? [head.linear] : []));
  return [...weights, ...layers, ...linears];
}

/**
 * Refuses unlisted external data, and a graph or a module that does not fit the manifest. Planning needs no graph,
 * and a session refuses an unreadable one with the reason.
 */
function assertUsable(manifest: OnnxManifest, folder: string, weights: readonly ModelFile[]): void {
  const graph = weights[0]!.path;
  try {
    assertListed({ folder, graph, listed: weights.map(({ path }) => path) });
    assertSignature(manifest, join(folder, graph), readSignature(join(folder, graph)));
  } catch (error) {
    if (!(error instanceof UnreadableGraph)) throw error;
  }
  // Builds the graph of the modules, which reads and checks their files.
  modulesGraph(manifest, folder);
}

type HashedFile = FileDigest & Pick<ModelFile, "path">;

/**
 * Digest of the fp32 weights. Files with a digest in the manifest are checked when they are loaded; those without one
 * are hashed now. If a file is missing, rows that this precision cannot compute are not recomputed.
 */
async function exactDigest(
  { manifest, folder }: FoundModel,
  precision: Precision,
  check: (file: ModelFile) => Promise<HashedFile>,
): Promise<string | null> {
  if (precision === "fp32" || manifest.weights.fp32 === undefined) return null;
  const listed = weightsOf(manifest, "fp32");
  if (listed.some(({ path, sha256 }) => sha256 === undefined && !existsSync(join(folder, path)))) return null;
  const files = [];
  for (const file of listed) files.push({ path: file.path, sha256: file.sha256 ?? (await check(file)).sha256 });
  return digestOfAll(files);
}

async function checkFile(
  params: Readonly<{ manifest: ModelManifest; folder: string; file: ModelFile; digests: DigestCache }>,
): Promise<HashedFile> {
  const { manifest, folder, file, digests } = params;
  const found = await digests.of(join(folder, file.path)).catch((error: unknown) => {
    if (error instanceof FleetError) throw error;
    throw new FleetError(
      "model_invalid",
      `model ${manifest.id} lacks its file ${join(folder, file.path)}: ${messageOf(error)}`,
      {
        cure: file === manifest.tokenizer && manifest.hub === null ? NO_TOKENIZER : cureFor(manifest),
        cause: error,
      },
    );
  });
  const { bytes = found.bytes, sha256 = found.sha256 } = file;
  if (found.bytes !== bytes || found.sha256 !== sha256) {
    throw new FleetError(
      "model_invalid",
      `${join(folder, file.path)} of model ${manifest.id} is ${found.bytes} bytes with sha256 ${found.sha256}; its manifest says ${bytes} bytes, ${sha256}`,
      { cure: `the file is damaged or of another revision: ${cureFor(manifest)}` },
    );
  }
  return { ...found, path: file.path };
}

const NO_TOKENIZER =
  "save the tokenizer as tokenizer.json: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) of transformers";

function cureFor({ id, hub }: ModelManifest): string {
  return hub === null ? "install the model again" : `embedfleet models pull ${id}`;
}

/** The digest of one file is its own; that of several is the digest of their list. */
function digestOfAll(files: readonly Pick<HashedFile, "path" | "sha256">[]): string {
  if (files.length === 1) return files[0]!.sha256;
  const lines = files.map(({ path, sha256 }) => `${sha256}  ${path}\n`).sort();
  return createHash("sha256").update(lines.join("")).digest("hex");
}
