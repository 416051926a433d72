/** Columns of an Arrow record batch: only those that are asked for are decompressed and checked. */
import type { ArrowField, ArrowType, BatchInfo } from "../../src/arrow/foreign-metadata.ts";
import { FleetError } from "../../src/core/errors.ts";
import type { Message } from "./arrow-messages.ts";
import { assertDecodedBytes, assertRows } from "./expansion.ts";
import { unlz4 } from "./lz4-frame.ts";
import { type Buffers, isReadable, readerOf, type ValueReader } from "./arrow-values.ts";
import { unzstd } from "./zstd.ts";

/** Limit on dictionaries, which are held for the batches that refer to them. */
const MAX_DICTIONARY_BYTES = 256 * 1024 * 1024;
const SIZE_BYTES = 8;
/** Marker of an uncompressed buffer in a compressed body. */
const NOT_COMPRESSED = -1n;

type BatchMessage = Message & { readonly batch: BatchInfo };

/** Readers of the columns of these names, in their order. @throws Error for a batch that is damaged or exceeds a limit */
export function readColumns(
  params: Readonly<{
    message: BatchMessage;
    fields: readonly ArrowField[];
    names: readonly string[];
    dictionaries: Dictionaries;
  }>,
): ValueReader[] {
  const { message, fields, names, dictionaries } = params;
  assertRows(message.rows, message.body.length);
  const parts = new Parts(message);
  const readers = new Map<string, ValueReader>();
  for (const field of fields) {
    if (readers.size === names.length) break;
    if (!names.includes(field.name) || readers.has(field.name)) skip(field, parts);
    else readers.set(field.name, columnOf({ field, parts, dictionaries, length: message.rows }));
  }
  return names.map((name) => readers.get(name)!);
}

/** True if all parts of the column are of types that are read. */
export function isReadableField({ type, children }: ArrowField): boolean {
  return isReadable(type) && children.every(isReadableField);
}

/** The buffers and lengths of a batch, taken in the order of the columns. */
class Parts {
  readonly #batch: BatchInfo;
  readonly #body: Buffer;
  #node = 0;
  #buffer = 0;
  #views = 0;
  #decoded = 0;

  constructor({ batch, body }: BatchMessage) {
    this.#batch = batch;
    this.#body = body;
  }

  get hasUnionValidity(): boolean {
    return this.#batch.hasUnionValidity;
  }

  length(): number {
    const node = this.#batch.nodes[this.#node++];
    if (node === undefined) throw new Error("it has fewer columns than its schema");
    return node.length;
  }

  /** Number of data buffers of the next column of views. */
  viewBuffers(): number {
    const count = this.#batch.viewBuffers[this.#views++] ?? 0;
    if (count < 0 || count > this.#batch.buffers.length) throw new Error(`a column has ${count} buffers of strings`);
    return count;
  }

  skip(buffers: number): void {
    this.#buffer += buffers;
  }

  bytes(): Buffer {
    const place = this.#batch.buffers[this.#buffer++];
    if (place === undefined) throw new Error("it has fewer buffers than its schema");
    const bytes = this.#body.subarray(place.offset, place.offset + place.length);
    return this.#batch.codec === "none" || bytes.length === 0 ? bytes : this.#decompressed(bytes);
  }

  #decompressed(bytes: Buffer): Buffer {
    const size = sizeOf(bytes);
    this.#decoded += size;
    assertDecodedBytes(this.#decoded, this.#body.length);
    const encoded = bytes.subarray(SIZE_BYTES);
    if (bytes.readBigInt64LE(0) === NOT_COMPRESSED) return encoded;
    const decoded = this.#batch.codec === "zstd" ? unzstd(encoded, size) : this.#lz4(encoded, size);
    return Buffer.from(decoded.buffer, decoded.byteOffset, decoded.byteLength);
  }

  #lz4(encoded: Buffer, size: number): Uint8Array {
    if (this.#batch.codec === "unknown") throw new Error("its compression is neither LZ4 nor zstd");
    return unlz4(encoded, size);
  }
}

/** Decoded size of a buffer of a compressed body, which precedes it; infinite for an invalid one. */
function sizeOf(bytes: Buffer): number {
  if (bytes.length === 0) return 0;
  const size = bytes.length < SIZE_BYTES ? -2n : bytes.readBigInt64LE(0);
  if (size < NOT_COMPRESSED) return Infinity;
  return size === NOT_COMPRESSED ? bytes.length - SIZE_BYTES : Number(size);
}

interface ColumnParams {
  readonly field: ArrowField;
  readonly parts: Parts;
  readonly dictionaries: Dictionaries;
  /** Number of values that are referred to, at least. */
  readonly length: number;
}

function columnOf({ field, parts, dictionaries, length: needed }: ColumnParams): ValueReader {
  const length = parts.length();
  if (length < needed) throw new Error(`a column has ${length} values for ${needed} rows`);
  const type = field.dictionary === null ? field.type : field.dictionary.index;
  const buffers = buffersOf(type, parts, length);
  const children = field.dictionary === null ? field.children : [];
  const childOf = (at: number, least: number): ValueReader => {
    const child = children[at];
    if (child === undefined) throw new Error(`a column of type ${type.kind} has too few parts`);
    return columnOf({ field: child, parts, dictionaries, length: least });
  };
  const names = children.map(({ name }) => name);
  const read = readerOf({ type, extension: field.extension, buffers, names, childOf });
  return field.dictionary === null ? read : dictionaries.reader(field.dictionary.id, read);
}

function buffersOf(type: ArrowType, parts: Parts, length: number): Buffers {
  const count = bufferCount(type, parts);
  if (count === 0) return { length, validity: null, data: [] };
  const validity = parts.bytes();
  if (validity.length > 0 && validity.length * 8 < length)
    throw new Error(`a column of ${length} values has a bitmap of ${validity.length} bytes`);
  const data = Array.from({ length: count - 1 }, () => parts.bytes());
  return { length, validity: validity.length === 0 ? null : validity, data };
}

/** Number of buffers, the validity bitmap included. */
function bufferCount(type: ArrowType, parts: Parts): number {
  switch (type.kind) {
    case "null":
    case "run-end encoded":
      return 0;
    case "struct":
    case "fixed-size list":
      return 1;
    case "text":
    case "binary":
      return type.layout === "view" ? 2 + parts.viewBuffers() : 3;
    case "list view":
      return 3;
    case "union":
      return (type.isDense ? 2 : 1) + (parts.hasUnionValidity ? 1 : 0);
    case "unknown":
      throw new Error("it has a column of an unknown type before one that is read");
    default:
      return 2;
  }
}

function skip(field: ArrowField, parts: Parts): void {
  parts.length();
  parts.skip(bufferCount(field.dictionary === null ? field.type : field.dictionary.index, parts));
  if (field.dictionary === null) for (const child of field.children) skip(child, parts);
}

// --- Dictionaries ---------------------------------------------------------------------------------------------

/** Values that one message adds to a dictionary; decoded when a batch first refers to them. */
interface Segment {
  readonly start: number;
  readonly end: number;
  readonly bytes: number;
  readonly decode: () => ValueReader;
}

/** The dictionaries that batches refer to: each is replaced or extended by later messages. */
export class Dictionaries {
  readonly #name: string;
  readonly #fields = new Map<bigint, ArrowField>();
  readonly #segments = new Map<bigint, Segment[]>();
  #bytes = 0;

