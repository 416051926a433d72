/** Reads the values of an Arrow column from its buffers, each checked for its length first. */
import { isUtf8 } from "node:buffer";
import type { ArrowType } from "../../src/arrow/foreign-metadata.ts";
import { Decimal, Moment, timeText } from "../../src/core/exact.ts";
import { fromHalf } from "../../src/core/half.ts";
import { NOT_UTF8 } from "./record.ts";

export type ValueReader = (row: number) => unknown;

export interface Buffers {
  /** Number of values. */
  readonly length: number;
  /** A bit for each value, set where there is one; null when there is one everywhere. */
  readonly validity: Uint8Array | null;
  readonly data: readonly Buffer[];
}

interface ReaderParams {
  readonly type: ArrowType;
  readonly extension: string | null;
  readonly buffers: Buffers;
  /** Names of the children. */
  readonly names: readonly string[];
  /** Reader of a child, to be called in their order; the second parameter is the least number of values that it must have. */
  readonly childOf: (at: number, least: number) => ValueReader;
}

const UNREADABLE = new Set<ArrowType["kind"]>(["union", "run-end encoded", "list view", "interval", "unknown"]);
const VIEW_BYTES = 16;
/** Longest string that a view itself holds. */
const INLINE_BYTES = 12;
/** Limit on the scale of decimals; Arrow's have at most 76 digits. */
const MAX_SCALE = 1000;

export function isReadable(type: ArrowType): boolean {
  return !UNREADABLE.has(type.kind);
}

/** @throws Error when buffers are shorter than the values need, or refer to what is not there */
export function readerOf(params: ReaderParams): ValueReader {
  const read = valueReader(params);
  const { validity } = params.buffers;
  if (validity === null) return read;
  return (row) => ((validity[row >> 3]! >> (row & 7)) & 1 ? read(row) : null);
}

function valueReader(params: ReaderParams): ValueReader {
  const { type, buffers } = params;
  switch (type.kind) {
    case "null":
      return () => null;
    case "bool": {
      const bits = atLeast(buffers, Math.ceil(buffers.length / 8));
      return (row) => ((bits[row >> 3]! >> (row & 7)) & 1) === 1;
    }
    case "int": {
      if (type.bits > 64) return wideReader(buffers, type.bits, type.isSigned);
      const values = integers(buffers, type.bits, type.isSigned);
      return (row) => values[row];
    }
    case "float":
      return floatReader(buffers, type.bits);
    case "text":
    case "binary":
      return type.layout === "view" ? viewReader(buffers) : stringReader(buffers, type.layout);
    case "fixed-size binary":
      return binaryReader(buffers, type.bytes, params.extension);
    case "decimal":
      return decimalReader(buffers, type);
    case "date":
    case "time":
    case "timestamp":
    case "duration":
      return timeReader(buffers, type);
    default:
      return nestedReader(params);
  }
}

function nestedReader({ type, buffers, names, childOf }: ReaderParams): ValueReader {
  switch (type.kind) {
    case "struct": {
      const children = names.map((name, at) => [name, childOf(at, buffers.length)] as const);
      return (row) => Object.fromEntries(children.map(([name, read]) => [name, read(row)]));
    }
    case "list":
      return listReader(buffers, type.bits, (least) => childOf(0, least));
    case "map": {
      const entries = listReader(buffers, 32, (least) => childOf(0, least));
      return (row) => Object.fromEntries((entries(row) as object[]).map(keyAndValue));
    }
    case "fixed-size list": {
      const { size } = type;
      if (size < 0) throw new Error(`a list has ${size} values`);
      const child = childOf(0, buffers.length * size);
      return (row) => Array.from({ length: size }, (_, i) => child(row * size + i));
    }
    default:
      throw new Error(`a column of type ${type.kind} cannot be read`);
  }
}

/** The two fields of a map's entry, whatever their names. */
function keyAndValue(entry: object): [string, unknown] {
  const [key, value] = Object.values(entry) as unknown[];
  return [String(key), value];
}

