/**
 * Metadata of Arrow IPC files and streams of other programs: schema, messages, footer.
 *
 * Layout: https://github.com/apache/arrow/tree/main/format (Schema.fbs, Message.fbs, File.fbs).
 */
import {
  BLOCK_BYTES,
  checkBatch,
  COMPRESSION_FIELD,
  footerOf,
  KEY_VALUES,
  MESSAGE_HEADER,
  RECORD_BATCH,
  RECORD_BATCH_TYPE,
  SCHEMA,
} from "./check-metadata.ts";
import { type Fields, Verifier } from "./flatbuffer.ts";

/** Number of bits of a string's offsets, or views: sixteen bytes that hold a short string or refer to a longer one. */
export type StringLayout = 32 | 64 | "view";
/** Decimal digits of a fraction of a second. */
export type TimeUnit = 0 | 3 | 6 | 9;

export type ArrowType =
  | { readonly kind: "null" | "bool" | "struct" | "map" | "interval" | "run-end encoded" }
  | { readonly kind: "int"; readonly bits: number; readonly isSigned: boolean }
  | { readonly kind: "float"; readonly bits: number }
  | { readonly kind: "text" | "binary"; readonly layout: StringLayout }
  | { readonly kind: "decimal"; readonly bits: number; readonly scale: number }
  | { readonly kind: "date"; readonly unit: "day" | "millisecond" }
  | { readonly kind: "time"; readonly bits: number; readonly unit: TimeUnit }
  | { readonly kind: "timestamp"; readonly unit: TimeUnit; readonly isZoned: boolean }
  | { readonly kind: "duration"; readonly unit: TimeUnit }
  | { readonly kind: "fixed-size binary"; readonly bytes: number }
  | { readonly kind: "list" | "list view"; readonly bits: 32 | 64 }
  | { readonly kind: "fixed-size list"; readonly size: number }
  | { readonly kind: "union"; readonly isDense: boolean }
  | { readonly kind: "unknown"; readonly id: number };

export interface ArrowField {
  readonly name: string;
  readonly type: ArrowType;
  readonly children: readonly ArrowField[];
  /** Set when the column holds indices into a dictionary of `type`. */
  readonly dictionary: { readonly id: bigint; readonly index: ArrowType & { kind: "int" } } | null;
  /** Name of an extension type, such as `arrow.uuid`. */
  readonly extension: string | null;
}

export interface BufferPlace {
  readonly offset: number;
  readonly length: number;
}

/** The parts of a record batch, in the order of the columns and their children. */
export interface BatchInfo {
  readonly rows: number;
  readonly nodes: readonly { readonly length: number; readonly nulls: number }[];
  readonly buffers: readonly BufferPlace[];
  readonly codec: "none" | "lz4" | "zstd" | "unknown";
  /** Number of data buffers of each column of views. */
  readonly viewBuffers: readonly number[];
  /** Whether unions have a validity bitmap, as they had before the fifth version. */
  readonly hasUnionValidity: boolean;
}

export type MessageInfo = { readonly bodyBytes: number } & (
  | { readonly kind: "schema"; readonly fields: readonly ArrowField[] }
  | { readonly kind: "dictionary"; readonly id: bigint; readonly isDelta: boolean; readonly batch: BatchInfo }
  | { readonly kind: "batch"; readonly batch: BatchInfo }
);

/** Place of a message in a file. */
export interface Block {
  readonly offset: number;
  /** Size of the message without its body, with its length before it and padding behind it. */
  readonly metadataBytes: number;
  readonly bodyBytes: number;
}

export interface Footer {
  readonly fields: readonly ArrowField[];
  readonly dictionaries: readonly Block[];
  readonly batches: readonly Block[];
}

