/**
 * Bounds checks over Arrow IPC metadata before apache-arrow reads it. That reader trusts every offset and
 * length in the flatbuffers: one changed byte can make it build arrays until the process is out of memory.
 *
 * Layout: https://arrow.apache.org/docs/format/Columnar.html (encapsulated messages, file footer) and
 * https://flatbuffers.dev/internals (tables, vtables, vectors).
 */

/** Kind of value that a field of a flatbuffer table points at; scalars are stored in the table itself and need no entry. */
type Target =
  | { readonly kind: "string" }
  | { readonly kind: "table"; readonly fields: () => Fields }
  | { readonly kind: "tables"; readonly fields: () => Fields }
  | { readonly kind: "structs"; readonly bytes: number }
  /** A union's value, whose type is the scalar byte in the field before it. */
  | { readonly kind: "union"; readonly byType: Readonly<Record<number, (() => Fields) | undefined>> };

type Fields = Readonly<Record<number, Target>>;

const STRING: Target = { kind: "string" };
const NO_POINTERS: Fields = {};
const KEY_VALUE: Fields = { 0: STRING, 1: STRING };
const TIMESTAMP_TYPE = 10;
const TIMESTAMP: Fields = { 1: STRING };
const DICTIONARY: Fields = { 1: { kind: "table", fields: () => NO_POINTERS } };
/** Fields by type. Types without pointers, such as all of ours, are alike. */
const TYPES = Array.from({ length: 32 }, (_, type) => () => (type === TIMESTAMP_TYPE ? TIMESTAMP : NO_POINTERS));
const KEY_VALUES: Target = { kind: "tables", fields: () => KEY_VALUE };
const FIELD: Fields = {
  0: STRING,
  3: { kind: "union", byType: TYPES },
  4: { kind: "table", fields: () => DICTIONARY },
  5: { kind: "tables", fields: () => FIELD },
  6: KEY_VALUES,
};
const SCHEMA: Fields = { 1: { kind: "tables", fields: () => FIELD }, 2: KEY_VALUES, 3: { kind: "structs", bytes: 8 } };
const RECORD_BATCH: Fields = {
  1: { kind: "structs", bytes: 16 },
  2: { kind: "structs", bytes: 16 },
  3: { kind: "table", fields: () => NO_POINTERS },
  4: { kind: "structs", bytes: 8 },
};
const MESSAGE_HEADER = 2;
const RECORD_BATCH_TYPE = 3;
const MESSAGE: Fields = {
  [MESSAGE_HEADER]: { kind: "union", byType: { 1: () => SCHEMA, [RECORD_BATCH_TYPE]: () => RECORD_BATCH } },
  4: KEY_VALUES,
};
const DICTIONARY_BATCH_TYPE = 2;
const DICTIONARY_BATCH: Fields = { 1: { kind: "table", fields: () => RECORD_BATCH } };
/** Messages in files of other programs, which may have dictionaries too. */
const FOREIGN_MESSAGE: Fields = {
  [MESSAGE_HEADER]: {
    kind: "union",
    byType: {
      1: () => SCHEMA,
      [DICTIONARY_BATCH_TYPE]: () => DICTIONARY_BATCH,
      [RECORD_BATCH_TYPE]: () => RECORD_BATCH,
    },
  },
  4: KEY_VALUES,
};
const COMPRESSION_FIELD = 3;
/**
 * Most values of a compressed body, whose number is not known before it is decoded: this many for any body, plus one for
 * each of its bytes.
 */
const MOST_COMPRESSED_VALUES = 64n * 1024n * 1024n;
const COMPRESSED_VALUES_PER_BYTE = 64n;
const BLOCK_BYTES = 24;
const FOOTER: Fields = {
  1: { kind: "table", fields: () => SCHEMA },
  2: { kind: "structs", bytes: BLOCK_BYTES },
  3: { kind: "structs", bytes: BLOCK_BYTES },
  4: KEY_VALUES,
};

const MAGIC = "ARROW1";
const CONTINUATION = 0xffffffff;
const MAX_DEPTH = 16;
/** Most tables; ours have about forty. */
const MAX_TABLES = 10_000;
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

export interface MessageInfo {
  readonly kind: "schema" | "dictionary" | "batch";
  /** Number of rows of a batch; 0 for other messages. */
  readonly rows: number;
  readonly bodyBytes: number;
  /** Places of the buffers of a compressed body, each after eight bytes with its size; null when it is not compressed. */
  readonly compressed: readonly BufferPlace[] | null;
}

export interface BufferPlace {
  readonly offset: number;
  readonly length: number;
}

/**
 * Checks one message of a file from another program.
 * @param metadata The message's metadata, without its body.
 */
