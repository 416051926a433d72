/**
 * Downloads any repository of the hub by the rules of its layout: what `modules.json` names, the tokenizer, and the
 * graph of each wanted precision with its external data. The manifest that the files describe is written last.
 */
import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import type { Precision } from "../../src/core/contracts.ts";
import { FleetError, messageOf } from "../../src/core/errors.ts";
import { namedFilesOf } from "../graph/graph-files.ts";
import { describeFolder } from "./hub-folder.ts";
import { readText } from "./plain-file.ts";
import {
  type FileParams,
  MissingFile,
  oneRevision,
  type Pulled,
  type PulledFile,
  pullFile,
  replaceFile,
  takeLock,
  withDigests,
} from "./pull.ts";

/** A repository of the hub at a revision. */
export interface RepositoryName {
  /** `OWNER/NAME` */
  readonly repository: string;
  /** A commit, tag or branch. */
  readonly revision: string;
}

export interface RepositoryParams
  extends RepositoryName, Pick<FileParams, "source" | "onProgress" | "onRetry" | "backoffMs"> {
  readonly modelsFolder: string;
  /** Precisions whose graphs are wanted; empty for the most precise that there is. */
  readonly precisions: readonly Precision[];
}

/** What came: a model that can be used, or the PyTorch files of one that must be exported first. */
export type PulledRepository = Pulled | (Omit<Pulled, "manifest"> & { readonly manifest: null });

const NAME = /^(?<repository>[\w.-]+\/[\w.-]+)(?:@(?<revision>[A-Za-z0-9_][\w./-]*))?$/;

/** Reads `OWNER/NAME` or `OWNER/NAME@revision`; null for any other text. */
export function repositoryName(text: string): RepositoryName | null {
  const found = NAME.exec(text)?.groups;
  if (found === undefined || found["repository"]!.split("/").some((part) => /^\.+$/.test(part))) return null;
  return { repository: found["repository"]!, revision: found["revision"] ?? "main" };
}

/** Files beside the encoder's weights; only the first is in every repository. */
const ENCODER_FILES = [
  "config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  ...["bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet"].map(
    (kind) => `sentence_${kind}_config.json`,
  ),
];
/** What a tokenizer is made of where it has no tokenizer.json. */
const TOKENIZER_FILES = [
  "vocab.txt",
  "vocab.json",
  "merges.txt",
  "sentencepiece.bpe.model",
  "spiece.model",
  "tokenizer.model",
];
const PYTORCH_FILES = ["model.safetensors", "pytorch_model.bin"];
const LINEARS = ["sparse_linear.pt", "colbert_linear.pt"];
/** Names that exporters give to a graph, by precision, the most precise first. */
const GRAPHS: readonly (readonly [Precision, readonly string[]])[] = [
  ["fp32", ["model.onnx"]],
  ["fp16", ["model_fp16.onnx"]],
  ["int8", ["model_int8.onnx", "model_quantized.onnx"]],
];

const modulesSchema = z.array(z.object({ type: z.string(), path: z.string().default("") })).min(1);

/**
 * Idempotent: files that are present and sound are kept.
 * @throws FleetError `model_unavailable`, `model_invalid`
 */
export async function pullRepository(params: RepositoryParams): Promise<PulledRepository> {
  const { repository, revision, modelsFolder } = params;
  const commit = await commitOf(params);
  const folder = join(modelsFolder, repository.replace("/", "--"), commit.replaceAll("/", "-"));
  await mkdir(folder, { recursive: true });
  const release = await takeLock(folder);
  try {
    const pull = new Puller(params, folder);
    const encoder = await pullConfigs(pull, folder);
    const graphs = await pullGraphs(pull, folder, params.precisions);
    if (graphs === 0) await pullPyTorch(pull, encoder);
    oneRevision(pull.revisions, `${repository}@${revision}`);
    const { files } = pull;
    if (graphs === 0) return { folder, files, manifest: null };
    const described = { ...describeFolder(folder), id: repository.split("/")[1]!.slice(0, 64), hub: repository };
    const manifest = withDigests({ ...described, revision: commit.replaceAll("/", "-") }, files);
    await replaceFile(join(folder, "manifest.json"), `${JSON.stringify(manifest, null, 2)}\n`);
    return { folder, manifest, files };
  } finally {
    await release();
  }
}

/** The commit that the revision is at now, which names the folder; the revision itself where the source names none. */
async function commitOf({ source, revision }: RepositoryParams): Promise<string> {
  const opened = await source.open({ path: "config.json", start: 0 }).catch((error: unknown) => {
    if (!(error instanceof MissingFile)) throw error;
    // Its Transformer may be in a folder of its own.
    return source.open({ path: "modules.json", start: 0 });
  });
  await opened.close();
  return opened.revision ?? revision;
}

/** Pulls files one after the other and keeps account of them. */
class Puller {
  readonly files: PulledFile[] = [];
  readonly revisions = new Set<string>();
  readonly #params: Omit<FileParams, "file">;