  /** @param name Name of the object, for errors. */
  constructor(name: string, fields: readonly ArrowField[]) {
    this.#name = name;
    for (const field of fields) this.#register(field);
  }

  #register(field: ArrowField): void {
    if (field.dictionary !== null && !this.#fields.has(field.dictionary.id))
      this.#fields.set(field.dictionary.id, { ...field, dictionary: null });
    for (const child of field.children) this.#register(child);
  }

  /** @throws FleetError `source_unreadable` when the dictionaries exceed a limit */
  add(message: Message & { readonly kind: "dictionary" }): void {
    const { id, isDelta } = message;
    const field = this.#fields.get(id);
    if (field === undefined || !isReadableField(field)) return;
    const before = isDelta ? (this.#segments.get(id) ?? []) : [];
    if (!isDelta) for (const { bytes } of this.#segments.get(id) ?? []) this.#bytes -= bytes;
    const start = before.at(-1)?.end ?? 0;
    const bytes = heldBytes(message);
    this.#bytes += bytes;
    if (this.#bytes > MAX_DICTIONARY_BYTES)
      throw new FleetError(
        "source_unreadable",
        `${this.#name} has dictionaries of more than ${MAX_DICTIONARY_BYTES} bytes; write its columns without dictionaries`,
      );
    let reader: ValueReader | null = null;
    const decode = (): ValueReader => (reader ??= this.#decode(field, message));
    before.push({ start, end: start + message.rows, bytes, decode });
    this.#segments.set(id, before);
  }

  #decode(field: ArrowField, message: BatchMessage): ValueReader {
    assertRows(message.rows, message.body.length);
    return columnOf({ field, parts: new Parts(message), dictionaries: this, length: message.rows });
  }

  /** Values by index. */
  reader(id: bigint, indexAt: ValueReader): ValueReader {
    const segments = this.#segments.get(id);
    if (segments === undefined) throw new Error(`the dictionary ${id} is missing`);
    const values = segments.at(-1)!.end;
    return (row) => {
      const index = indexAt(row);
      if (index === null) return null;
      const at = Number(index);
      if (at < 0 || at >= values) throw new Error(`a value refers to entry ${at} of a dictionary of ${values}`);
      const segment = segmentAt(segments, at);
      return segment.decode()(at - segment.start);
    };
  }
}

function segmentAt(segments: readonly Segment[], index: number): Segment {
  let [low, high] = [0, segments.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (segments[middle]!.end > index) high = middle;
    else low = middle + 1;
  }
  return segments[low]!;
}

/** Size in memory: as read or decoded, whichever is larger. */
function heldBytes({ batch, body }: BatchMessage): number {
  if (batch.codec === "none") return body.length;
  const sizes = batch.buffers.map(({ offset, length }) => sizeOf(body.subarray(offset, offset + length)));
  return sizes.reduce((sum, size) => sum + size, body.length);
}
