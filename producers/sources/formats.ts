/** Determines an object's format: from the setting, else its first bytes, else its name. */
import type { Format } from "../../src/core/selection.ts";

export type KnownFormat = Exclude<Format, "auto">;

/** The last two are not decoded, and are named as what they are. */
const COMPRESSED = /\.(?:gz|gzip|zst|zstd|bz2|xz)$/i;
const BY_EXTENSION: Readonly<Record<string, KnownFormat | undefined>> = {
  ".jsonl": "jsonl",
  ".ndjson": "jsonl",
  // Also where each line is an object, as in C4 and Dolma: its reader finds out.
  ".json": "json",
  ".csv": "csv",
  ".tsv": "tsv",
  ".parquet": "parquet",
  ".pq": "parquet",
  ".arrow": "arrow",
  ".arrows": "arrow",
  ".feather": "arrow",
  ".ipc": "arrow",
  ".txt": "text",
  ".md": "text",
  ".markdown": "text",
  ".html": "html",
  ".htm": "html",
  ".warc": "warc",
  ".wet": "warc",
};
export const KNOWN_NAMES = `${Object.keys(BY_EXTENSION).join(", ")}, each also .gz or .zst`;
const MAGIC: Readonly<Record<string, KnownFormat>> = {
  PAR1: "parquet",
  // Encrypted, which its reader says.
  PARE: "parquet",
  ARROW1: "arrow",
  // Continuation marker of a stream.
  "\xff\xff\xff\xff": "arrow",
};

/** The format by name; null when the name does not determine it. */
export function formatByName(name: string): KnownFormat | null {
  return BY_EXTENSION[extensionOf(name).toLowerCase()] ?? null;
}

/** Names that other programs give to files beside their data: Spark, Hive, Hadoop, Dask, Databricks. */
const MARKERS: readonly (readonly [RegExp, string])[] = [
  [/^_(?:SUCCESS|metadata|common_metadata)$/, "$&"],
  [/^_committed_/, "_committed_*"],
  [/^_started_/, "_started_*"],
  [/_\$folder\$$/, "*_$folder$"],
  [/\.crc$/i, ".crc"],
];
/** Folders of other programs that hold no rows, or rows that were never committed or are there twice. */
const FOLDERS = /^(?:_temporary|_tmp\..*|_spark_metadata|_delta_log|_delta_index|_change_data|__MACOSX)$/;

/**
 * Why a file or folder of this name is passed over wherever it is found, as in `hidden file`; null if it is not.
 * Nothing below such a folder is read.
 */
export function passedByName(name: string, kind: "file" | "folder"): string | null {
  if (name.startsWith(".")) return `hidden ${kind}`;
  if (kind === "folder") return FOLDERS.test(name) ? `${name}/` : null;
  const marker = MARKERS.find(([pattern]) => pattern.test(name));
  return marker === undefined ? null : marker[1] === "$&" ? name : marker[1];
}

/** Why a path below an input is passed over because of one of its names; null if it is not. */
export function passedByPath(path: string): string | null {
  const names = path.split("/");
  const file = names.pop()!;
  const folder = names.map((name) => passedByName(name, "folder")).find((found) => found !== null);
  // Of a bucket, which has no folders, each object is counted.
  if (folder !== undefined) return folder === "hidden folder" ? "hidden file" : folder;
  return passedByName(file, "file");
}

/**
 * Why a file found in a folder or below a prefix is passed over, as in `.pdf`; null when it is read. With a given format,
 * files whose names indicate another are passed over; names without an extension (`part-00000`) are then taken.
 */
export function passedAs(path: string, format: Format): string | null {
  const marker = passedByPath(path);
  if (marker !== null) return marker;
  const byName = formatByName(path);
  const isTaken = format === "auto" ? byName !== null : byName === format || (byName === null && isBare(path));
  if (isTaken) return null;
  return shownExtension(path) || "file without an extension";
}

/** True if a file found in a folder or below a prefix is read. */
export function isWanted(path: string, format: Format): boolean {
  return passedAs(path, format) === null;
}

function isBare(path: string): boolean {
  return extensionOf(path) === "" && !path.slice(path.lastIndexOf("/") + 1).startsWith("_");
}

/** The last extension in lower case, such as `.gz` or `.pdf`; names can be of any length. */
function shownExtension(path: string): string {
  const extension = extensionOf(path).toLowerCase();
  return extension.length <= 16 ? extension : "unknown extension";
}

/** The extension, such as `.jsonl` of `a/b.jsonl.gz`; empty when there is none. */
function extensionOf(path: string): string {
  const name = path.slice(path.lastIndexOf("/") + 1).replace(COMPRESSED, "");
  const dot = name.lastIndexOf(".");
  return dot <= 0 ? "" : name.slice(dot);
}

/** @param head The object's first bytes, not decompressed. */
export function formatByMagic(head: Buffer): KnownFormat | null {
  const bytes = head.toString("latin1");
  return Object.entries(MAGIC).find(([magic]) => bytes.startsWith(magic))?.[1] ?? null;
}

/** @param text The first characters, decoded, of an object whose name does not determine the format. */
export function formatByText(text: string): KnownFormat | null {
  if (/^WARC\/[01]\.\d/.test(text)) return "warc";
  if (/^\s*<(?:!doctype\s+html|html)\b/i.test(text)) return "html";
  // An array, or an object that goes on after its first line, is none of the lines of JSONL.
  if (/^\s*(?:\[|\{\s*\n)/.test(text)) return "json";
  return /^\s*(?:\{|$)/.test(text) ? "jsonl" : null;
}
