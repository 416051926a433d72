/** JSON files of any layout: JSONL, an array of objects, or objects one after another, each over several lines. */
import { type Origin, type RejectReason, rejectAt, type SourceItem } from "../../src/core/documents.ts";
import type { ByteSource } from "../../src/core/ports.ts";
import { peek, plainText } from "./decode.ts";
import { parseRecord } from "./exact-json.ts";
import { type JsonElement, JsonElements } from "./json-elements.ts";
import { readLines, unreadableAfter } from "./jsonl.ts";
import { type RecordOptions, toDocument } from "./record.ts";
import { textOf } from "./wide-text.ts";

/** Number of bytes at the start of a file that tell JSONL from other layouts. */
const HEAD_BYTES = 64 * 1024;

/** One document per object; a file that fails midway ends with a reject that names the line reached. */
export async function* readJson(source: ByteSource, options: RecordOptions): AsyncGenerator<SourceItem> {
  const reached = { line: 0 };
  try {
    const { head, chunks } = await peek(plainText(source), HEAD_BYTES);
    if (isJsonl(head, options)) yield* readLines(chunks, source.name, options, reached);
    else yield* readElements(chunks, source.name, options, reached);
  } catch (error) {
    yield unreadableAfter(source.name, reached.line, error);
  }
}

/** Whether the first line is an object: then every line is read by itself, so that a damaged one is only one reject. */
function isJsonl(head: Buffer, options: RecordOptions): boolean {
  const [first = ""] = head.toString("utf8").trimStart().split("\n", 1);
  if (!first.startsWith("{")) return false;
  const parsed = parseRecord(first, options);
  return "record" in parsed && typeof parsed.record === "object";
}

async function* readElements(
  text: AsyncIterable<Buffer>,
  file: string,
  options: RecordOptions,
  reached: { line: number },
): AsyncGenerator<SourceItem> {
  const splitter = new JsonElements(options.maxDocumentBytes);
  let row = 0;
  const read = (element: JsonElement): SourceItem | null =>
    readElement(element, { file, line: element.line }, options, ++row);
  for await (const chunk of text) {
    for (const element of splitter.push(chunk)) {
      const item = read(element);
      if (item !== null) yield item;
    }
    reached.line = splitter.line - 1;
  }
  for (const element of splitter.end()) {
    const item = read(element);
    if (item !== null) yield item;
  }
}

/** @param row Number of the element, from 1. */
function readElement(element: JsonElement, origin: Origin, options: RecordOptions, row: number): SourceItem | null {
  const refuse = (reason: RejectReason, detail: string): SourceItem => ({
    kind: "reject",
    reject: rejectAt(origin, reason, detail),
  });
  if (element.kind === "bad") return refuse("not_json", `element ${row}: ${element.detail}`);
  if (element.kind === "too-long") {
    const detail = `element ${row} has ${element.byteLength} bytes; --max-document-bytes allows ${options.maxDocumentBytes}`;
    return refuse("too_long", detail);
  }
  const text = textOf(element.bytes);
  if (text === null) return refuse("invalid_utf8", `element ${row} is not valid UTF-8`);
  const parsed = parseRecord(text, options);
  if ("fault" in parsed) return refuse("not_json", `element ${row}: ${parsed.fault.toWellFormed()}`);
  const { record } = parsed;
  if (typeof record !== "object" || record === null || Array.isArray(record))
    return refuse("not_json", `element ${row} is valid JSON but not an object`);
  return toDocument(record, origin, options, row);
}
