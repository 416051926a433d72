/** JSONL, plain, gzip or zstd: one document a line. */
import { isUtf8 } from "node:buffer";
import { type Origin, type RejectReason, rejectAt, type SourceItem } from "../../src/core/documents.ts";
import { messageOf } from "../../src/core/errors.ts";
import type { ByteSource } from "../../src/core/ports.ts";
import { plainText } from "./decode.ts";
import { type Line, splitLines } from "./lines.ts";
import { type RecordOptions, toDocument } from "./record.ts";
import { unreadableAt } from "./unreadable.ts";

/**
 * Yields every line as a document or a reject. A file that fails midway ends with a reject that names
 * the line reached; what came before stands.
 */
export async function* readJsonl(source: ByteSource, options: RecordOptions): AsyncGenerator<SourceItem> {
  let line = 0;
  try {
    for await (const next of splitLines(plainText(source), options.maxDocumentBytes)) {
      line = next.number;
      const item = readLine(next, { file: source.name, line }, options);
      if (item !== null) yield item;
    }
  } catch (error) {
    yield unreadableAt({ file: source.name, line: line + 1 }, error, line === 0 ? null : `after line ${line}`);
  }
}

/** Null for a blank line, and for a record that is left out. */
function readLine(line: Line, origin: Origin, options: RecordOptions): SourceItem | null {
  const refuse = (reason: RejectReason, detail: string): SourceItem => ({
    kind: "reject",
    reject: rejectAt(origin, reason, detail),
  });
  if (line.kind === "too-long") {
    return refuse(
      "too_long",
      `the line has ${line.byteLength} bytes; --max-document-bytes allows ${options.maxDocumentBytes}`,
    );
  }
  if (!isUtf8(line.bytes)) return refuse("invalid_utf8", "the line is not valid UTF-8");
  const text = line.bytes.toString("utf8");
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
  return toDocument(record, origin, options);
}
