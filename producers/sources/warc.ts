/**
 * WARC, plain or gzip, as crawls such as Common Crawl write it: a document per extracted text (`conversion`, as in WET
 * files) and per page (`response`, `resource`). https://iipc.github.io/warc-specifications/specifications/warc-format/warc-1.1/
 */
import { type Origin, type RejectReason, rejectAt, type SourceItem } from "../../src/core/documents.ts";
import { FleetError } from "../../src/core/errors.ts";
import type { ByteSource } from "../../src/core/ports.ts";
import { ByteReader } from "./byte-reader.ts";
import { plainText } from "./decode.ts";
import { htmlText } from "./html.ts";
import { type Headers, headersOf, HttpMessage } from "./http-message.ts";
import { NOT_UTF8, type RecordOptions, toDocument } from "./record.ts";
import { unreadableAt } from "./unreadable.ts";
import { textOf as utf8Text } from "./wide-text.ts";

/** Maximum size of a record's header in bytes. */
const MAX_HEADER_BYTES = 1024 * 1024;
const HEADER_END = Buffer.from("\r\n\r\n");
const HTML = /^(?:text\/html|application\/xhtml\+xml)\b/i;

/** Records that have no text, such as requests, redirects and images, are no documents. */
export async function* readWarc(source: ByteSource, options: RecordOptions): AsyncGenerator<SourceItem> {
  const reader = new ByteReader(plainText(source));
  let record = 0;
  try {
    for (;;) {
      const header = await readHeader(reader);
      if (header === null) return;
      record++;
      const origin: Origin = { file: source.name, line: record };
      const item = await readRecord(reader, { header, origin, options });
      if (item !== null) yield item;
    }
  } catch (error) {
    yield unreadableAt({ file: source.name, line: record + 1 }, error, record === 0 ? null : `after record ${record}`);
  } finally {
    await reader.close();
  }
}

/** The fields of the next record's header; null at the end. @throws FleetError `source_unreadable` */
async function readHeader(reader: ByteReader): Promise<Headers | null> {
  const bytes = await reader.takeUntil(HEADER_END, MAX_HEADER_BYTES);
  if (bytes === null) {
    if (reader.isAtEnd) return null;
    throw damaged("a record's header does not end");
  }
  const text = bytes.toString("utf8").replace(/^[\r\n]+/, "");
  if (!/^WARC\/[01]\.\d+\r?\n/.test(text)) throw damaged("a record does not begin with WARC/1.0 or WARC/1.1");
  return headersOf(text);
}

interface RecordParams {
  readonly header: Headers;
  readonly origin: Origin;
  readonly options: RecordOptions;
}

async function readRecord(reader: ByteReader, params: RecordParams): Promise<SourceItem | null> {
  const { header, origin, options } = params;
  const length = Number(header.get("content-length"));
  if (!Number.isSafeInteger(length) || length < 0) throw damaged("a record has no length");
  const isDocument = ["conversion", "resource", "response"].includes(header.get("warc-type") ?? "");
  const refuse = (reason: RejectReason, detail: string): SourceItem => ({
    kind: "reject",
    reject: rejectAt(origin, reason, detail, idOf(header)),
  });
  if (!isDocument || length > options.maxDocumentBytes) {
    if (!(await reader.skip(length))) throw damaged("it ends within a record");
    const detail = `the record has ${length} bytes; --max-document-bytes allows ${options.maxDocumentBytes}`;
    return isDocument ? refuse("too_long", detail) : null;
  }
  const body = await reader.take(length);
  if (body === null) throw damaged("it ends within a record");
  try {
    const text = textOf(header, body, options.maxDocumentBytes);
    if (text === null) return null;
    return toDocument({ ...fieldsOf(header), text }, origin, options);
  } catch (error) {
    return unreadableAt(origin, error, null, idOf(header));
  }
}

/** The text of a record; null for one without, such as an image or a redirect. */
function textOf(header: Headers, body: Buffer, maxBytes: number): string | typeof NOT_UTF8 | null {
  const type = header.get("content-type") ?? "";
  if (header.get("warc-type") !== "response") return plainOrHtml(type, body);
  if (!/^application\/http\b/i.test(type)) return null;
  const message = HttpMessage.parse(body);
  if (message === null || !message.isSuccess) return null;
  const inner = message.headers.get("content-type") ?? "";
  return HTML.test(inner) || /^text\/plain\b/i.test(inner) ? plainOrHtml(inner, message.body(maxBytes)) : null;
}

function plainOrHtml(type: string, bytes: Buffer): string | typeof NOT_UTF8 | null {
  const charset = /\bcharset\s*=\s*["']?([\w:.-]+)/i.exec(type)?.[1] ?? null;
  if (HTML.test(type)) return htmlText(bytes, charset) ?? NOT_UTF8;
  return /^text\/plain\b/i.test(type) ? (utf8Text(bytes) ?? NOT_UTF8) : null;
}

function idOf(header: Headers): string | null {
  return header.get("warc-record-id")?.replace(/^<|>$/g, "") ?? null;
}

function fieldsOf(header: Headers): Record<string, string | null> {
  return {
    id: idOf(header),
    url: header.get("warc-target-uri")?.replace(/^<|>$/g, "") ?? null,
    date: header.get("warc-date") ?? null,
    type: header.get("warc-type") ?? null,
    language: header.get("warc-identified-content-language") ?? null,
  };
}

function damaged(finding: string): FleetError {
  return new FleetError("source_unreadable", `the WARC file is damaged: ${finding}`);
}
