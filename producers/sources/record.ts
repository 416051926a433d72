/** Converts one record of any format (a JSON object, a row) to a document, by the selected fields. */
import { hash } from "node:crypto";
import { MAX_ID_CHARS } from "../../src/core/contracts.ts";
import type { Selection } from "../../src/core/selection.ts";
import { holds } from "../../src/core/conditions.ts";
import { Decimal, ExactNumber, exactText, Moment } from "../../src/core/exact.ts";
import { type Origin, type RejectReason, rejectAt, type SourceItem } from "../../src/core/documents.ts";
import { checkDocument, cleaned } from "./check-document.ts";
import { type TableFields, withPartition } from "./partition.ts";
import { isSampled } from "./select.ts";

/** Placeholder for text whose bytes are not UTF-8. */
export const NOT_UTF8 = Symbol("bytes that are not UTF-8");
/** Placeholder for a value that cannot be written as JSON: nested more deeply than the stack allows. */
const TOO_DEEP = Symbol("a value that is nested too deep");
/** Between the texts of several fields, or of a list. */
const BETWEEN_TEXTS = "\n\n";
/** Hexadecimal digits of an id that is made from the content: 128 bits. */
const ID_DIGITS = 32;

export interface RecordOptions extends Omit<Selection, "format" | "limit"> {
  /** Maximum length of a line, row or file, in bytes. */
  readonly maxDocumentBytes: number;
  /** Values of the partition that the records belong to; they are fields of each record. */
  readonly partition?: TableFields | null;
  /** Id of the object in the corpus, of which `generateId` makes ids of its rows. */
  readonly objectId?: string;
}

/** Every field that is read, each once. */
export function neededFields(options: RecordOptions): string[] {
  const { idField, textFields, where, keep } = options;
  return [...new Set([idField, ...textFields, ...where.map(({ field }) => field), ...keep])];
}

/**
 * The document; null for a record that `where` or `sample` excludes.
 *
 * @param row Number of the record in its object, from 1.
 */
export function toDocument(own: object, origin: Origin, options: RecordOptions, row = origin.line): SourceItem | null {
  const record = withPartition(own, options.partition);
  if (!options.where.every((condition) => holds(condition, fieldAt(record, condition.field)))) return null;
  const id = idOf(record, options, row);
  if ("refused" in id) return refuse(origin, "no_id", id.refused);
  if (!isSampled(id.value, options.sample)) return null;
  // Complete if possible, since a delta keeps the rows of a document whose new version was rejected.
  const shownId = (id.value.length > MAX_ID_CHARS ? id.value.slice(0, 64) : id.value).toWellFormed();
  const text = readText(record, options.textFields);
  if ("refused" in text) return refuse(origin, text.reason, text.refused, shownId);
  if (text.value.length * 3 > options.maxDocumentBytes) {
    const bytes = Buffer.byteLength(text.value);
    if (bytes > options.maxDocumentBytes) {
      const detail = `the text has ${bytes} bytes; --max-document-bytes allows ${options.maxDocumentBytes}`;
      return refuse(origin, "too_long", detail, shownId);
    }
  }
  const item = checkDocument(id.value, text.value, origin, options.clean);
  if (item.kind === "reject" || options.keep.length === 0) return item;
  const kept = options.keep.map((field) => asText(fieldAt(record, field)));
  const bad = kept.indexOf(NOT_UTF8);
  if (bad !== -1) return refuse(origin, "invalid_utf8", `the field ${options.keep[bad]} is not valid UTF-8`, shownId);
  const deep = kept.indexOf(TOO_DEEP);
  if (deep !== -1) return refuse(origin, "too_long", `the field ${options.keep[deep]} is nested too deep`, shownId);
  return { ...item, document: { ...item.document, kept: kept as (string | null)[] } };
}

function refuse(origin: Origin, reason: RejectReason, detail: string, id: string | null = null): SourceItem {
  return { kind: "reject", reject: rejectAt(origin, reason, detail, id) };
}

/** The id in the record, or one that is made where it has none. */
function idOf(
  record: object,
  options: RecordOptions,
  row: number | undefined,
): { readonly value: string } | { readonly refused: string } {
  const { idField, generateId, objectId, textFields, clean } = options;
  if (generateId === undefined) return readId(record, idField);
  const found = fieldAt(record, idField);
  if (found !== undefined && found !== null && found !== "") return readId(record, idField);
  if (generateId === "row") return { value: `${objectId ?? ""}:${row ?? ""}` };
  const text = readText(record, textFields);
  // A document without text is refused as such; its id is only shown.
  return { value: "value" in text ? hash("sha256", cleaned(text.value, clean).text).slice(0, ID_DIGITS) : "unknown" };
}