  constructor(params: RepositoryParams, folder: string) {
    const { source, onProgress, onRetry, backoffMs } = params;
    this.#params = {
      source,
      folder,
      revisions: this.revisions,
      ...(onProgress !== undefined && { onProgress }),
      ...(onRetry !== undefined && { onRetry }),
      ...(backoffMs !== undefined && { backoffMs }),
    };
  }

  async file(path: string): Promise<void> {
    this.files.push(await pullFile({ ...this.#params, file: { path } }));
  }

  /** @returns Whether the source has the file. */
  async optional(path: string): Promise<boolean> {
    try {
      await this.file(path);
      return true;
    } catch (error) {
      if (error instanceof MissingFile) return false;
      throw error;
    }
  }

  /** Pulls the first of these files that the source has. */
  async first(paths: readonly string[]): Promise<string | undefined> {
    for (const path of paths) if (await this.optional(path)) return path;
    return undefined;
  }
}

/** Everything that is small. @returns The encoder's path: empty, or a folder's name with a slash. */
async function pullConfigs(pull: Puller, folder: string): Promise<string> {
  const modules = (await pull.optional("modules.json")) ? readModules(join(folder, "modules.json")) : [];
  const encoder = asFolder(modules[0]?.path ?? "");
  const [config, ...others] = ENCODER_FILES;
  await pull.file(`${encoder}${config}`);
  for (const name of others) await pull.optional(`${encoder}${name}`);
  await pull.optional("config_sentence_transformers.json");
  const after = modules.length > 0 ? modules.slice(1).map(({ path }) => asFolder(path)) : ["1_Pooling/"];
  for (const path of after) {
    await pull.optional(`${path}config.json`);
    await pull.first(PYTORCH_FILES.map((name) => `${path}${name}`));
  }
  for (const name of LINEARS) await pull.optional(name);
  return encoder;
}

function readModules(file: string): z.infer<typeof modulesSchema> {
  try {
    const modules = modulesSchema.parse(JSON.parse(readText(file)));
    const outside = modules.find(({ path }) => path.startsWith("/") || path.split(/[/\\]/).includes(".."));
    if (outside === undefined) return modules;
    throw new Error(`the path ${JSON.stringify(outside.path)} leads out of the repository`);
  } catch (error) {
    throw new FleetError("model_invalid", `${file} cannot be used: ${messageOf(error)}`, {
      cure: "the repository is in no layout of sentence-transformers: choose another, or write a manifest.json",
      cause: error,
    });
  }
}

function asFolder(path: string): string {
  return path === "" || path === "." ? "" : `${path.replace(/\/$/, "")}/`;
}

/** The graphs of the precisions and their external data. @returns How many there are. */
async function pullGraphs(pull: Puller, folder: string, precisions: readonly Precision[]): Promise<number> {
  let count = 0;
  for (const [precision, names] of GRAPHS) {
    const isWanted = precisions.length === 0 ? count === 0 : precisions.includes(precision);
    if (!isWanted) continue;
    const graph = await pull.first(names.flatMap((name) => [`onnx/${name}`, name]));
    if (graph === undefined) {
      if (precisions.length > 0) throw lacks(folder, precision, names);
      continue;
    }
    count++;
    for (const path of namedFilesOf(folder, graph)) await pull.file(path);
  }
  return count;
}

function lacks(folder: string, precision: Precision, names: readonly string[]): FleetError {
  return new FleetError(
    "model_unavailable",
    `the repository of ${folder} has no ${precision} graph: ${names.join(", ")}`,
    {
      cure: "pull another precision, or export its PyTorch files: see docs/export.md",
    },
  );
}

/** What `models export` reads. */
async function pullPyTorch(pull: Puller, encoder: string): Promise<void> {
  const whole = await pull.first(PYTORCH_FILES.map((name) => `${encoder}${name}`));
  const hasTokenizer = pull.files.some(({ path }) => path === `${encoder}tokenizer.json`);
  for (const name of hasTokenizer ? [] : TOKENIZER_FILES) await pull.optional(`${encoder}${name}`);
  if (whole !== undefined) return;
  throw new FleetError(
    "model_unavailable",
    `the repository has neither an ONNX graph nor ${PYTORCH_FILES.join(" or ")}`,
    {
      cure: "choose a repository with onnx/model.onnx or with PyTorch weights in one file",
    },
  );
}

/** Describes a folder of the hub's layout, for people to edit. @throws FleetError `bad_usage` when it has a manifest. */
export async function addManifest(folder: string): Promise<string> {
  const file = join(folder, "manifest.json");
  if (existsSync(file)) {
    throw new FleetError("bad_usage", `${file} exists, and may have been edited`, {
      cure: "edit it, or remove it to derive it again",
    });
  }
  await replaceFile(file, `${JSON.stringify(describeFolder(folder), null, 2)}\n`);
  return file;
}
