/**
 * Arrow IPC files and streams, batch by batch. A file stores its batches like a stream, between its magic number
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
import type { SourceItem } from "../../src/core/documents.ts";
import { FleetError } from "../../src/core/errors.ts";
import type { ByteSource } from "../../src/core/ports.ts";
import { type Message, readMessages } from "./arrow-messages.ts";
import { type ColumnInfo, resolveColumns } from "./resolve-columns.ts";
import { assertDecodedBytes, assertRows, TextBudget } from "./expansion.ts";
import { unlz4 } from "./lz4-frame.ts";
import { NOT_UTF8, type RecordOptions, toDocument } from "./record.ts";
import { damageOf, unreadableAt } from "./unreadable.ts";
import { unzstd } from "./zstd.ts";

/** Limit on dictionaries, which are held for the batches that refer to them. */
const MAX_DICTIONARY_BYTES = 256 * 1024 * 1024;

// The library reads any codec that is registered. It needs buffers aligned to eight bytes.
compressionRegistry.set(CompressionType.ZSTD, { decode: (bytes) => unzstd(bytes, sizeBefore(bytes)) });
compressionRegistry.set(CompressionType.LZ4_FRAME, { decode: (bytes) => unlz4(bytes, sizeBefore(bytes)) });

/** A codec receives a view of the body, in which the buffer's size precedes the buffer. */
function sizeBefore({ buffer, byteOffset }: Uint8Array): number {
  return Number(new DataView(buffer, byteOffset - 8, 8).getBigInt64(0, true));
}

/** Documents of all batches. A damaged batch is one reject that names its rows; the batches after it are read. */
export async function* readArrow(source: ByteSource, options: RecordOptions): AsyncGenerator<SourceItem> {
  let row = 0;
  let needed: readonly string[] | null = null;
  const budget = new TextBudget(source.bytes ?? Infinity);
  try {
    for await (const { rows, decode } of readBatches(source)) {
      const first = row + 1;
      row += rows;
      let at = first;
      try {
        const batch = decode();
        if (needed === null) {
          const resolved = resolveColumns(source.name, columnsOf(batch.schema), options);
          if ("refused" in resolved) {
            yield resolved.refused;
            return;
          }
          needed = resolved.needed;
        }
        for (const record of recordsOf(batch, needed)) {
          const item = toDocument(record, { file: source.name, line: at }, options);
          budget.take(item?.kind === "document" ? item.document.text.length : 0);
          at++;
          if (item !== null) yield item;
        }
      } catch (error) {
        const lost = `rows ${at} to ${row}`;
        yield unreadableAt({ file: source.name, line: at }, damageOf(source.name, error), lost);
      }
    }
  } catch (error) {
    yield unreadableAt({ file: source.name, line: row + 1 }, error, row === 0 ? null : `after row ${row}`);
  }
}

interface Batch {
  readonly rows: number;
  /** @throws Error for a batch that is damaged or exceeds a limit */
  readonly decode: () => RecordBatch;
}

/** Batches of the source; dictionaries are decoded once, for all batches after them. */
async function* readBatches(source: ByteSource): AsyncGenerator<Batch> {
  const decoder = new BatchDecoder();
  let dictionaryBytes = 0;
  for await (const message of readMessages(source)) {
    if (message.kind === "batch") {
      yield { rows: message.rows, decode: () => decoder.decode(message) };
      continue;
    }
    if (message.kind === "dictionary") dictionaryBytes += Math.max(message.bytes.length, message.decodedBytes);
    if (dictionaryBytes > MAX_DICTIONARY_BYTES)
      throw new FleetError(
        "source_unreadable",
        `${source.name} has dictionaries of more than ${MAX_DICTIONARY_BYTES} bytes; write its columns without dictionaries`,
      );
    decoder.add(message);
  }
}

class BatchDecoder {
  readonly #schema: Buffer[] = [];
  readonly #dictionaries: RecordBatchReader["dictionaries"] = new Map();
  #waiting: Message[] = [];

  /** Adds a schema or a dictionary. */
  add(message: Message): void {
    if (message.kind === "schema") this.#schema.push(message.bytes);
    else this.#waiting.push(message);
  }