function readId(record: object, field: string): { readonly value: string } | { readonly refused: string } {
  const id = fieldAt(record, field);
  // Beyond 2^53 digits are lost in parsing, and two documents could get the same id.
  if (typeof id === "number" && Math.abs(id) > Number.MAX_SAFE_INTEGER)
    return { refused: `the field ${field} is a number too large to be exact (about ${id}); write it as a string` };
  if (typeof id === "string" || typeof id === "number" || typeof id === "bigint") return { value: String(id) };
  const exact = exactText(id);
  if (exact !== null) return { value: exact };
  return { refused: `the field ${field} is ${kindOf(id)}; a string or a number is needed${othersOf(record, id)}` };
}

/** The record's text. Of several fields, missing, null and empty ones are skipped; at least one must have text. */
function readText(
  record: object,
  fields: readonly string[],
): { readonly value: string } | { readonly reason: RejectReason; readonly refused: string } {
  const texts: string[] = [];
  for (const field of fields) {
    const value = joined(fieldAt(record, field));
    if (typeof value === "string") {
      if (fields.length === 1 || value.trim() !== "") texts.push(value);
    } else if (value === NOT_UTF8) {
      return { reason: "invalid_utf8", refused: `the field ${field} is not valid UTF-8` };
    } else if (fields.length === 1 || (value !== undefined && value !== null)) {
      return {
        reason: "no_text",
        refused: `the field ${field} is ${kindOf(value)}; a string is needed${othersOf(record, value)}`,
      };
    }
  }
  if (texts.length > 0) return { value: texts.join(BETWEEN_TEXTS) };
  return {
    reason: "no_text",
    refused: `none of the fields ${fields.join(", ")} has text${othersOf(record, undefined)}`,
  };
}

/** A list of texts as one; any other value as it is. */
function joined(value: unknown): unknown {
  if (!Array.isArray(value)) return value;
  const texts = value.filter((each: unknown) => each !== null && each !== undefined);
  if (texts.includes(NOT_UTF8)) return NOT_UTF8;
  const isText = texts.every((each): each is string => typeof each === "string");
  return isText ? texts.filter((text) => text.trim() !== "").join(BETWEEN_TEXTS) : value;
}

const SHOWN_FIELDS = 8;

/** A hint for a missing value: the fields that the record has, as one of them was probably meant. */
function othersOf(record: object, value: unknown): string {
  if (value !== undefined) return "";
  const fields = Object.keys(record);
  if (fields.length === 0) return "; the record has no fields";
  const more = fields.length > SHOWN_FIELDS ? ` and ${fields.length - SHOWN_FIELDS} more` : "";
  return `; the record has ${fields
    .slice(0, SHOWN_FIELDS)
    .map((field) => field.slice(0, 64))
    .join(", ")}${more}`;
}

/** The value at a dotted path; a field whose own name contains the dots takes precedence. */
export function fieldAt(record: object, path: string): unknown {
  if (Object.hasOwn(record, path)) return (record as Record<string, unknown>)[path];
  let value: unknown = record;
  for (const key of path.split(".")) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, key)) return undefined;
    value = (value as Record<string, unknown>)[key];
  }
  return value;
}

function kindOf(value: unknown): string {
  if (value === undefined) return "missing";
  if (value === null) return "null";
  if (value === NOT_UTF8) return "not valid UTF-8";
  if (value instanceof Uint8Array) return "binary";
  if (value instanceof Date || value instanceof Moment) return "a date";
  if (value instanceof Decimal) return "a decimal number";
  if (value instanceof ExactNumber) return "of type number";
  return Array.isArray(value) ? "an array" : `of type ${typeof value}`;
}

/** A kept value as text: strings and numbers as they are, dates in ISO 8601, binary as hex, lists and objects as JSON. */
function asText(value: unknown): string | null | typeof NOT_UTF8 | typeof TOO_DEEP {
  if (value === undefined || value === null) return null;
  if (value === NOT_UTF8) return NOT_UTF8;
  if (typeof value === "string") return value.toWellFormed();
  if (value instanceof Date) return value.toISOString();
  if (typeof value === "number" || typeof value === "bigint" || typeof value === "boolean") return String(value);
  const exact = exactText(value);
  if (exact !== null) return exact;
  try {
    return jsonText(value).toWellFormed();
  } catch (error) {
    if (error instanceof RangeError) return TOO_DEEP;
    if (error instanceof NotUtf8Error) return NOT_UTF8;
    throw error;
  }
}

class NotUtf8Error extends Error {}

/** JSON in which every number has all of its digits. @throws NotUtf8Error for text that is not UTF-8 */
function jsonText(value: unknown): string {
  if (typeof value === "bigint" || value instanceof Decimal || value instanceof ExactNumber) return String(value);
  if (value === NOT_UTF8) throw new NotUtf8Error();
  if (Array.isArray(value)) return `[${value.map(jsonText).join(",")}]`;
  if (typeof value !== "object" || value === null || value instanceof Date) return JSON.stringify(value) ?? "null";
  const exact = exactText(value);
  if (exact !== null) return JSON.stringify(exact);
  const entries = Object.entries(value).filter(([, part]) => part !== undefined);
  return `{${entries.map(([key, part]) => `${JSON.stringify(key)}:${jsonText(part)}`).join(",")}}`;
}
