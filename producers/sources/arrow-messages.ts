/** Reads the messages of an Arrow IPC file or stream in order. */
import { type BufferPlace, checkForeignMessage, type MessageInfo } from "../../src/arrow/check-metadata.ts";
import { FleetError } from "../../src/core/errors.ts";
import type { ByteSource } from "../../src/core/ports.ts";
import { plainText } from "./decode.ts";
import { damageOf } from "./unreadable.ts";

const FILE_MAGIC = Buffer.from("ARROW1\0\0");
const CONTINUATION = 0xffffffff;
const MAX_METADATA_BYTES = 64 * 1024 * 1024;
/** Limit on a batch's body, which is held twice: as read and decompressed. */
const MAX_BODY_BYTES = 1024 * 1024 * 1024;
const SIZE_BYTES = 8;
/** Marker of an uncompressed buffer in a compressed body. */
const NOT_COMPRESSED = -1n;

export interface Message extends Pick<MessageInfo, "kind" | "rows"> {
  /** The whole message, including its body. */
  readonly bytes: Buffer;
  /** Size of the decoded body in bytes, as the message states it. */
  readonly decodedBytes: number;
}

/** Decoded size of the body; infinite for an invalid size. */
function decodedBytesOf(buffers: readonly BufferPlace[], body: Buffer): number {
  let sum = 0;
  for (const { offset, length } of buffers) {
    if (length === 0) continue;
    const size = length < SIZE_BYTES ? -2n : body.readBigInt64LE(offset);
    if (size < NOT_COMPRESSED) return Infinity;
    sum += size === NOT_COMPRESSED ? length - SIZE_BYTES : Number(size);
  }
  return sum;
}

/** Reads messages. @throws FleetError `source_unreadable` for damaged framing, and errors of `source`. */
export async function* readMessages(source: ByteSource): AsyncGenerator<Message> {
  const reader = new ExactReader(plainText(source));
  const refuse = (problem: string): FleetError => new FleetError("source_unreadable", `${source.name} ${problem}`);
  let head = await reader.read(8);
  if (head.equals(FILE_MAGIC)) head = await reader.read(8);
  let isFirst = true;
  for (; head.length > 0; head = await reader.read(8)) {
    if (head.length < 8 || head.readUInt32LE(0) !== CONTINUATION)
      throw refuse(isFirst ? "does not begin as Arrow IPC does" : "ends early");
    const metadataBytes = head.readInt32LE(4);
    if (metadataBytes === 0) return;
    if (metadataBytes < 0 || metadataBytes > MAX_METADATA_BYTES)
      throw refuse(`has a message whose metadata has ${metadataBytes} bytes`);
    const metadata = await reader.read(metadataBytes);
    if (metadata.length < metadataBytes) throw refuse("ends early");
    const { kind, rows, bodyBytes, compressed } = checked(source.name, metadata);
    if (bodyBytes > MAX_BODY_BYTES)
      throw refuse(
        `has a batch of ${bodyBytes} bytes; at most ${MAX_BODY_BYTES} are read at once: write smaller batches`,
      );
    const body = await reader.read(bodyBytes);
    if (body.length < bodyBytes) throw refuse(`ends early, within a batch of ${rows} rows`);
    const decodedBytes = compressed === null ? bodyBytes : decodedBytesOf(compressed, body);
    yield { kind, rows, decodedBytes, bytes: Buffer.concat([head, metadata, body]) };
    isFirst = false;
  }
}

function checked(name: string, metadata: Buffer): MessageInfo {
  try {
    return checkForeignMessage(metadata);
  } catch (error) {
    throw damageOf(name, error);
  }
}

/** Reads exact numbers of bytes; fewer only at the end. */
class ExactReader {
  readonly #chunks: AsyncIterator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);

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
    return all.subarray(0, bytes);
  }
}