  decode(message: Message): RecordBatch {
    const { bytes, rows, decodedBytes } = message;
    assertDecodedBytes(decodedBytes, bytes.length);
    assertRows(rows, bytes.length);
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      assertRows(next.rows, next.bytes.length);
      const { dictionaries } = this.#read(next);
      for (const [id, dictionary] of dictionaries) this.#dictionaries.set(id, dictionary);
      this.#waiting.shift();
    }
    const { batches } = this.#read(message);
    if (batches.length !== 1) throw new Error(`it holds ${batches.length} batches instead of 1`);
    return batches[0]!;
  }

  /** Reads one message as a stream of its own. */
  #read({ bytes }: Message): { batches: RecordBatch[]; dictionaries: RecordBatchReader["dictionaries"] } {
    const reader = RecordBatchReader.from(Buffer.concat([...this.#schema, bytes]));
    reader.open();
    const { dictionaries } = reader;
    for (const [id, dictionary] of this.#dictionaries) dictionaries.set(id, dictionary);
    return { batches: [...reader], dictionaries };
  }
}

function columnsOf(schema: Schema): ColumnInfo[] {
  return schema.fields.map(({ name, type }) => ({ name, type: String(type), isText: isText(type) }));
}

function isText(type: DataType): boolean {
  if (DataType.isDictionary(type)) return isText(type.dictionary as DataType);
  return DataType.isUtf8(type) || DataType.isLargeUtf8(type) || DataType.isUtf8View(type);
}

/** Records one at a time: all at once they take many times the memory of their columns. */
function* recordsOf(batch: RecordBatch, names: readonly string[]): Generator<Record<string, unknown>> {
  const columns = names.map((name) => [name, valueReader(batch.getChild(name)!)] as const);
  for (let row = 0; row < batch.numRows; row++) {
    const record: Record<string, unknown> = {};
    for (const [name, valueAt] of columns) record[name] = valueAt(row);
    yield record;
  }
}

type ValueReader = (row: number) => unknown;

function valueReader(column: Vector): ValueReader {
  const data = column.data[0];
  if (
    data !== undefined &&
    column.data.length === 1 &&
    (DataType.isUtf8(column.type) || DataType.isLargeUtf8(column.type))
  )
    return stringReader(data);
  const isDate = DataType.isDate(column.type) || DataType.isTimestamp(column.type);
  return (row) => {
    const value: unknown = column.get(row);
    return isDate && typeof value === "number" ? new Date(value) : plain(value);
  };
}

/** A reader of strings that checks UTF-8; the library would insert U+FFFD for invalid bytes. */
function stringReader(data: Data): ValueReader {
  const bytes = Buffer.from(data.values.buffer, data.values.byteOffset, data.values.byteLength);
  const offsets = data.valueOffsets as ArrayLike<number | bigint>;
  assertOffsets(offsets, data.length, bytes.length);
  return (row) => {
    if (!data.getValid(row)) return null;
    const value = bytes.subarray(Number(offsets[row]), Number(offsets[row + 1]));
    return isUtf8(value) ? value.toString("utf8") : NOT_UTF8;
  };
}

/** Refuses overlapping strings: there could be as many as offsets, each as long as all of the bytes. */
function assertOffsets(offsets: ArrayLike<number | bigint>, values: number, bytes: number): void {
  if (values > 0 && offsets.length <= values)
    throw new Error(`a column of ${values} strings has ${offsets.length} offsets`);
  let before = 0;
  for (let row = 0; row <= values && row < offsets.length; row++) {
    const offset = Number(offsets[row]);
    if (offset < before || offset > bytes) throw new Error(`a string begins at ${offset} of ${bytes} bytes`);
    before = offset;
  }
}

/** A plain value; structs and lists are views in the library's own types. */
function plain(value: unknown): unknown {
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return value;
  const json: unknown = "toJSON" in value && typeof value.toJSON === "function" ? value.toJSON() : value;
  if (Array.isArray(json)) return json.map(plain);
  if (typeof json !== "object" || json === null) return json;
  return Object.fromEntries(Object.entries(json).map(([key, part]) => [key, plain(part)]));
}
