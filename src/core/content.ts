/** Content equality of documents that were read under two sets of options. */
import { hash } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import type { RunOptions } from "./contracts.ts";
import type { Document } from "./documents.ts";
import { knownTo } from "./same-model.ts";

export const CONTENT_KEY_BYTES = 16;

/**
 * Options that define where documents and their fields are found, and which are selected. Their effect is compared
 * document by document; every other option, future ones included, is assumed to decide what a row or its vectors are.
 */
const READING_OPTIONS: ReadonlySet<string> = new Set([
  "idField",
  "textFields",
  "format",
  "delimiter",
  "quote",
  "escape",
  "columns",
  "generateId",
  "clean",
  "where",
  "sample",
  "limit",
  "maxDocumentBytes",
  "dedupe",
] satisfies (keyof RunOptions)[]);

/** SHA-256 (32 bytes) of a document's text and of any other content from its source; of the text alone when there is no other. */
export function contentHash(document: Document): Buffer {
  const { id: _, origin: __, text, ...carried } = document;
  // Via hexadecimal digits: Node's own buffer for each digest costs three times as much.
  const textHash = hash("sha256", text, "hex");
  if (Object.keys(carried).length === 0) return Buffer.from(textHash, "hex");
  return Buffer.from(hash("sha256", `${textHash} ${JSON.stringify(carried)}`, "hex"), "hex");
}

/**
 * One phrase for each option that makes rows of the two sets incomparable; empty when a run with the second set may
 * build on a run with the first.
 */
export function contentDifferences(base: RunOptions, wantedNow: RunOptions): string[] {
  const wanted = knownTo(base, wantedNow);
  const names = new Set([...Object.keys(base), ...Object.keys(wanted)]);
  return [...names]
    .filter((name) => !READING_OPTIONS.has(name))
    .flatMap((name) => differences(name, base[name as keyof RunOptions], wanted[name as keyof RunOptions]));
}

/** Differences of one option; the fields of the model are listed one by one. */
function differences(name: string, base: unknown, wanted: unknown): string[] {
  if (isDeepStrictEqual(base, wanted)) return [];
  if (isRecord(base) && isRecord(wanted)) {
    const fields = new Set([...Object.keys(base), ...Object.keys(wanted)]);
    return [...fields].flatMap((field) => differences(`${name}.${field}`, base[field], wanted[field]));
  }
  return [`${name} is ${JSON.stringify(base) ?? "unset"} there and ${JSON.stringify(wanted) ?? "unset"} here`];
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
