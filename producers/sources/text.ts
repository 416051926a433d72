/** A text, Markdown or HTML file, plain, gzip or zstd: one document. */
import { holds } from "../../src/core/conditions.ts";
import { type Origin, rejectAt, type SourceItem } from "../../src/core/documents.ts";
import type { ByteSource } from "../../src/core/ports.ts";
import { checkDocument } from "./check-document.ts";
import { plainText } from "./decode.ts";
import type { RecordOptions } from "./record.ts";
import { isSampled } from "./select.ts";
import { unreadableAt } from "./unreadable.ts";

interface TextOptions extends Pick<
  RecordOptions,
  "where" | "keep" | "sample" | "maxDocumentBytes" | "partition" | "clean"
> {
  /** Id of the document. */
  readonly id: string;
  /** Decodes the bytes to text; null when they are invalid. */
  readonly decode: (bytes: Buffer) => string | null;
}

export async function* readText(source: ByteSource, options: TextOptions): AsyncGenerator<SourceItem> {
  // The only fields of a text file are those of its folders.
  const isWanted = options.where.every((condition) => holds(condition, options.partition?.[condition.field]));
  if (isWanted && isSampled(options.id, options.sample)) yield await readWhole(source, options);
}

async function readWhole(source: ByteSource, params: TextOptions): Promise<SourceItem> {
  const { id, maxDocumentBytes } = params;
  const origin: Origin = { file: source.name };
  try {
    const bytes = await readAll(source, maxDocumentBytes);
    if (bytes === null) {
      const size = source.bytes === null || source.bytes <= maxDocumentBytes ? "more" : `${source.bytes}`;
      const detail = `the file has ${size} bytes; --max-document-bytes allows ${maxDocumentBytes}`;
      return { kind: "reject", reject: rejectAt(origin, "too_long", detail, id) };
    }
    const text = params.decode(bytes);
    if (text === null)
      return { kind: "reject", reject: rejectAt(origin, "invalid_utf8", "the file is not valid UTF-8", id) };
    const item = checkDocument(id, text, origin, params.clean);
    const kept = params.keep.map((field) => params.partition?.[field] ?? null);
    return item.kind === "reject" || kept.length === 0 ? item : { ...item, document: { ...item.document, kept } };
  } catch (error) {
    return unreadableAt(origin, error, null, id);
  }
}

/** The decompressed bytes; null when there are more than `maxBytes`, of which no more are held. */
async function readAll(source: ByteSource, maxBytes: number): Promise<Buffer | null> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of plainText(source)) {
    bytes += chunk.length;
    if (bytes > maxBytes) return null;
    parts.push(chunk);
  }
  return Buffer.concat(parts);
}