const SCHEMA_TYPE = 1;
const DICTIONARY_BATCH_TYPE = 2;
const DICTIONARY_BATCH: Fields = { 1: { kind: "table", fields: () => RECORD_BATCH } };
const MESSAGE: Fields = {
  [MESSAGE_HEADER]: {
    kind: "union",
    byType: {
      [SCHEMA_TYPE]: () => SCHEMA,
      [DICTIONARY_BATCH_TYPE]: () => DICTIONARY_BATCH,
      [RECORD_BATCH_TYPE]: () => RECORD_BATCH,
    },
  },
  4: KEY_VALUES,
};
const FIFTH_VERSION = 4;
const CODECS = ["lz4", "zstd"] as const;
const UNITS = [0, 3, 6, 9] as const;

/** Checks and reads one message. @param metadata The message without its body. */
export function readMessageInfo(metadata: Uint8Array): MessageInfo {
  const message = new Verifier(metadata);
  message.check(MESSAGE);
  const bodyBytes = Number(message.int64(message.root, 3));
  if (!Number.isSafeInteger(bodyBytes) || bodyBytes < 0) throw new Error(`a message's body has ${bodyBytes} bytes`);
  const type = message.typeOfUnion(MESSAGE_HEADER);
  const header = message.tableOf(message.root, MESSAGE_HEADER);
  if (type === SCHEMA_TYPE) return { kind: "schema", bodyBytes, fields: fieldsOf(message, header) };
  const table = type === DICTIONARY_BATCH_TYPE ? message.tableOf(header, 1) : header;
  checkBatch(message, table, bodyBytes);
  const batch = batchOf(message, table);
  if (type === RECORD_BATCH_TYPE) return { kind: "batch", bodyBytes, batch };
  const isDelta = message.uint8(header, 2) !== 0;
  return { kind: "dictionary", bodyBytes, id: message.int64(header, 0), isDelta, batch };
}

/** Checks and reads a file's footer. @param bytes The file, or its end. */
export function readFooter(bytes: Uint8Array): Footer {
  const { footer } = footerOf(bytes);
  const blocks = (field: number): Block[] =>
    footer.structs(footer.root, field, BLOCK_BYTES).map((block) => ({
      offset: Number(block.getBigInt64(0, true)),
      metadataBytes: block.getInt32(8, true),
      bodyBytes: Number(block.getBigInt64(16, true)),
    }));
  return { fields: fieldsOf(footer, footer.tableOf(footer.root, 1)), dictionaries: blocks(2), batches: blocks(3) };
}

function batchOf(message: Verifier, table: number): BatchInfo {
  const pairs = (field: number): [number, number][] =>
    message
      .structs(table, field, 16)
      .map((pair) => [Number(pair.getBigInt64(0, true)), Number(pair.getBigInt64(8, true))]);
  const isCompressed = message.has(table, COMPRESSION_FIELD);
  return {
    rows: Number(message.int64(table, 0)),
    nodes: pairs(1).map(([length, nulls]) => ({ length, nulls })),
    buffers: pairs(2).map(([offset, length]) => ({ offset, length })),
    codec: isCompressed ? (CODECS[message.uint8(message.tableOf(table, COMPRESSION_FIELD), 0)] ?? "unknown") : "none",
    viewBuffers: message.structs(table, 4, 8).map((count) => Number(count.getBigInt64(0, true))),
    hasUnionValidity: message.int16(message.root, 0) < FIFTH_VERSION,
  };
}

function fieldsOf(reader: Verifier, schema: number): ArrowField[] {
  if (reader.int16(schema, 0) !== 0) throw new Error("its numbers are big-endian, which is not supported");
  return reader.tables(schema, 1).map((field) => fieldOf(reader, field));
}

function fieldOf(reader: Verifier, field: number): ArrowField {
  const dictionary = reader.has(field, 4) ? reader.tableOf(field, 4) : null;
  const metadata = reader.tables(field, 6).map((pair) => [reader.string(pair, 0), reader.string(pair, 1)]);
  return {
    name: reader.string(field, 0) ?? "",
    type: typeOf(reader, reader.uint8(field, 2), reader.has(field, 3) ? reader.tableOf(field, 3) : null),
    children: reader.tables(field, 5).map((child) => fieldOf(reader, child)),
    dictionary: dictionary === null ? null : { id: reader.int64(dictionary, 0), index: indexOf(reader, dictionary) },
    extension: metadata.find(([key]) => key === "ARROW:extension:name")?.[1] ?? null,
  };
}