// --- Numbers and times ----------------------------------------------------------------------------------------

function atLeast({ data, length }: Buffers, bytes: number): Buffer {
  const buffer = data[0]!;
  if (buffer.length < bytes) throw new Error(`a column of ${length} values has ${buffer.length} bytes`);
  return buffer;
}

type TypedArray = Int8Array | Uint8Array | Int16Array | Uint16Array | Int32Array | Uint32Array | Float32Array;
type Values = TypedArray | Float64Array | BigInt64Array | BigUint64Array;

interface ArrayOf<T> {
  readonly BYTES_PER_ELEMENT: number;
  new (buffer: ArrayBufferLike, byteOffset: number, length: number): T;
}

/** A view of the buffer, or of a copy where it is not aligned. */
function typed<T extends Values>(type: ArrayOf<T>, bytes: Buffer, length: number): T {
  const size = type.BYTES_PER_ELEMENT;
  if (bytes.length < length * size) throw new Error(`a column of ${length} values has ${bytes.length} bytes`);
  if (bytes.byteOffset % size === 0) return new type(bytes.buffer, bytes.byteOffset, length);
  const copy = Uint8Array.prototype.slice.call(bytes, 0, length * size);
  return new type(copy.buffer, copy.byteOffset, length);
}

function integers({ data, length }: Buffers, bits: number, isSigned: boolean): Values {
  const bytes = data[0]!;
  switch (bits) {
    case 8:
      return typed<Values>(isSigned ? Int8Array : Uint8Array, bytes, length);
    case 16:
      return typed<Values>(isSigned ? Int16Array : Uint16Array, bytes, length);
    case 32:
      return typed<Values>(isSigned ? Int32Array : Uint32Array, bytes, length);
    case 64:
      return typed<Values>(isSigned ? BigInt64Array : BigUint64Array, bytes, length);
    default:
      throw new Error(`a column of integers has ${bits} bits`);
  }
}

function floatReader({ data, length }: Buffers, bits: number): ValueReader {
  if (bits === 16) {
    const floats = fromHalf(typed(Uint16Array, data[0]!, length));
    return (row) => floats[row];
  }
  const values = bits === 32 ? typed(Float32Array, data[0]!, length) : typed(Float64Array, data[0]!, length);
  return (row) => values[row];
}

function decimalReader(buffers: Buffers, { bits, scale }: ArrowType & { kind: "decimal" }): ValueReader {
  if (Math.abs(scale) > MAX_SCALE) throw new Error(`a column of decimals has a scale of ${scale}`);
  if (bits <= 64) {
    const values = integers(buffers, bits, true);
    return (row) => new Decimal(BigInt(values[row]!), scale);
  }
  const unscaledAt = wideReader(buffers, bits, true);
  return (row) => new Decimal(unscaledAt(row), scale);
}

/** Integers of 128 or 256 bits, the lowest first. */
function wideReader({ data, length }: Buffers, bits: number, isSigned: boolean): (row: number) => bigint {
  const words = bits / 64;
  if (words !== 2 && words !== 4) throw new Error(`a column of numbers has ${bits} bits`);
  const values = typed(BigUint64Array, data[0]!, length * words);
  return (row) => {
    let all = 0n;
    for (let word = words - 1; word >= 0; word--) all = (all << 64n) | values[row * words + word]!;
    return isSigned ? BigInt.asIntN(bits, all) : all;
  };
}

type TimeType = ArrowType & { kind: "date" | "time" | "timestamp" | "duration" };

function timeReader(buffers: Buffers, type: TimeType): ValueReader {
  const isShort = type.kind === "date" ? type.unit === "day" : type.kind === "time" && type.bits === 32;
  const values = integers(buffers, isShort ? 32 : 64, true);
  if (type.kind === "duration") return (row) => values[row];
  if (type.kind === "date") {
    const perDay = isShort ? 1 : 86_400_000;
    return (row) => Moment.ofDays(Math.floor(Number(values[row]) / perDay));
  }
  const { unit } = type;
  if (type.kind === "timestamp") return (row) => Moment.ofTicks(values[row] as bigint, unit, type.isZoned);
  return (row) => timeText(Number(values[row]) * 10 ** (9 - unit), unit);
}

