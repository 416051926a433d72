/** Lines of a table as text, and their parts as fields. */
import { isUtf8 } from "node:buffer";
import type { RawLine } from "./csv-lines.ts";
import { NOT_UTF8 } from "./record.ts";
import { textOf } from "./wide-text.ts";

/** Null for `\N`, which databases write for NULL where the escape character is a backslash. */
export type Field = string | null | typeof NOT_UTF8;

/** A line as text: of bytes that are not UTF-8, each is one character. */
export interface Text {
  readonly text: string;
  readonly isUtf8: boolean;
}

/** The line with bytes of its own: streams may reuse a chunk's memory. */
export function owned(line: RawLine): RawLine {
  return { ...line, bytes: line.bytes === null ? null : Buffer.from(line.bytes) };
}

export function sizeOf({ length, end }: RawLine): number {
  return length + end.length;
}

export function endOf(text: string, delimiter: string, from: number): number {
  const end = text.indexOf(delimiter, from);
  return end === -1 ? text.length : end;
}

export function toText(bytes: Buffer): Text {
  return isUtf8(bytes)
    ? { text: bytes.toString("utf8"), isUtf8: true }
    : { text: bytes.toString("latin1"), isUtf8: false };
}

export function sliceOf({ text, isUtf8: isText }: Text, start: number, end: number): Field {
  const slice = text.slice(start, end);
  return isText ? slice : (textOf(Buffer.from(slice, "latin1")) ?? NOT_UTF8);
}

export function join(parts: readonly Field[]): Field {
  if (parts.length === 1) return parts[0]!;
  return parts.includes(NOT_UTF8) ? NOT_UTF8 : parts.join("");
}
