/**
 * Arrow IPC, file and stream: batch by batch. A file holds its batches as a stream does, between its magic number
 * and its footer, so both are read from front to back and neither needs ranges.
 */
import { isUtf8 } from "node:buffer";
import {
  CompressionType,
  compressionRegistry,
  type Data,
  DataType,
  type RecordBatch,
  RecordBatchReader,
  type Schema,
  type Vector,
} from "apache-arrow";
import { decompress as unzstd } from "fzstd";
import type { SourceItem } from "../../src/core/documents.ts";
import { FleetError } from "../../src/core/errors.ts";
import type { ByteSource } from "../../src/core/ports.ts";
import { type Message, readMessages } from "./arrow-messages.ts";
import { type ColumnInfo, resolveColumns } from "./columns.ts";
import { unlz4 } from "./lz4-frame.ts";
import { NOT_UTF8, type RecordOptions, toDocument } from "./record.ts";
import { damageOf, unreadableAt } from "./unreadable.ts";

/** Dictionaries are held for the batches that refer to them. */
const MAX_DICTIONARY_BYTES = 256 * 1024 * 1024;

// The library reads whatever codec it has been given. It wants buffers that begin at a multiple of eight.
compressionRegistry.set(CompressionType.ZSTD, { decode: (bytes) => new Uint8Array(unzstd(bytes)) });
compressionRegistry.set(CompressionType.LZ4_FRAME, { decode: unlz4 });

/** A damaged batch is one reject that names its rows; the batches after it are read. */
export async function* readArrow(source: ByteSource, options: RecordOptions): AsyncGenerator<SourceItem> {
  let row = 0;
  let needed: readonly string[] | null = null;
  try {
    for await (const { bytes, rows } of readBatches(source)) {
      const first = row + 1;
      row += rows;
      try {
        const batch = decodeBatch(source.name, bytes);
        if (needed === null) {
          const resolved = resolveColumns(source.name, columnsOf(batch.schema), options);
          if ("refused" in resolved) {
            yield resolved.refused;
            return;
          }
          needed = resolved.needed;
        }
        for (const [i, record] of recordsOf(source.name, batch, needed).entries()) {
          const item = toDocument(record, { file: source.name, line: first + i }, options);
          if (item !== null) yield item;
        }
      } catch (error) {
        yield unreadableAt({ file: source.name, line: first }, error, `rows ${first} to ${row}`);
      }
    }
  } catch (error) {
    yield unreadableAt({ file: source.name, line: row + 1 }, error, row === 0 ? null : `after row ${row}`);
  }
}

/** Each batch as a stream of its own, with the schema and every dictionary before it. */
async function* readBatches(source: ByteSource): AsyncGenerator<{ readonly bytes: Buffer; readonly rows: number }> {
  const before: Message[] = [];
  let dictionaryBytes = 0;
  for await (const message of readMessages(source)) {
    if (message.kind === "batch") {
      yield { bytes: Buffer.concat([...before, message].map(({ bytes }) => bytes)), rows: message.rows };
      continue;
    }
    if (message.kind === "dictionary") dictionaryBytes += message.bytes.length;
    if (dictionaryBytes > MAX_DICTIONARY_BYTES)
      throw new FleetError(
        "source_unreadable",
        `${source.name} has dictionaries of more than ${MAX_DICTIONARY_BYTES} bytes; write its columns without dictionaries`,
      );
    before.push(message);
  }
}

function decodeBatch(name: string, bytes: Buffer): RecordBatch {
  try {
    const batches = [...RecordBatchReader.from(bytes)];
    if (batches.length !== 1) throw new Error(`it holds ${batches.length} batches instead of 1`);
    return batches[0]!;
  } catch (error) {
    throw damageOf(name, error);
  }
}

function columnsOf(schema: Schema): ColumnInfo[] {
  return schema.fields.map(({ name, type }) => ({ name, type: String(type), isText: isText(type) }));
}

function isText(type: DataType): boolean {
  if (DataType.isDictionary(type)) return isText(type.dictionary as DataType);
  return DataType.isUtf8(type) || DataType.isLargeUtf8(type) || DataType.isUtf8View(type);
}

function recordsOf(name: string, batch: RecordBatch, names: readonly string[]): Record<string, unknown>[] {
  try {
    const columns = names.map((column) => valuesOf(batch.getChild(column)!));
    return Array.from({ length: batch.numRows }, (_, row) =>
      Object.fromEntries(names.map((column, i) => [column, columns[i]![row]])),
    );
  } catch (error) {
    throw damageOf(name, error);
  }
}

function valuesOf(column: Vector): unknown[] {
  const data = column.data[0];
  if (
    data !== undefined &&
    column.data.length === 1 &&
    (DataType.isUtf8(column.type) || DataType.isLargeUtf8(column.type))
  )
    return stringsOf(data);
  const isDate = DataType.isDate(column.type) || DataType.isTimestamp(column.type);
  return Array.from({ length: column.length }, (_, row) => {
    const value: unknown = column.get(row);
    return isDate && typeof value === "number" ? new Date(value) : plain(value);
  });
}

/** The library would put U+FFFD where bytes are not UTF-8. */
function stringsOf(data: Data): unknown[] {
  const bytes = Buffer.from(data.values.buffer, data.values.byteOffset, data.values.byteLength);
  const offsets = data.valueOffsets as ArrayLike<number | bigint>;
  return Array.from({ length: data.length }, (_, row) => {
    if (!data.getValid(row)) return null;
    const value = bytes.subarray(Number(offsets[row]), Number(offsets[row + 1]));
    return isUtf8(value) ? value.toString("utf8") : NOT_UTF8;
  });
}

/** Rows of structs and lists are views of the library's own. */
function plain(value: unknown): unknown {
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return value;
  const json: unknown = "toJSON" in value && typeof value.toJSON === "function" ? value.toJSON() : value;
  if (Array.isArray(json)) return json.map(plain);
  if (typeof json !== "object" || json === null) return json;
  return Object.fromEntries(Object.entries(json).map(([key, part]) => [key, plain(part)]));
}