// --- Text and binary ------------------------------------------------------------------------------------------

/** Text that is checked to be UTF-8; a column of binary is read as text too, as some writers have no other. */
function stringReader({ data, length }: Buffers, bits: 32 | 64): ValueReader {
  const bytes = data[1]!;
  const offsets = offsetsOf(data[0]!, { length, bits, limit: bytes.length });
  return (row) => utf8(bytes, Number(offsets[row]), Number(offsets[row + 1]));
}

function utf8(bytes: Buffer, start: number, end: number): unknown {
  const value = bytes.subarray(start, end);
  return isUtf8(value) ? value.toString("utf8") : NOT_UTF8;
}

function viewReader({ data, length }: Buffers): ValueReader {
  const [views, ...buffers] = data as [Buffer, ...Buffer[]];
  if (views.length < length * VIEW_BYTES) throw new Error(`a column of ${length} strings has ${views.length} bytes`);
  return (row) => {
    const at = row * VIEW_BYTES;
    const bytes = views.readInt32LE(at);
    if (bytes >= 0 && bytes <= INLINE_BYTES) return utf8(views, at + 4, at + 4 + bytes);
    const buffer = buffers[views.readInt32LE(at + 8)];
    const start = views.readInt32LE(at + 12);
    if (buffer === undefined || bytes < 0 || start < 0 || start + bytes > buffer.length)
      throw new Error(`a string of ${bytes} bytes at ${start} is outside of its column`);
    return utf8(buffer, start, start + bytes);
  };
}

/**
 * Refuses overlapping values: there could be as many as offsets, each as long as all of the bytes.
 * @param limit Largest offset; Infinity when it is not known yet.
 */
function offsetsOf(
  bytes: Buffer,
  { length, bits, limit }: Readonly<{ length: number; bits: 32 | 64; limit: number }>,
): Int32Array | BigInt64Array {
  // Without values, some writers leave out the first offset too.
  if (length === 0) return new Int32Array(1);
  if (bytes.length < (length + 1) * (bits / 8))
    throw new Error(`a column of ${length} values has ${bytes.length} bytes`);
  const offsets = bits === 32 ? typed(Int32Array, bytes, length + 1) : typed(BigInt64Array, bytes, length + 1);
  let before = 0;
  for (let row = 0; row <= length; row++) {
    const offset = Number(offsets[row]);
    if (offset < before || offset > limit) throw new Error(`a value begins at ${offset} of ${limit}`);
    before = offset;
  }
  return offsets;
}

function listReader({ data, length }: Buffers, bits: 32 | 64, childOf: (least: number) => ValueReader): ValueReader {
  const offsets = offsetsOf(data[0]!, { length, bits, limit: Infinity });
  const child = childOf(Number(offsets[length]));
  return (row) => {
    const start = Number(offsets[row]);
    return Array.from({ length: Number(offsets[row + 1]) - start }, (_, i) => child(start + i));
  };
}

/** Bytes that are their hexadecimal digits where text is needed; a UUID in its usual form. */
function binaryReader({ data, length }: Buffers, width: number, extension: string | null): ValueReader {
  const bytes = data[0]!;
  if (width < 0 || bytes.length < length * width)
    throw new Error(`a column of ${length} values of ${width} bytes has ${bytes.length}`);
  const at = (row: number): Buffer => bytes.subarray(row * width, (row + 1) * width);
  return extension === "arrow.uuid" && width === 16 ? (row) => uuidText(at(row)) : at;
}

/** @param bytes sixteen */
export function uuidText(bytes: Buffer): string {
  return bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}
