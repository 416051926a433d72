/** From what people type as a corpus to a stream of documents, always in the same order. */
import { constants } from "node:fs";
import { access, opendir, stat } from "node:fs/promises";
import { join, posix, sep } from "node:path";
import type { Readable } from "node:stream";
import { rejectAt, type SourceItem } from "../../src/core/documents.ts";
import { FleetError, messageOf } from "../../src/core/errors.ts";
import { type JsonlOptions, readJsonl } from "./jsonl.ts";
import { readTextFile } from "./text.ts";

export const STDIN = "-";
const JSONL_NAME = /\.(?:jsonl|ndjson)(?:\.gz)?$/i;
const TEXT_NAME = /\.(?:txt|md|markdown)$/i;
const KNOWN_NAMES = ".jsonl, .ndjson (also .gz), .txt, .md and .markdown";

export interface CorpusOptions extends JsonlOptions {
  readonly format: "auto" | "jsonl" | "text";
}

/**
 * Refuses what cannot work before anything is started.
 * @throws FleetError `bad_usage`, `source_unreadable`
 */
export async function assertInputs(inputs: readonly string[], format: CorpusOptions["format"]): Promise<void> {
  if (inputs.length === 0)
    throw new FleetError("bad_usage", "no corpus was named", {
      cure: "name files or folders, or - for standard input",
    });
  assertStandardInput(inputs, format);
  for (const input of inputs) {
    if (input === STDIN) continue;
    const info = await stat(input).catch((error: unknown) => {
      throw new FleetError("source_unreadable", `the corpus ${input} cannot be read: ${messageOf(error)}`, {
        cure: "check the path; a folder, a file or - for standard input is understood",
        cause: error,
      });
    });
    if (info.isDirectory()) continue;
    await access(input, constants.R_OK).catch((error: unknown) => {
      throw new FleetError("source_unreadable", `the corpus ${input} cannot be read: ${messageOf(error)}`, {
        cure: "check its permissions",
        cause: error,
      });
    });
    if (format === "auto" && kindByName(input) === null) {
      throw new FleetError("bad_usage", `the format of ${input} cannot be told from its name`, {
        cure: `${KNOWN_NAMES} are known; say --format jsonl or --format text`,
      });
    }
  }
}

function assertStandardInput(inputs: readonly string[], format: CorpusOptions["format"]): void {
  const times = inputs.filter((input) => input === STDIN).length;
  if (times > 1) throw new FleetError("bad_usage", "standard input is named twice", { cure: "name - once" });
  if (times === 1 && format === "text") {
    throw new FleetError("bad_usage", "standard input is read as JSONL, not as text", {
      cure: "name the text files or their folder",
    });
  }
}

export async function* readCorpus(
  params: Readonly<{ inputs: readonly string[]; stdin?: Readable }> & CorpusOptions,
): AsyncGenerator<SourceItem> {
  for (const input of params.inputs) {
    if (input === STDIN) yield* readJsonl({ stream: params.stdin ?? process.stdin, name: "standard input" }, params);
    else if (await isFolder(input)) yield* readFolder(input, params);
    else yield* readFile({ path: input, name: input, id: toPosix(input) }, params);
  }
}

type FileKind = "jsonl" | "text";

function kindByName(path: string): FileKind | null {
  if (JSONL_NAME.test(path)) return "jsonl";
  return TEXT_NAME.test(path) ? "text" : null;
}

async function* readFile(
  file: Readonly<{ path: string; name: string; id: string }>,
  options: CorpusOptions,
): AsyncGenerator<SourceItem> {
  const kind = options.format === "auto" ? kindByName(file.path) : options.format;
  if (kind === "jsonl") yield* readJsonl(file, options);
  else yield await readTextFile(file, options.maxDocumentBytes);
}

async function* readFolder(folder: string, options: CorpusOptions): AsyncGenerator<SourceItem> {
  for await (const found of walk(folder, "")) {
    if ("reject" in found) yield { kind: "reject", reject: found.reject };
    else if (isWanted(found.path, options.format)) {
      yield* readFile({ path: join(folder, found.path), name: join(folder, found.path), id: found.path }, options);
    }
  }
}

function isWanted(path: string, format: CorpusOptions["format"]): boolean {
  const kind = kindByName(path);
  return kind !== null && (format === "auto" || format === kind);
}

type Found = { readonly path: string } | { readonly reject: ReturnType<typeof rejectAt> };

/**
 * Files below a folder, POSIX paths relative to it, sorted by code unit; one folder's names in memory
 * at a time. Names that begin with a dot are passed over, and symbolic links are not followed: they
 * could lead in circles or out of the folder.
 */
async function* walk(root: string, below: string): AsyncGenerator<Found> {
  const entries: { name: string; isFolder: boolean }[] = [];
  try {
    for await (const entry of await opendir(join(root, below))) {
      if (entry.name.startsWith(".") || !(entry.isFile() || entry.isDirectory())) continue;
      entries.push({ name: entry.name, isFolder: entry.isDirectory() });
    }
  } catch (error) {
    yield { reject: rejectAt({ file: join(root, below) }, "unreadable", messageOf(error)) };
    return;
  }
  entries.sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const { name, isFolder } of entries) {
    const path = posix.join(below, name);
    if (isFolder) yield* walk(root, path);
    else yield { path };
  }
}

async function isFolder(path: string): Promise<boolean> {
  // One that vanished since it was checked is reported by whoever reads it.
  return stat(path).then(
    (info) => info.isDirectory(),
    () => false,
  );
}

function toPosix(path: string): string {
  return path.split(sep).join("/");
}
