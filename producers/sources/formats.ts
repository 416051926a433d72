/** Determines an object's format: from the setting, else its first bytes, else its name. */
import type { Format } from "../../src/core/selection.ts";

export type KnownFormat = Exclude<Format, "auto">;

const COMPRESSED = /\.(?:gz|gzip|zst|zstd)$/i;
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
};
export const KNOWN_NAMES = `${Object.keys(BY_EXTENSION).join(", ")}, each also .gz or .zst`;
const MAGIC: Readonly<Record<string, KnownFormat>> = {
  PAR1: "parquet",
  ARROW1: "arrow",
  // Continuation marker of a stream.
  "\xff\xff\xff\xff": "arrow",
};

/** The format by name; null when the name does not determine it. */
export function formatByName(name: string): KnownFormat | null {
  return BY_EXTENSION[extensionOf(name).toLowerCase()] ?? null;
}

/**
 * True if a file found in a folder or below a prefix is read. With a given format, files whose names indicate another
 * are skipped; names without an extension (`part-00000`) are taken, unless they are markers like `_SUCCESS`.
 */
export function isWanted(path: string, format: Format): boolean {
  const byName = formatByName(path);
  if (format === "auto") return byName !== null;
  if (byName !== null) return byName === format;
  const name = path.slice(path.lastIndexOf("/") + 1);
  return extensionOf(name) === "" && !name.startsWith("_");
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
  if (/^\s*<(?:!doctype\s+html|html)\b/i.test(text)) return "html";
  // An array, or an object that goes on after its first line, is none of the lines of JSONL.
  if (/^\s*(?:\[|\{\s*\n)/.test(text)) return "json";
  return /^\s*(?:\{|$)/.test(text) ? "jsonl" : null;
}
