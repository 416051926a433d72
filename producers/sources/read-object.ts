/** Reads one corpus object of any format as documents and rejects. */
import type { Selection } from "../../src/core/selection.ts";
import { rejectAt, type SourceItem } from "../../src/core/documents.ts";
import type { ByteSource } from "../../src/core/ports.ts";
import { readArrow } from "./arrow.ts";
import { readCsv } from "./csv.ts";
import { peek, plainText, withStream } from "./decode.ts";
import { formatByMagic, formatByName, formatByText, KNOWN_NAMES, type KnownFormat } from "./formats.ts";
import { htmlText } from "./html.ts";
import { readJson } from "./json-stream.ts";
import { readJsonl } from "./jsonl.ts";
import type { CorpusObject } from "./objects.ts";
import { readParquet } from "./parquet.ts";
import { partitionOf } from "./partition.ts";
import type { RecordOptions } from "./record.ts";
import { readText } from "./text.ts";
import { unreadableAt } from "./unreadable.ts";
import { readWarc } from "./warc.ts";
import { textOf } from "./wide-text.ts";

/** Enough bytes for any magic number. */
const HEAD_BYTES = 8;
/** Number of bytes of text that determine the format of an object whose name does not. */
const SNIFF_BYTES = 1024;

export interface ReadOptions extends Omit<Selection, "limit"> {
  /** Maximum length of a line, row or file, in bytes. */
  readonly maxDocumentBytes: number;
}

type Readable = Pick<CorpusObject, "name" | "id" | "fields" | "open">;

/** Independent of all other objects, and the same each time. */
export async function* readObject(object: Readable, options: ReadOptions): AsyncGenerator<SourceItem> {
  let source: ByteSource;
  try {
    source = await object.open();
  } catch (error) {
    const format = options.format === "auto" ? formatByName(object.name) : options.format;
    yield unreadableAt({ file: object.name }, error, null, format === "text" || format === "html" ? object.id : null);
    return;
  }
  try {
    if (await isLfsPointer(source)) {
      yield lfsPointer(object.name);
      return;
    }
    const { format, opened } = await sniff(source, object.name, options.format);
    if (format === null) yield unknownFormat(object.name);
    else yield* readAs(format, opened, object, inPartition(object, options));
  } finally {
    await source.close();
  }
}

/** The options with the values of the partition that the object belongs to, from its table or from its folders' names. */
export function inPartition(
  { name, fields }: Pick<Readable, "name" | "fields">,
  options: ReadOptions,
): RecordOptions & ReadOptions {
  return { ...options, partition: fields ?? partitionOf(name) };
}

function readAs(
  format: KnownFormat,
  source: ByteSource,
  object: Readable,
  given: RecordOptions & ReadOptions,
): AsyncGenerator<SourceItem> {
  const options = { ...given, objectId: object.id };
  switch (format) {
    case "csv":
    case "tsv":
      return readCsv(source, { ...options, format });
    case "arrow":
      return readArrow(source, options);
    case "parquet":
      return readParquet(source, options);
    case "text":
      return readText(source, { ...options, id: object.id, decode: textOf });
    case "warc":
      return readWarc(source, options);
    case "html":
      return readText(source, { ...options, id: object.id, decode: htmlText });
    case "json":
      return readJson(source, options);
    default:
      return readJsonl(source, options);
  }
}

/** The format of an object. Its first bytes come from the stream that is read next, without an extra request. */
export async function sniff(
  source: ByteSource,
  name: string,
  said: Selection["format"],
): Promise<{ readonly format: KnownFormat | null; readonly opened: ByteSource }> {
  if (said !== "auto") return { format: said, opened: source };
  const byName = formatByName(name);
  if (byName === "parquet") return { format: byName, opened: source };
  const raw = await peek(source.stream(), HEAD_BYTES);
  const byMagic = formatByMagic(raw.head);
  if (byMagic === "parquet") {
    await raw.chunks.return(undefined);
    return { format: byMagic, opened: source };
  }
  const opened = withStream(source, raw.chunks);
  if (byMagic !== null) return { format: byMagic, opened };
  if (byName !== null) return { format: byName, opened };
  const text = await peek(plainText(opened), SNIFF_BYTES);
  // Standard input is JSONL unless it looks different, since it has no name.
  const format = formatByText(text.head.toString("utf8")) ?? (source.bytes === null ? "jsonl" : null);
  return { format, opened: withStream(source, text.chunks) };
}

const LFS_POINTER = Buffer.from("version https://git-lfs.github.com/spec/v1\n");
/** No pointer is larger. */
const MAX_POINTER_BYTES = 1024;

/** Whether an object is what Git LFS has in the place of a large file that was not downloaded. */
async function isLfsPointer(source: ByteSource): Promise<boolean> {
  const { bytes } = source;
  if (bytes === null || bytes < LFS_POINTER.length || bytes > MAX_POINTER_BYTES) return false;
  try {
    return (await source.readRange({ start: 0, end: LFS_POINTER.length })).equals(LFS_POINTER);
  } catch {
    // The reader meets the error again, and reports it.
    return false;
  }
}

function lfsPointer(name: string): SourceItem {
  const detail =
    "it is the pointer of Git LFS to a file that is not here; run git lfs pull, or download the file itself";
  return { kind: "reject", reject: rejectAt({ file: name }, "unreadable", detail) };
}

function unknownFormat(name: string): SourceItem {
  const detail = `its format cannot be determined from its name or its first bytes; ${KNOWN_NAMES} are known; set --format`;
  return { kind: "reject", reject: rejectAt({ file: name }, "unreadable", detail) };
}
