/** From a model that was found to one that can be loaded: a precision chosen, its files held to their digests. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readFile, rename, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type ModelRef, type Precision, precisionSchema } from "../src/core/contracts.ts";
import { FleetError, messageOf } from "../src/core/errors.ts";
import type { ModelFile, ModelManifest } from "./manifest.ts";
import type { FoundModel } from "./registry.ts";

export interface Model extends FoundModel {
  readonly precision: Precision;
  /** The ONNX graph; its external data lie where it names them. */
  readonly weightsPath: string;
  readonly tokenizerPath: string;
  readonly ref: ModelRef;
}

/** Of the weights; `auto` is the most exact that the model has. */
export type PrecisionChoice = Precision | "auto";

/** Smaller files are hashed at every start, which costs nothing; the digests of larger ones are kept beside them. */
const KEEP_DIGEST_BYTES = 64 * 1024 * 1024;
const DIGESTS_FILE = ".digests.json";

/**
 * Holds every file of the model at this precision to its size and digest, so that a run never starts on
 * a damaged one. Where the manifest has no digest, what is there counts, and the run's record keeps it.
 *
 * @throws FleetError `bad_usage` when it is not there at this precision; `model_invalid`
 */
export async function openModel(
  found: FoundModel,
  params: Readonly<{ precision: PrecisionChoice }> = { precision: "auto" },
): Promise<Model> {
  const { manifest, folder } = found;
  const precision = choosePrecision(manifest, params.precision);
  const weights = weightsOf(manifest, precision);
  const digests = new Digests(folder);
  const hashed = [];
  for (const file of [...weights, manifest.tokenizer])
    hashed.push(await checkFile({ manifest, folder, file, digests }));
  await digests.keep();
  return {
    manifest,
    folder,
    precision,
    weightsPath: join(folder, weights[0]!.path),
    tokenizerPath: join(folder, manifest.tokenizer.path),
    ref: {
      id: manifest.id,
      revision: manifest.revision,
      sha256: digestOfAll(hashed.slice(0, weights.length)),
      dim: manifest.dim,
      maxTokens: manifest.architecture.maxTokens,
    },
  };
}

/** `auto` is the most exact of those there are. */
function choosePrecision({ id, weights }: ModelManifest, choice: PrecisionChoice): Precision {
  const there = precisionSchema.options.filter((precision) => weights[precision] !== undefined);
  if (choice === "auto") return there[0]!;
  if (there.includes(choice)) return choice;
  throw new FleetError("bad_usage", `model ${id} has no ${choice} weights`, {
    cure: `use --precision ${there.join(" or ")}, or export it: see docs/models.md`,
  });
}

/** Every file that decides what the vectors are; the first is the graph. */
export function weightsOf(manifest: ModelManifest, precision: Precision): ModelFile[] {
  const linears = [manifest.heads.sparse, manifest.heads.colbert].flatMap((head) =>
    head?.finished === false ? [head.linear] : [],
  );
  return [...(manifest.weights[precision] ?? []), ...linears];
}

interface HashedFile {
  readonly path: string;
  readonly sha256: string;
}

async function checkFile(
  params: Readonly<{ manifest: ModelManifest; folder: string; file: ModelFile; digests: Digests }>,
): Promise<HashedFile> {
  const { manifest, folder, file, digests } = params;
  const found = await digests.of(file.path).catch((error: unknown) => {
    throw new FleetError(
      "model_invalid",
      `model ${manifest.id} lacks its file ${join(folder, file.path)}: ${messageOf(error)}`,
      {
        cure: cureFor(manifest),
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
  return { path: file.path, sha256 };
}

function cureFor({ id, hub }: ModelManifest): string {
  return hub === null ? "install the model again" : `embedfleet models pull ${id}`;
}

/** One file stands for itself; several for the list of them. */
function digestOfAll(files: readonly HashedFile[]): string {
  if (files.length === 1) return files[0]!.sha256;
  const lines = files.map(({ path, sha256 }) => `${sha256}  ${path}\n`).sort();
  return createHash("sha256").update(lines.join("")).digest("hex");
}

interface Digest {
  readonly bytes: number;
  readonly sha256: string;
}

/** Sizes and digests of a folder's files; a large file is read again only when it was written to. */
class Digests {
  readonly #folder: string;
  #kept: Promise<Record<string, Digest & { readonly mtimeMs: number; readonly ctimeMs: number }>>;
  #isNew = false;

  constructor(folder: string) {
    this.#folder = folder;
    this.#kept = readFile(join(folder, DIGESTS_FILE), "utf8").then(JSON.parse, () => ({}));
  }

  async of(path: string): Promise<Digest> {
    const { size, mtimeMs, ctimeMs } = await stat(join(this.#folder, path));
    const kept = (await this.#kept)[path];
    if (kept !== undefined && kept.bytes === size && kept.mtimeMs === mtimeMs && kept.ctimeMs === ctimeMs) return kept;
    const digest = { bytes: size, sha256: await sha256Of(join(this.#folder, path)) };
    if (size >= KEEP_DIGEST_BYTES) {
      (await this.#kept)[path] = { ...digest, mtimeMs, ctimeMs };
      this.#isNew = true;
    }
    return digest;
  }

  /** A folder that cannot be written to, a mounted image's, is hashed again each time. */
  async keep(): Promise<void> {
    if (!this.#isNew) return;
    const file = join(this.#folder, DIGESTS_FILE);
    const temporary = `${file}.${process.pid}`;
    await writeFile(temporary, JSON.stringify(await this.#kept))
      .then(() => rename(temporary, file))
      .catch(() => {});
  }
}

export async function sha256Of(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 1024 * 1024 })) hash.update(chunk as Buffer);
  return hash.digest("hex");
}
