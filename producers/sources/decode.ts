/** Decodes an object's bytes to plain UTF-8; its first bytes, not its name, determine compression and UTF-16. */
import { FleetError, messageOf } from "../../src/core/errors.ts";
import type { ByteSource } from "../../src/core/ports.ts";
import { gunzip } from "./gunzip.ts";
import { Utf16Decoder } from "./wide-text.ts";
import { ZstdDecoder } from "./zstd.ts";

/** Block size of inflation, in bytes: at most this much before the damage in a damaged gzip file is lost. */
const INFLATE_BYTES = 64 * 1024;
const GZIP_MAGIC = Buffer.from([0x1f, 0x8b]);
/** Enough bytes for any of the magic numbers. */
const MAGIC_BYTES = 10;
const ZSTD_MAGIC = Buffer.from([0x28, 0xb5, 0x2f, 0xfd]);
/** Magic number of a skippable zstd frame, without its first byte, whose lowest four bits are free. */
const ZSTD_SKIPPABLE = Buffer.from([0x2a, 0x4d, 0x18]);
/** Compression that is not decoded, by its first bytes in Latin-1. */
const UNKNOWN_COMPRESSIONS = [
  { begins: /^BZh[1-9]1AY&SY/, name: "bzip2", command: "bzcat" },
  { begins: /^\u{fd}7zXZ\0/u, name: "xz", command: "xzcat" },
] as const;
const UTF8_MARK = Buffer.from([0xef, 0xbb, 0xbf]);
const UTF16_MARKS = [
  { mark: Buffer.from([0xff, 0xfe]), isBigEndian: false },
  { mark: Buffer.from([0xfe, 0xff]), isBigEndian: true },
] as const;

/**
 * Plain UTF-8 bytes, without a byte order mark. The format's reader checks that the rest is valid UTF-8,
 * line by line or row by row, with `textOf`: half of a surrogate pair in UTF-16 has no valid bytes.
 *
 * @throws FleetError `source_unreadable` for damaged or shortened gzip and zstd, and errors of `source`.
 */
export async function* plainText(source: ByteSource): AsyncGenerator<Buffer> {
  const raw = await peek(source.stream(), MAGIC_BYTES);
  const text = await peek(inflated(raw, source.name), UTF8_MARK.length);
  const wide = UTF16_MARKS.find(({ mark }) => startsWith(text.head, mark));
  if (wide !== undefined) yield* fromUtf16(text.chunks, wide.isBigEndian, source.name);
  else if (startsWith(text.head, UTF8_MARK)) yield* skip(text.chunks, UTF8_MARK.length);
  else yield* text.chunks;
}

/** True if these first bytes begin uncompressed UTF-8 text, so that ranges of the object can be read alone. */
export function isPlain(head: Buffer): boolean {
  const marks = [GZIP_MAGIC, ZSTD_MAGIC, ...UTF16_MARKS.map(({ mark }) => mark)];
  return !isSkippableZstd(head) && !marks.some((mark) => startsWith(head, mark));
}

/** The same source with another stream: partly read, or a range. Its methods may be those of a class. */
export function withStream(source: ByteSource, chunks: AsyncIterable<Buffer>): ByteSource {
  return {
    name: source.name,
    bytes: source.bytes,
    stream: () => chunks,
    readRange: (range) => source.readRange(range),
    close: () => source.close(),
  };
}

export interface Peeked {
  /** The first bytes; fewer than asked for only when there are no more. */
  readonly head: Buffer;
  /** All bytes, from the first. */
  readonly chunks: AsyncGenerator<Buffer>;
}

/** Peeks at the first bytes; a pipe may deliver a single byte first. An error is thrown when `chunks` reaches it. */
export async function peek(chunks: AsyncIterable<Buffer>, bytes: number): Promise<Peeked> {
  const iterator = chunks[Symbol.asyncIterator]();
  let head: Buffer = Buffer.alloc(0);
  let fault: unknown;
  try {
    while (head.length < bytes) {
      const next = await iterator.next();
      if (next.done === true) break;
      head = head.length === 0 ? next.value : Buffer.concat([head, next.value]);
    }
  } catch (error) {
    fault = error;
  }
  return { head, chunks: chained(head, iterator, fault) };
}

async function* chained(head: Buffer, rest: AsyncIterator<Buffer>, fault: unknown): AsyncGenerator<Buffer> {
  try {
    if (head.length > 0) yield head;
    if (fault !== undefined) throw fault;
    for (let next = await rest.next(); next.done !== true; next = await rest.next()) yield next.value;
  } finally {
    await rest.return?.();
  }
}

function startsWith(bytes: Buffer, magic: Buffer): boolean {
  return bytes.subarray(0, magic.length).equals(magic);
}

function inflated({ head, chunks }: Peeked, name: string): AsyncGenerator<Buffer> {
  if (startsWith(head, GZIP_MAGIC)) return gunzipped(chunks, name);
  if (startsWith(head, ZSTD_MAGIC) || isSkippableZstd(head)) return unzstded(chunks, name);
  const unknown = UNKNOWN_COMPRESSIONS.find(({ begins }) => begins.test(head.toString("latin1")));
  return unknown === undefined ? chunks : refused(chunks, name, unknown);
}

/** Ends at once with an error that names the compression and what to do. */
async function* refused(
  chunks: AsyncGenerator<Buffer>,
  name: string,
  { name: kind, command }: (typeof UNKNOWN_COMPRESSIONS)[number],
): AsyncGenerator<Buffer> {
  await chunks.return(undefined);
  yield* [];
  throw new FleetError(
    "source_unreadable",
    `${name} is compressed with ${kind}, which is not decoded; write it as gzip or zstd (${command} FILE | zstd)`,
  );
}

function isSkippableZstd(head: Buffer): boolean {
  return head.length >= 4 && (head[0]! & 0xf0) === 0x50 && startsWith(head.subarray(1), ZSTD_SKIPPABLE);
}

async function* gunzipped(chunks: AsyncGenerator<Buffer>, name: string): AsyncGenerator<Buffer> {
  try {
    yield* gunzip(chunks, INFLATE_BYTES);
  } catch (error) {
    throw damaged(name, "gzip", error);
  }
}

async function* unzstded(chunks: AsyncGenerator<Buffer>, name: string): AsyncGenerator<Buffer> {
  const decoder = new ZstdDecoder();
  try {
    for await (const chunk of chunks)
      for (const block of decoder.push(chunk)) yield Buffer.from(block.buffer, block.byteOffset, block.byteLength);
    decoder.end();
  } catch (error) {
    throw damaged(name, "zstd", error);
  }
}

function damaged(name: string, kind: "gzip" | "zstd", error: unknown): FleetError {
  if (error instanceof FleetError) return error;
  return new FleetError("source_unreadable", `${name} is damaged or ends early: ${kind} says ${messageOf(error)}`, {
    cause: error,
  });
}

async function* fromUtf16(chunks: AsyncGenerator<Buffer>, isBigEndian: boolean, name: string): AsyncGenerator<Buffer> {
  const decoder = new Utf16Decoder(isBigEndian);
  try {
    for await (const chunk of chunks) yield decoder.push(chunk);
    yield decoder.end();
  } catch (error) {
    if (error instanceof FleetError) throw error;
    throw new FleetError("source_unreadable", `${name} is UTF-16 text that ends early: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

async function* skip(chunks: AsyncGenerator<Buffer>, bytes: number): AsyncGenerator<Buffer> {
  let left = bytes;
  for await (const chunk of chunks) {
    if (chunk.length > left) yield chunk.subarray(left);
    left = Math.max(0, left - chunk.length);
  }
}
