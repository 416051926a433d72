/**
 * Reads the messages of Arrow IPC in order. A stream is read from front to back. A file is read by its footer, as some
 * writers leave out what a stream has: arrow-js the schema, Polars the lengths, Go the end mark. A file that has no
 * ranges (a pipe, gzip) is read from front to back as long as it is written like a stream, and held whole otherwise.
 */
import { Readable } from "node:stream";
import {
  type ArrowField,
  type Block,
  type Footer,
  type MessageInfo,
  readFooter,
  readMessageInfo,
} from "../../src/arrow/foreign-metadata.ts";
import { FleetError } from "../../src/core/errors.ts";
import type { ByteSource } from "../../src/core/ports.ts";
import { plainText, withStream } from "./decode.ts";
import { damageOf } from "./unreadable.ts";

const MAGIC = "ARROW1";
const FILE_MAGIC = Buffer.from(`${MAGIC}\0\0`);
const FEATHER_MAGIC = "FEA1";
const CONTINUATION = 0xffffffff;
const MIN_METADATA_BYTES = 8;
const MAX_METADATA_BYTES = 64 * 1024 * 1024;
/** Limit on a batch's body, which is held twice: as read and decompressed. */
const MAX_BODY_BYTES = 1024 * 1024 * 1024;
/** Limit on a file that must be held whole because it has no ranges. */
const MAX_HELD_BYTES = 256 * 1024 * 1024;
/** Bytes of a file's end that are read first; most footers are shorter. */
const TAIL_BYTES = 64 * 1024;
/** Length of the footer and magic number, the last bytes of a file. */
const END_BYTES = 4 + MAGIC.length;

export type Message = MessageInfo & {
  /** Number of rows of a batch or entries of a dictionary; 0 for a schema. */
  readonly rows: number;
  /** The message without its length and body. */
  readonly metadata: Buffer;
  readonly body: Buffer;
  /** The message with its length and body, as it is in the source. */
  readonly bytes: Buffer;
};

/** Reads messages. @throws FleetError `source_unreadable` for damaged framing, and errors of `source`. */
export async function* readMessages(source: ByteSource): AsyncGenerator<Message> {
  const footer = await footerByRange(source);
  if (footer !== null) yield* fileMessages(source, footer);
  else yield* streamMessages(source);
}

function refusal(source: ByteSource, problem: string): FleetError {
  return new FleetError("source_unreadable", `${source.name} ${problem}`);
}

// --- By the footer --------------------------------------------------------------------------------------------

/** The footer of a file with ranges; null for everything else, and for a file whose footer is not there. */
async function footerByRange(source: ByteSource): Promise<Footer | null> {
  const { bytes: total } = source;
  if (total === null || total < FILE_MAGIC.length + END_BYTES) return null;
  const read = (start: number): Promise<Buffer> => source.readRange({ start, end: total });
  const tail = await read(Math.max(0, total - TAIL_BYTES));
  if (!endsAsFile(tail)) return null;
  const footerBytes = tail.readInt32LE(tail.length - END_BYTES);
  if (footerBytes < MIN_METADATA_BYTES || footerBytes > MAX_METADATA_BYTES) return null;
  const start = total - END_BYTES - footerBytes;
  if (start < FILE_MAGIC.length) return null;
  const end = start >= total - tail.length ? tail : await read(start - FILE_MAGIC.length);
  return footerIn(end);
}

function endsAsFile(bytes: Buffer): boolean {
  return bytes.length >= END_BYTES && bytes.toString("latin1", bytes.length - MAGIC.length) === MAGIC;
}

/** The footer at the end of the bytes; null when there is none. */
function footerIn(bytes: Buffer): Footer | null {
  if (!endsAsFile(bytes)) return null;
  try {
    return readFooter(bytes);
  } catch {
    return null;
  }
}

async function* fileMessages(source: ByteSource, { fields, dictionaries, batches }: Footer): AsyncGenerator<Message> {
  const reader = new ExactReader(source.stream());
  const order = inOrder(dictionaries, batches);
  const isSequential = order.every(({ offset }, i) => i === 0 || offset >= endOf(order[i - 1]!));
  try {
    yield schemaMessage(fields);
    for (const block of order) {
      const { offset, metadataBytes } = block;
      const size = sizeOf(block);
      if (size === null) throw refusal(source, `has a footer that refers to ${metadataBytes} bytes at ${offset}`);
      assertBody(source, block.bodyBytes);
      const bytes = isSequential
        ? await reader.readAt(offset, size)
        : await source.readRange({ start: offset, end: offset + size });
      if (bytes.length < size) throw refusal(source, "ends early");
      yield blockMessage(source, bytes, block);
    }
  } finally {
    await reader.close();
  }
}

