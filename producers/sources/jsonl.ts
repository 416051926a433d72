/** JSONL, plain, gzip or zstd: one document per line. */
import { type Origin, type RejectReason, rejectAt, type SourceItem } from "../../src/core/documents.ts";
import type { ByteRange, ByteSource } from "../../src/core/ports.ts";
import { plainText, withStream } from "./decode.ts";
import { type Line, LineSplitter, wholeLines } from "./lines.ts";
import { parseRecord } from "./exact-json.ts";
import { type RecordOptions, toDocument } from "./record.ts";
import { unreadableAt } from "./unreadable.ts";
import { textOf } from "./wide-text.ts";

const TAB = 9;
const RETURN = 13;
const SPACE = 32;

/**
 * Yields every line as a document or a reject. A file that fails midway ends with a reject that names
 * the line reached; earlier items remain valid.
 */
export async function* readJsonl(source: ByteSource, options: RecordOptions): AsyncGenerator<SourceItem> {
  const reached = { line: 0 };
  try {
    yield* readLines(plainText(source), source.name, options, reached);
  } catch (error) {
    yield unreadableAfter(source.name, reached.line, error);
  }
}

/**
 * The lines that begin in a range, numbered from 1. A caller that knows the number of earlier lines corrects the
 * numbers, and reports a thrown error with `unreadableAfter`.
 *
 * @param reached Called with the number of the last line that was read.
 */
export async function* readJsonlRange(
  params: Readonly<{ source: ByteSource; range: ByteRange; options: RecordOptions; reached: { line: number } }>,
): AsyncGenerator<SourceItem> {
  const { source, range, options, reached } = params;
  const bytes = wholeLines(source, range);
  // A byte order mark occurs only at the very beginning.
  const text = range.start === 0 ? plainText(withStream(source, bytes)) : bytes;
  yield* readLines(text, source.name, options, reached);
}

/** The reject of a file that was read up to a line. @throws `error` when it concerns the whole corpus */
export function unreadableAfter(file: string, line: number, error: unknown): SourceItem {
  return unreadableAt({ file, line: line + 1 }, error, line === 0 ? null : `after line ${line}`);
}

/** @param text Plain UTF-8. */
export async function* readLines(
  text: AsyncIterable<Buffer>,
  file: string,
  options: RecordOptions,
  reached: { line: number },
): AsyncGenerator<SourceItem> {
  const splitter = new LineSplitter(options.maxDocumentBytes);
  const read = function* (lines: Iterable<Line>): Generator<SourceItem> {
    for (const line of lines) {
      reached.line = line.number;
      const item = readLine(line, { file, line: line.number }, options);
      if (item !== null) yield item;
    }
    reached.line = splitter.lines;
  };
  for await (const chunk of text) yield* read(splitter.push(chunk));
  yield* read(splitter.end());
}

/** A line as a document or a reject; null for a blank line and for a record that the selection leaves out. */
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
  if (isBlank(line.bytes)) return null;
  const text = textOf(line.bytes);
  if (text === null) return refuse("invalid_utf8", "the line is not valid UTF-8");
  if (text.trim() === "") return null;
  const parsed = parseRecord(text, options);
  if ("fault" in parsed) return refuse("not_json", parsed.fault.toWellFormed());
  const { record } = parsed;
  if (typeof record !== "object" || record === null || Array.isArray(record)) {
    return refuse("not_json", "the line is valid JSON but not an object; --format json reads arrays of objects");
  }
  return toDocument(record, origin, options);
}

/** True for a line of only ASCII white space, which is detected without decoding it. */
function isBlank(bytes: Buffer): boolean {
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at]!;
    if (byte !== SPACE && !(byte >= TAB && byte <= RETURN)) return false;
  }
  return true;
}