export function checkForeignMessage(metadata: Uint8Array): MessageInfo {
  const message = new Verifier(metadata);
  message.check(FOREIGN_MESSAGE);
  const bodyBytes = Number(message.int64(message.root, 3));
  if (!Number.isSafeInteger(bodyBytes) || bodyBytes < 0) throw new Error(`a message's body has ${bodyBytes} bytes`);
  const type = message.typeOfUnion(MESSAGE_HEADER);
  if (type !== RECORD_BATCH_TYPE && type !== DICTIONARY_BATCH_TYPE)
    return { kind: "schema", rows: 0, bodyBytes, compressed: null };
  const header = message.tableOf(message.root, MESSAGE_HEADER);
  const batch = type === DICTIONARY_BATCH_TYPE ? message.tableOf(header, 1) : header;
  checkBatch(message, batch, bodyBytes);
  return {
    kind: type === RECORD_BATCH_TYPE ? "batch" : "dictionary",
    rows: Number(message.int64(batch, 0)),
    bodyBytes,
    compressed: message.has(batch, COMPRESSION_FIELD) ? placesOf(message, batch) : null,
  };
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

function footerOf(bytes: Uint8Array): { readonly footer: Verifier; readonly start: number } {
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
function checkBatch(message: Verifier, batch: number, bodyBytes: number): void {
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

/** Call only after `checkBatch`. */
function placesOf(message: Verifier, batch: number): BufferPlace[] {
  return message.structs(batch, 2, 16).map((buffer) => ({
    offset: Number(buffer.getBigInt64(0, true)),
    length: Number(buffer.getBigInt64(8, true)),
  }));
}

class Verifier {
  readonly #view: DataView;
  #tables = 0;

  constructor(bytes: Uint8Array) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  check(root: Fields): void {
    this.#table(this.#pointer(0), root, 0);
  }

  get root(): number {
    return this.#pointer(0);
  }

  /** The table that a field of another points at. Call only after `check`. */
  tableOf(table: number, field: number): number {
    const at = this.#fieldAt(table, field);
    if (at === null) throw new Error("its metadata lacks a part");
    return this.#pointer(at);
  }

  has(table: number, field: number): boolean {
    return this.#fieldAt(table, field) !== null;
  }

  /** Type of the table in a union field of the root. */
  typeOfUnion(field: number): number {
    const at = this.#fieldAt(this.root, field - 1);
    return at === null ? 0 : this.#view.getUint8(at);
  }

  /** A scalar of a table; 0 when it is absent. */
  int64(table: number, field: number): bigint {
    const at = this.#fieldAt(table, field);
    return at === null ? 0n : this.#view.getBigInt64(at, true);
  }

  structs(table: number, field: number, bytes: number): DataView[] {
    const at = this.#fieldAt(table, field);
    if (at === null) return [];
    const start = this.#pointer(at);
    const { buffer, byteOffset } = this.#view;
    return Array.from(
      { length: this.#view.getUint32(start, true) },
      (_, i) => new DataView(buffer, byteOffset + start + 4 + i * bytes, bytes),
    );
  }

  #table(at: number, fields: Fields, depth: number): void {
    this.#tables++;
    if (depth > MAX_DEPTH || this.#tables > MAX_TABLES) throw new Error("its metadata is nested or repeated too much");
    for (const [index, target] of Object.entries(fields)) {
      const field = this.#fieldAt(at, Number(index));
      if (field !== null) this.#target(at, Number(index), this.#pointer(field), target, depth + 1);
    }
  }

  #target(table: number, index: number, at: number, target: Target, depth: number): void {
    if (target.kind === "table") return this.#table(at, target.fields(), depth);
    if (target.kind === "union") {
      const typeAt = this.#fieldAt(table, index - 1);
      const fields = target.byType[typeAt === null ? 0 : this.#view.getUint8(typeAt)];
      if (fields === undefined) throw new Error("it has a message or type that is not expected");
      return this.#table(at, fields(), depth);
    }
    const length = this.#view.getUint32(at, true);
    const bytes = target.kind === "string" ? 1 : target.kind === "tables" ? 4 : target.bytes;
    if (at + 4 + length * bytes > this.#view.byteLength) throw new Error(`its metadata has a list of ${length}`);
    if (target.kind !== "tables") return;
    for (let i = 0; i < length; i++) this.#table(this.#pointer(at + 4 + i * 4), target.fields(), depth);
  }

  /** Position of the field by the table's vtable; null when it is absent. */
  #fieldAt(table: number, index: number): number | null {
    const vtable = table - this.#view.getInt32(table, true);
    const vtableBytes = this.#view.getUint16(vtable, true);
    const slot = 4 + index * 2;
    if (slot + 2 > vtableBytes) return null;
    const offset = this.#view.getUint16(vtable + slot, true);
    return offset === 0 ? null : table + offset;
  }

  /** Reading beyond the buffer throws a RangeError, here and everywhere in this class. */
  #pointer(at: number): number {
    return at + this.#view.getUint32(at, true);
  }
}
