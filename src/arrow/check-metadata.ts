/**
 * Bounds checks over Arrow IPC metadata before apache-arrow reads it. That reader trusts every offset and
 * length in the flatbuffers: one changed byte can make it build arrays until the process is out of memory.
 *
 * Layout: https://arrow.apache.org/docs/format/Columnar.html (encapsulated messages, file footer).
 */
import { type Fields, type Target, Verifier } from "./flatbuffer.ts";

const STRING: Target = { kind: "string" };
const NO_POINTERS: Fields = {};
const KEY_VALUE: Fields = { 0: STRING, 1: STRING };
const TIMESTAMP_TYPE = 10;
const TIMESTAMP: Fields = { 1: STRING };
const DICTIONARY: Fields = { 1: { kind: "table", fields: () => NO_POINTERS } };
/** Fields by type. Types without pointers, such as all of ours, are alike. */
const TYPES = Array.from({ length: 32 }, (_, type) => () => (type === TIMESTAMP_TYPE ? TIMESTAMP : NO_POINTERS));
export const KEY_VALUES: Target = { kind: "tables", fields: () => KEY_VALUE };
const FIELD: Fields = {
  0: STRING,
  3: { kind: "union", byType: TYPES },
  4: { kind: "table", fields: () => DICTIONARY },
  5: { kind: "tables", fields: () => FIELD },
  6: KEY_VALUES,
};
export const SCHEMA: Fields = {
  1: { kind: "tables", fields: () => FIELD },
  2: KEY_VALUES,
  3: { kind: "structs", bytes: 8 },
};
export const RECORD_BATCH: Fields = {
  1: { kind: "structs", bytes: 16 },
  2: { kind: "structs", bytes: 16 },
  3: { kind: "table", fields: () => NO_POINTERS },
  4: { kind: "structs", bytes: 8 },
};
export const MESSAGE_HEADER = 2;
export const RECORD_BATCH_TYPE = 3;
const MESSAGE: Fields = {
  [MESSAGE_HEADER]: { kind: "union", byType: { 1: () => SCHEMA, [RECORD_BATCH_TYPE]: () => RECORD_BATCH } },
  4: KEY_VALUES,
};
export const COMPRESSION_FIELD = 3;
/**
 * Most values of a compressed body, whose number is not known before it is decoded: this many for any body, plus one for
 * each of its bytes.
 */
const MOST_COMPRESSED_VALUES = 64n * 1024n * 1024n;
const COMPRESSED_VALUES_PER_BYTE = 64n;
export const BLOCK_BYTES = 24;
const FOOTER: Fields = {
  1: { kind: "table", fields: () => SCHEMA },
  2: { kind: "structs", bytes: BLOCK_BYTES },
  3: { kind: "structs", bytes: BLOCK_BYTES },
  4: KEY_VALUES,
};

export const MAGIC = "ARROW1";
const CONTINUATION = 0xffffffff;
/** Most messages: a schema, a batch, and some more, so that foreign files are refused later with a better message. */
const MAX_MESSAGES = 8;

/** @throws Error that says what is out of bounds; the caller adds what the bytes are. */
export function checkArrowMetadata(bytes: Uint8Array): void {
  const isFile =
    Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).subarray(0, 6).toString("latin1") === MAGIC;
  if (isFile) checkFile(bytes);
  else checkStream(bytes);
}

/**
 * Checks a file's footer alone, which contains its schema.
 * @param bytes A whole file, or its end.
 * @returns The footer, with the file's last bytes.
 */
export function checkArrowFooter(bytes: Uint8Array): Uint8Array {
  return bytes.subarray(footerOf(bytes).start);
}

/**
 * Body of a file's only batch, which contains the columns.
 * @throws Error unless the file has exactly one valid batch.
 */
export function batchBody(bytes: Uint8Array): Uint8Array {
  const { footer } = footerOf(bytes);
  const blocks = footer.structs(footer.root, 3, BLOCK_BYTES);
  const batch = blocks.length === 1 ? checkMessage(bytes, Number(blocks[0]!.getBigInt64(0, true))) : null;
  if (batch === null) throw new Error(`${blocks.length} record batches instead of 1`);
  return bytes.subarray(batch.bodyStart, batch.end);
}