function schemaMessage(fields: readonly ArrowField[]): Message {
  const none = Buffer.alloc(0);
  return { kind: "schema", fields, rows: 0, bodyBytes: 0, metadata: none, body: none, bytes: none };
}

/**
 * Batches in the order of the footer, each after the dictionaries that precede it in the file. If none precedes the first
 * batch, as the format allows, all dictionaries come first.
 */
function inOrder(dictionaries: readonly Block[], batches: readonly Block[]): Block[] {
  const waiting = [...dictionaries].sort((a, b) => a.offset - b.offset);
  const first = batches[0]?.offset ?? 0;
  if (waiting.length > 0 && waiting[0]!.offset > first) return [...waiting, ...batches];
  const order: Block[] = [];
  for (const batch of batches) {
    while (waiting.length > 0 && waiting[0]!.offset < batch.offset) order.push(waiting.shift()!);
    order.push(batch);
  }
  return order;
}

function endOf({ offset, metadataBytes, bodyBytes }: Block): number {
  return offset + metadataBytes + bodyBytes;
}

/** Size of a block in bytes; null for an impossible one. */
function sizeOf({ offset, metadataBytes, bodyBytes }: Block): number | null {
  const isPossible =
    Number.isSafeInteger(offset) &&
    offset >= 0 &&
    metadataBytes >= MIN_METADATA_BYTES &&
    metadataBytes <= MAX_METADATA_BYTES &&
    Number.isSafeInteger(bodyBytes) &&
    bodyBytes >= 0;
  return isPossible ? metadataBytes + bodyBytes : null;
}

function blockMessage(source: ByteSource, bytes: Buffer, block: Block): Message {
  const prefix = bytes.readUInt32LE(0) === CONTINUATION ? 8 : 4;
  const length = bytes.readInt32LE(prefix - 4);
  if (length < MIN_METADATA_BYTES || prefix + length > block.metadataBytes)
    throw refusal(source, `has no message at ${block.offset}, where its footer has one`);
  const metadata = bytes.subarray(prefix, prefix + length);
  const info = checked(source, metadata);
  if (info.kind === "schema" || info.bodyBytes > block.bodyBytes)
    throw refusal(source, `has another message at ${block.offset} than its footer says`);
  const body = bytes.subarray(block.metadataBytes, block.metadataBytes + info.bodyBytes);
  return { ...info, rows: info.batch.rows, metadata, body, bytes };
}

// --- From front to back ---------------------------------------------------------------------------------------

async function* streamMessages(source: ByteSource): AsyncGenerator<Message> {
  const reader = new ExactReader(plainText(source));
  try {
    const head = await reader.read(FILE_MAGIC.length);
    if (head.toString("latin1").startsWith(FEATHER_MAGIC))
      throw refusal(source, "is of Feather version 1, which is not read; write it as version 2");
    const isFile = head.equals(FILE_MAGIC);
    if (!isFile) reader.unread(head);
    const first = await nextMessage(source, reader, isFile);
    if (isFile && (first === null || first.kind !== "schema")) {
      if (first !== null) reader.unread(first.bytes);
      yield* heldMessages(source, reader);
      return;
    }
    if (first === null) {
      if ((await reader.read(1)).length > 0) throw refusal(source, "does not begin as Arrow IPC does");
      return;
    }
    let batches = 0;
    for (let message: Message | null = first; message !== null; message = await nextMessage(source, reader, isFile)) {
      if (message.kind === "batch") batches++;
      yield message;
    }
    if (isFile) await assertFooter(source, reader, batches);
  } finally {
    await reader.close();
  }
}

/** A file that is held whole, as only its footer has the schema. */
async function* heldMessages(source: ByteSource, reader: ExactReader): AsyncGenerator<Message> {
  const rest = await reader.rest(MAX_HELD_BYTES);
  if (rest === null)
    throw new FleetError("source_unreadable", `${source.name} is an Arrow file of more than ${MAX_HELD_BYTES} bytes`, {
      cure: "its footer must be read first: read it as an uncompressed file, or write it as a stream",
    });
  const whole = Buffer.concat([FILE_MAGIC, rest]);
  const footer = footerIn(whole);
  if (footer === null) throw noFooter(source);
  const readRange: ByteSource["readRange"] = async ({ start, end }) => whole.subarray(start, end);
  yield* fileMessages({ ...withStream(source, Readable.from([whole])), readRange }, footer);
}

