/**
 * Exact values of Parquet columns. The library rounds decimals and times, so it is given a schema without these types,
 * and the values that it then returns as they are stored are converted here.
 */
import { isUtf8 } from "node:buffer";
import type { FileMetaData, SchemaElement, SchemaTree } from "hyparquet";
import { isListLike, isMapLike } from "hyparquet/src/schema.js";
import { Decimal, Moment, timeText } from "../../src/core/exact.ts";
import { uuidText } from "./arrow-values.ts";
import { NOT_UTF8 } from "./record.ts";

type Convert = (value: unknown) => unknown;

/** Limit on the scale of decimals; in practice there are at most 76 digits. */
const MAX_SCALE = 1000;
const DIGITS = { MILLIS: 3, MICROS: 6, NANOS: 9 } as const;
const CONVERTED_DIGITS: Readonly<Record<string, 3 | 6 | undefined>> = {
  TIMESTAMP_MILLIS: 3,
  TIMESTAMP_MICROS: 6,
  TIME_MILLIS: 3,
  TIME_MICROS: 6,
};

/** Parsers of the library that leave its values as they are stored, but for text. */
export const PARSERS = { stringFromBytes, jsonFromBytes, timestampFromNanoseconds: (nanos: bigint): bigint => nanos };

/** The schema for the library: text is text, and what is converted here has no type but the physical one. */
export function rawMetadata(metadata: FileMetaData, schema: SchemaTree): FileMetaData {
  const variants = new Set(elementsBelow(schema, false));
  return {
    ...metadata,
    schema: metadata.schema.map((element) => (variants.has(element) ? element : rawElement(element))),
  };
}

/** Elements of VARIANT columns, which the library decodes as a whole. */
function elementsBelow(node: SchemaTree, isVariant: boolean): SchemaElement[] {
  const inside = isVariant || node.element.logical_type?.type === "VARIANT";
  const below = node.children.flatMap((child) => elementsBelow(child, inside));
  return inside ? [node.element, ...below] : below;
}

function rawElement(element: SchemaElement): SchemaElement {
  if (isTextElement(element))
    return element.converted_type === "JSON" ? element : { ...element, logical_type: { type: "STRING" } };
  const isBytes = element.converted_type === "INTERVAL" || element.converted_type === "BSON";
  if (!isBytes && leafConvert(element) === null) return element;
  const { converted_type: _, logical_type: __, ...raw } = element;
  return raw;
}

/** Text, and bytes of no type, which some writers have for text. */
export function isTextElement({ type, converted_type: converted, logical_type: logical }: SchemaElement): boolean {
  const isOther = converted === "DECIMAL" || converted === "BSON" || ["DECIMAL", "BSON"].includes(logical?.type ?? "");
  const isShape = logical?.type === "GEOMETRY" || logical?.type === "GEOGRAPHY";
  return type === "BYTE_ARRAY" && !isOther && !isShape;
}

/** Converts a column's value; null when it is exact as it comes. */
export function convertOf(node: SchemaTree): Convert | null {
  const convert = itemConvert(node);
  // Without a list around them, repeated values are one.
  return node.element.repetition_type === "REPEATED" ? listConvert(convert) : convert;
}

function itemConvert(node: SchemaTree): Convert | null {
  const { element, children } = node;
  if (element.logical_type?.type === "VARIANT") return null;
  if (children.length === 0) return leafConvert(element);
  if (isListLike(node)) {
    const repeated = children[0]!;
    return listConvert(repeated.children.length === 1 ? convertOf(repeated.children[0]!) : itemConvert(repeated));
  }
  if (isMapLike(node)) {
    const [key, value] = children[0]!.children.map(convertOf) as [Convert | null, Convert | null];
    return mapConvert(key, value);
  }
  return structConvert(children);
}

function listConvert(convert: Convert | null): Convert | null {
  if (convert === null) return null;
  return (value) => (Array.isArray(value) ? value.map(convert) : convert(value));
}

/** The library has made text of keys; those of numbers are made numbers again. */
function mapConvert(key: Convert | null, value: Convert | null): Convert | null {
  if (key === null && value === null) return null;
  const keyText = (text: string): string => (key === null || !/^-?\d+$/.test(text) ? text : String(key(BigInt(text))));
  return (map) =>
    isObject(map)
      ? Object.fromEntries(Object.entries(map).map(([name, part]) => [keyText(name), value?.(part) ?? part]))
      : map;
}

function structConvert(children: readonly SchemaTree[]): Convert | null {
  const converts = children.flatMap((child): [string, Convert][] => {
    const convert = convertOf(child);
    return convert === null ? [] : [[child.element.name, convert]];
  });
  if (converts.length === 0) return null;
  return (struct) => {
    if (!isObject(struct)) return struct;
    const copy = { ...struct };
    for (const [name, convert] of converts) copy[name] = convert(copy[name]);
    return copy;
  };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Uint8Array);
}

// --- Leaves ---------------------------------------------------------------------------------------------------

function leafConvert(element: SchemaElement): Convert | null {
  const convert = presentConvert(element);
  return convert === null ? null : (value) => (value === undefined || value === null ? null : convert(value));
}

function presentConvert(element: SchemaElement): Convert | null {
  const { type, converted_type: converted, logical_type: logical } = element;
  if (logical?.type === "DECIMAL" || converted === "DECIMAL") {
    const scale = (logical?.type === "DECIMAL" ? logical.scale : element.scale) ?? 0;
    if (Math.abs(scale) > MAX_SCALE) throw new Error(`the column ${element.name} has a scale of ${scale}`);
    return (value) => new Decimal(unscaledOf(value), scale);
  }
  if (logical?.type === "UUID") return (value) => uuidText(bufferOf(value));
  if (logical?.type === "DATE" || converted === "DATE") return (value) => Moment.ofDays(Number(value));
  if (type === "INT96") return (value) => Moment.ofTicks(value as bigint, 9, false);
  const digits =
    logical?.type === "TIMESTAMP" || logical?.type === "TIME"
      ? DIGITS[logical.unit]
      : CONVERTED_DIGITS[converted ?? ""];
  if (digits === undefined) return null;
  if (logical?.type === "TIME" || converted?.startsWith("TIME_") === true)
    return (value) => timeText(Number(value) * 10 ** (9 - digits), digits);
  // The older type does not say whether it has a zone.
  const isZoned = logical?.type === "TIMESTAMP" && logical.isAdjustedToUTC;
  return (value) => Moment.ofTicks(value as bigint, digits, isZoned);
}

/** A whole number; bytes are one in two's complement, the highest first. */
function unscaledOf(value: unknown): bigint {
  if (!(value instanceof Uint8Array)) return BigInt(value as number | bigint);
  return value.length === 0 ? 0n : BigInt.asIntN(value.length * 8, BigInt(`0x${bufferOf(value).toString("hex")}`));
}

function bufferOf(value: unknown): Buffer {
  const { buffer, byteOffset, byteLength } = value as Uint8Array;
  return Buffer.from(buffer, byteOffset, byteLength);
}

function stringFromBytes(bytes: Uint8Array | undefined): unknown {
  if (bytes === undefined) return undefined;
  const view = bufferOf(bytes);
  return isUtf8(view) ? view.toString("utf8") : NOT_UTF8;
}

/** The value of JSON; its text where it is none, as that does not make the column unreadable. */
function jsonFromBytes(bytes: Uint8Array | undefined): unknown {
  const text = stringFromBytes(bytes);
  if (typeof text !== "string") return text;
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}