/** Indices are signed and have 32 bits when nothing is said. */
function indexOf(reader: Verifier, dictionary: number): ArrowType & { kind: "int" } {
  if (!reader.has(dictionary, 1)) return { kind: "int", bits: 32, isSigned: true };
  return intOf(reader, reader.tableOf(dictionary, 1));
}

function intOf(reader: Verifier, table: number): ArrowType & { kind: "int" } {
  return { kind: "int", bits: reader.int32(table, 0), isSigned: reader.uint8(table, 1) !== 0 };
}

/** Types by their number in the union `Type` of Schema.fbs. */
function typeOf(reader: Verifier, id: number, table: number | null): ArrowType {
  if (table === null) return { kind: "unknown", id };
  const unit = (absent: number): TimeUnit => UNITS[reader.int16(table, 0, absent)] ?? 0;
  switch (id) {
    case 1:
      return { kind: "null" };
    case 2:
      return intOf(reader, table);
    case 3:
      return { kind: "float", bits: 16 << reader.int16(table, 0) };
    case 4:
      return { kind: "binary", layout: 32 };
    case 5:
      return { kind: "text", layout: 32 };
    case 6:
      return { kind: "bool" };
    case 7:
      return { kind: "decimal", bits: reader.int32(table, 2, 128), scale: reader.int32(table, 1) };
    case 8:
      return { kind: "date", unit: reader.int16(table, 0, 1) === 0 ? "day" : "millisecond" };
    case 9:
      return { kind: "time", bits: reader.int32(table, 1, 32), unit: unit(1) };
    case 10:
      return { kind: "timestamp", unit: unit(0), isZoned: (reader.string(table, 1) ?? "") !== "" };
    case 11:
      return { kind: "interval" };
    case 12:
      return { kind: "list", bits: 32 };
    case 13:
      return { kind: "struct" };
    case 14:
      return { kind: "union", isDense: reader.int16(table, 0) === 1 };
    case 15:
      return { kind: "fixed-size binary", bytes: reader.int32(table, 0) };
    case 16:
      return { kind: "fixed-size list", size: reader.int32(table, 0) };
    case 17:
      return { kind: "map" };
    case 18:
      return { kind: "duration", unit: unit(1) };
    case 19:
      return { kind: "binary", layout: 64 };
    case 20:
      return { kind: "text", layout: 64 };
    case 21:
      return { kind: "list", bits: 64 };
    case 22:
      return { kind: "run-end encoded" };
    case 23:
      return { kind: "binary", layout: "view" };
    case 24:
      return { kind: "text", layout: "view" };
    case 25:
      return { kind: "list view", bits: 32 };
    case 26:
      return { kind: "list view", bits: 64 };
    default:
      return { kind: "unknown", id };
  }
}

/** The type's name in messages, as Arrow's documentation writes it. */
export function nameOf({ type, dictionary }: ArrowField): string {
  const name = nameOfType(type);
  return dictionary === null ? name : `Dictionary<${nameOfType(dictionary.index)}, ${name}>`;
}

function nameOfType(type: ArrowType): string {
  switch (type.kind) {
    case "int":
      return `${type.isSigned ? "Int" : "Uint"}${type.bits}`;
    case "float":
      return `Float${type.bits}`;
    case "text":
      return { 32: "Utf8", 64: "LargeUtf8", view: "Utf8View" }[type.layout];
    case "binary":
      return { 32: "Binary", 64: "LargeBinary", view: "BinaryView" }[type.layout];
    case "decimal":
      return `Decimal${type.bits}`;
    case "unknown":
      return `unknown type ${type.id}`;
    default:
      return type.kind[0]!.toUpperCase() + type.kind.slice(1);
  }
}
