/** What makes two readings of a document, under two sets of options, come to the same rows. */
import { hash } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import type { RunOptions } from "./contracts.ts";
import type { Document } from "./documents.ts";
import { knownTo } from "./same-model.ts";

export const CONTENT_KEY_BYTES = 16;

/**
 * Options that say where documents and their fields are found, and which are taken. What they yield is compared document by
 * document; every other option, those of the future too, is taken to decide what a row or its vectors are.
 */
const READING_OPTIONS: ReadonlySet<string> = new Set([
  "idField",
  "textFields",
  "format",
  "where",
  "sample",
  "limit",
  "maxDocumentBytes",
  "dedupe",
] satisfies (keyof RunOptions)[]);

/** A document's text, and whatever else a source has put on it, in 32 bytes: SHA-256 of the text when that is all. */
export function contentHash(document: Document): Buffer {
  const { id: _, origin: __, text, ...carried } = document;
  // By way of hexadecimal digits: Node's own buffer for each digest costs three times as much.
  const textHash = hash("sha256", text, "hex");
  if (Object.keys(carried).length === 0) return Buffer.from(textHash, "hex");
  return Buffer.from(hash("sha256", `${textHash} ${JSON.stringify(carried)}`, "hex"), "hex");
}

/**
 * One phrase for each option that makes rows of the two sets incomparable; none when a run with the second
 * may build on a run with the first.
 */
export function contentDifferences(base: RunOptions, wantedNow: RunOptions): string[] {
  const wanted = knownTo(base, wantedNow);
  const names = new Set([...Object.keys(base), ...Object.keys(wanted)]);
  return [...names]
    .filter((name) => !READING_OPTIONS.has(name))
    .flatMap((name) => differences(name, base[name as keyof RunOptions], wanted[name as keyof RunOptions]));
}

/** Of the model, each field that differs is named by itself. */
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