function checkFile(bytes: Uint8Array): void {
  const { footer } = footerOf(bytes);
  if (footer.structs(footer.root, 2, BLOCK_BYTES).length > 0) throw new Error("it has dictionaries");
  for (const block of footer.structs(footer.root, 3, BLOCK_BYTES)) {
    const at = Number(block.getBigInt64(0, true));
    // If apache-arrow is asked to read a batch where a schema is, it never returns.
    if (checkMessage(bytes, at)?.type !== RECORD_BATCH_TYPE) throw new Error(`no record batch begins at ${at}`);
  }
}

export function footerOf(bytes: Uint8Array): { readonly footer: Verifier; readonly start: number } {
  const tail = MAGIC.length + 4;
  if (bytes.length < 8 + tail) throw new Error("the file is too short to have a footer");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const footerBytes = view.getInt32(bytes.length - tail, true);
  const start = bytes.length - tail - footerBytes;
  if (footerBytes < 8 || start < 8) throw new Error(`the footer's length is ${footerBytes}`);
  const footer = new Verifier(bytes.subarray(start, bytes.length - tail));
  footer.check(FOOTER);
  return { footer, start };
}

function checkStream(bytes: Uint8Array): void {
  let at = 0;
  for (let messages = 0; at < bytes.length; messages++) {
    if (messages === MAX_MESSAGES) throw new Error(`there are more than ${MAX_MESSAGES} messages`);
    at = checkMessage(bytes, at)?.end ?? bytes.length;
  }
}

interface MessagePlace {
  readonly type: number;
  readonly bodyStart: number;
  readonly end: number;
}

/** @returns Type of the message and place of its body, or null at the end of the stream. */
function checkMessage(bytes: Uint8Array, at: number): MessagePlace | null {
  if (!Number.isSafeInteger(at) || at < 0 || at + 8 > bytes.length) throw new Error(`a message would begin at ${at}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(at, true) !== CONTINUATION) throw new Error(`no message begins at ${at}`);
  const metadataBytes = view.getInt32(at + 4, true);
  if (metadataBytes === 0) return null;
  const end = at + 8 + metadataBytes;
  if (metadataBytes < 8 || end > bytes.length) throw new Error(`a message's metadata has ${metadataBytes} bytes`);
  const message = new Verifier(bytes.subarray(at + 8, end));
  message.check(MESSAGE);
  const bodyBytes = Number(message.int64(message.root, 3));
  if (bodyBytes < 0 || end + bodyBytes > bytes.length) throw new Error(`a message's body has ${bodyBytes} bytes`);
  const type = message.typeOfUnion(MESSAGE_HEADER);
  if (type === RECORD_BATCH_TYPE) checkBatch(message, message.tableOf(message.root, MESSAGE_HEADER), bodyBytes);
  return { type, bodyStart: end, end: end + bodyBytes };
}

/** Checks lengths against the body; for larger ones apache-arrow would fill bitmaps and lists of that length itself. */
export function checkBatch(message: Verifier, batch: number, bodyBytes: number): void {
  // Every value takes a bit or more, and an empty list has its offsets.
  const limit = message.has(batch, COMPRESSION_FIELD)
    ? MOST_COMPRESSED_VALUES + BigInt(bodyBytes) * COMPRESSED_VALUES_PER_BYTE
    : BigInt(bodyBytes) * 8n;
  const lengths = [message.int64(batch, 0)];
  for (const node of message.structs(batch, 1, 16)) lengths.push(node.getBigInt64(0, true), node.getBigInt64(8, true));
  const bad = lengths.find((length) => length < 0n || length > limit);
  if (bad !== undefined) throw new Error(`a column has ${bad} values in a body of ${bodyBytes} bytes`);
  for (const buffer of message.structs(batch, 2, 16)) {
    const [offset, length] = [buffer.getBigInt64(0, true), buffer.getBigInt64(8, true)];
    if (offset < 0n || length < 0n || offset + length > BigInt(bodyBytes))
      throw new Error(`a buffer of ${length} bytes at ${offset} is outside its body of ${bodyBytes} bytes`);
  }
}