function noFooter(source: ByteSource): FleetError {
  return refusal(source, "ends early: it is an Arrow file without a footer, so that batches may be missing");
}

/** Checks that the file ends as its writer meant it to. */
async function assertFooter(source: ByteSource, reader: ExactReader, batches: number): Promise<void> {
  const rest = await reader.rest(MAX_METADATA_BYTES);
  const footer = rest === null ? null : footerIn(Buffer.concat([FILE_MAGIC, rest]));
  if (footer === null) throw noFooter(source);
  if (footer.batches.length !== batches)
    throw refusal(source, `has ${batches} batches where its footer lists ${footer.batches.length}`);
}

/**
 * The next message; null at the end mark, at the end of the bytes, and in a file where no message begins, whose bytes are
 * then still to be read.
 */
async function nextMessage(source: ByteSource, reader: ExactReader, isFile: boolean): Promise<Message | null> {
  const head = await reader.read(8);
  if (head.length === 0) return null;
  const isFirst = reader.position <= 16;
  const isFramed = head.length === 8 && head.readUInt32LE(0) === CONTINUATION;
  if (!isFramed && isFile) {
    reader.unread(head);
    return null;
  }
  // Before 2020, a length had no mark before it, and the end mark was a length of zero.
  const length = isFramed ? head.readInt32LE(4) : head.length >= 4 ? head.readInt32LE(0) : -1;
  if (length === 0) return null;
  const prefix = isFramed ? 8 : 4;
  if (length < MIN_METADATA_BYTES || length > MAX_METADATA_BYTES)
    throw refusal(
      source,
      isFramed
        ? `has a message whose metadata has ${length} bytes`
        : isFirst
          ? "does not begin as Arrow IPC does"
          : "ends early",
    );
  reader.unread(head.subarray(prefix));
  const metadata = await reader.read(length);
  if (metadata.length < length) throw refusal(source, "ends early");
  const info = checked(source, metadata);
  assertBody(source, info.bodyBytes);
  const body = await reader.read(info.bodyBytes);
  const rows = info.kind === "schema" ? 0 : info.batch.rows;
  if (body.length < info.bodyBytes) throw refusal(source, `ends early, within a batch of ${rows} rows`);
  return {
    ...info,
    rows,
    metadata,
    body,
    get bytes() {
      return Buffer.concat([head.subarray(0, prefix), metadata, body]);
    },
  };
}

function assertBody(source: ByteSource, bodyBytes: number): void {
  if (bodyBytes <= MAX_BODY_BYTES) return;
  throw refusal(
    source,
    `has a batch of ${bodyBytes} bytes; at most ${MAX_BODY_BYTES} are read at once: write smaller batches`,
  );
}

function checked(source: ByteSource, metadata: Buffer): MessageInfo {
  try {
    return readMessageInfo(metadata);
  } catch (error) {
    throw damageOf(source.name, error);
  }
}

/** Reads exact numbers of bytes; fewer only at the end. */
class ExactReader {
  readonly #chunks: AsyncIterator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);
  /** Number of bytes that were read. */
  position = 0;

  constructor(chunks: AsyncIterable<Buffer>) {
    this.#chunks = chunks[Symbol.asyncIterator]();
  }

  async read(bytes: number): Promise<Buffer> {
    const parts: Buffer[] = [this.#rest];
    let have = this.#rest.length;
    while (have < bytes) {
      const next = await this.#chunks.next();
      if (next.done === true) break;
      parts.push(next.value);
      have += next.value.length;
    }
    const all = parts.length === 1 ? parts[0]! : Buffer.concat(parts);
    this.#rest = all.subarray(bytes);
    this.position += Math.min(bytes, all.length);
    return all.subarray(0, bytes);
  }

  /** Reads at a position that is not behind the one reached. */
  async readAt(position: number, bytes: number): Promise<Buffer> {
    while (this.position < position) {
      const skipped = await this.read(Math.min(position - this.position, Math.max(1, this.#rest.length)));
      if (skipped.length === 0) break;
    }
    return this.read(bytes);
  }

  /** Puts back the bytes that were read last. */
  unread(bytes: Buffer): void {
    this.#rest = this.#rest.length === 0 ? bytes : Buffer.concat([bytes, this.#rest]);
    this.position -= bytes.length;
  }

  /** All remaining bytes; null when there are more than the limit. */
  async rest(limit: number): Promise<Buffer | null> {
    const bytes = await this.read(limit + 1);
    return bytes.length > limit ? null : bytes;
  }

  async close(): Promise<void> {
    await this.#chunks.return?.();
  }
}
