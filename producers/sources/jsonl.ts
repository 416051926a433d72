/** JSONL, plain or gzip: one document a line. */
import { isUtf8 } from "node:buffer";
import { createReadStream } from "node:fs";
import { pipeline, Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { type Origin, type RejectReason, rejectAt, type SourceItem } from "../../src/core/documents.ts";
import { messageOf } from "../../src/core/errors.ts";
import { checkDocument } from "./check-document.ts";
import { type Line, splitLines } from "./lines.ts";

const READ_BYTES = 1024 * 1024;
/** What is lost before the damage in a damaged gzip file, at most. */
const INFLATE_BYTES = 64 * 1024;
const GZIP_MAGIC = Buffer.from([0x1f, 0x8b]);
const BOM = Buffer.from([0xef, 0xbb, 0xbf]);

export interface JsonlOptions {
  /** Dotted paths, such as `meta.id`. */
  readonly idField: string;
  readonly textField: string;
  readonly maxDocumentBytes: number;
}

/**
 * Yields every line as a document or a reject. A file that fails midway ends with a reject that names
 * the line reached; what came before stands.
 *
 * @param name As it shall appear in rejects.
 */
export async function* readJsonl(
  input: Readonly<{ path: string; name: string }> | Readonly<{ stream: Readable; name: string }>,
  options: JsonlOptions,
): AsyncGenerator<SourceItem> {
  const { name } = input;
  const raw = "path" in input ? createReadStream(input.path, { highWaterMark: READ_BYTES }) : input.stream;
  let line = 0;
  try {
    for await (const next of splitLines(gunzipped(raw), options.maxDocumentBytes)) {
      line = next.number;
      const item = readLine(next, { file: name, line }, options);
      if (item !== null) yield item;
    }
  } catch (error) {
    // The system's and zlib's errors have a code; anything else is a fault of ours.
    if (!(error instanceof Error && "code" in error)) throw error;
    const detail = line === 0 ? messageOf(error) : `after line ${line}: ${messageOf(error)}`;
    yield { kind: "reject", reject: rejectAt({ file: name, line: line + 1 }, "unreadable", detail) };
  } finally {
    raw.destroy();
  }
}

/** Passes the bytes on, through gunzip when they begin as gzip does, whatever the file is called. */
async function* gunzipped(raw: Readable): AsyncGenerator<Buffer> {
  const chunks = raw[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  let head = Buffer.alloc(0);
  // A pipe may deliver a single byte first.
  while (head.length < GZIP_MAGIC.length) {
    const next = await chunks.next();
    if (next.done === true) break;
    head = Buffer.concat([head, Buffer.from(next.value)]);
  }
  async function* all(): AsyncGenerator<Buffer> {
    if (head.length > 0) yield head;
    for (let next = await chunks.next(); next.done !== true; next = await chunks.next()) yield Buffer.from(next.value);
  }
  if (!head.subarray(0, GZIP_MAGIC.length).equals(GZIP_MAGIC)) {
    yield* all();
    return;
  }
  // A failing stream drops what nobody has read yet. With room for nothing, it inflates only what is
  // asked for, so a damaged file yields the same lines each time, however fast they are taken.
  const options = { chunkSize: INFLATE_BYTES, readableHighWaterMark: 1 };
  const gunzip = createGunzip(options);
  // Ends both together; the error itself comes out of `gunzip` below.
  pipeline(Readable.from(all(), { highWaterMark: 1 }), gunzip, () => {});
  yield* gunzip as AsyncIterable<Buffer>;
}

/** Null for a blank line. */
function readLine(line: Line, origin: Origin, options: JsonlOptions): SourceItem | null {
  const refuse = (reason: RejectReason, detail: string, id: string | null = null): SourceItem => ({
    kind: "reject",
    reject: rejectAt(origin, reason, detail, id),
  });
  if (line.kind === "too-long") {
    return refuse(
      "too_long",
      `the line has ${line.byteLength} bytes; --max-document-bytes allows ${options.maxDocumentBytes}`,
    );
  }
  const bytes = line.number === 1 && line.bytes.subarray(0, 3).equals(BOM) ? line.bytes.subarray(3) : line.bytes;
  if (!isUtf8(bytes)) return refuse("invalid_utf8", "the line is not valid UTF-8");
  const text = bytes.toString("utf8");
  if (text.trim() === "") return null;
  let record: unknown;
  try {
    record = JSON.parse(text);
  } catch (error) {
    return refuse("not_json", messageOf(error).toWellFormed());
  }
  if (typeof record !== "object" || record === null || Array.isArray(record)) {
    return refuse("not_json", "the line is valid JSON but not an object");
  }
  return readFields(record, origin, options, refuse);
}

function readFields(
  record: object,
  origin: Origin,
  options: JsonlOptions,
  refuse: (reason: RejectReason, detail: string, id?: string | null) => SourceItem,
): SourceItem {
  const id = fieldAt(record, options.idField);
  if (typeof id !== "string" && typeof id !== "number") {
    return refuse("no_id", `the field ${options.idField} is ${kindOf(id)}; a string or a number is needed`);
  }
  // Beyond 2^53 digits are lost while parsing, and two documents could come to share one id.
  if (typeof id === "number" && Math.abs(id) > Number.MAX_SAFE_INTEGER) {
    return refuse(
      "no_id",
      `the field ${options.idField} is a number too large to be exact (about ${id}); write it as a string`,
    );
  }
  const text = fieldAt(record, options.textField);
  if (typeof text !== "string") {
    const shownId = String(id).slice(0, 64).toWellFormed();
    return refuse("no_text", `the field ${options.textField} is ${kindOf(text)}; a string is needed`, shownId);
  }
  return checkDocument(String(id), text, origin);
}

/** The value at a dotted path; a field whose own name has the dots is found first. */
function fieldAt(record: object, path: string): unknown {
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
  return Array.isArray(value) ? "an array" : `of type ${typeof value}`;
}
