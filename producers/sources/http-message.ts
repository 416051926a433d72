/** An HTTP response as a crawler stored it. */
import { brotliDecompressSync, gunzipSync, inflateRawSync, inflateSync } from "node:zlib";
import { FleetError, messageOf } from "../../src/core/errors.ts";

/** Values by name in lower case; of a name that repeats, the first. */
export type Headers = ReadonlyMap<string, string>;

/** The fields below the first line; continued lines are joined. */
export function headersOf(text: string): Headers {
  const headers = new Map<string, string>();
  const lines = text
    .replaceAll(/\r?\n[ \t]+/g, " ")
    .split(/\r?\n/)
    .slice(1);
  for (const line of lines) {
    const at = line.indexOf(":");
    const name = line.slice(0, at).trim().toLowerCase();
    if (at > 0 && !headers.has(name)) headers.set(name, line.slice(at + 1).trim());
  }
  return headers;
}

export class HttpMessage {
  readonly headers: Headers;
  readonly isSuccess: boolean;
  readonly #body: Buffer;

  private constructor(head: string, body: Buffer) {
    this.headers = headersOf(head);
    this.isSuccess = /^HTTP\/\S+ 2\d\d/.test(head);
    this.#body = body;
  }

  /** Null for bytes that are no response. */
  static parse(bytes: Buffer): HttpMessage | null {
    const at = bytes.indexOf("\r\n\r\n");
    const head = bytes.toString("latin1", 0, at === -1 ? bytes.length : at);
    return head.startsWith("HTTP/")
      ? new HttpMessage(head, at === -1 ? Buffer.alloc(0) : bytes.subarray(at + 4))
      : null;
  }

  /**
   * The content, without transfer and content encodings. Many crawlers store it decoded and leave the headers as they
   * were; then it is taken as it is.
   * @throws FleetError `source_unreadable` when it has more than `maxBytes`, or is damaged
   */
  body(maxBytes: number): Buffer {
    const isChunked = /\bchunked\b/i.test(this.headers.get("transfer-encoding") ?? "");
    const bytes = (isChunked ? unchunked(this.#body) : null) ?? this.#body;
    const encoding = this.headers.get("content-encoding")?.toLowerCase() ?? "";
    const options = { maxOutputLength: maxBytes };
    try {
      if (bytes[0] === 0x1f && bytes[1] === 0x8b) return gunzipSync(bytes, options);
      if (encoding === "deflate" && !isText(bytes))
        return (bytes[0]! & 0x0f) === 8 ? inflateSync(bytes, options) : inflateRawSync(bytes, options);
      return encoding === "br" && !isText(bytes) ? brotliDecompressSync(bytes, options) : bytes;
    } catch (error) {
      throw new FleetError(
        "source_unreadable",
        `the response's ${encoding} content cannot be decoded: ${messageOf(error)}`,
        {
          cause: error,
        },
      );
    }
  }
}

/** True for bytes that begin as markup or words do, so that they are decoded already. */
function isText(bytes: Buffer): boolean {
  return bytes.subarray(0, 32).every((byte) => byte >= 0x20 || (byte >= 9 && byte <= 13));
}

/** The chunks put together; null if the bytes are not chunked. */
function unchunked(bytes: Buffer): Buffer | null {
  const parts: Buffer[] = [];
  for (let at = 0; at < bytes.length;) {
    const end = bytes.indexOf("\r\n", at);
    const size =
      end === -1 ? null : /^\s*([0-9a-f]{1,8})\s*(?:;|$)/i.exec(bytes.toString("latin1", at, Math.min(end, at + 256)));
    if (size === null || size === undefined) return null;
    const length = Number.parseInt(size[1]!, 16);
    if (length === 0) break;
    parts.push(bytes.subarray(end + 2, end + 2 + length));
    at = end + 2 + length + 2;
  }
  return Buffer.concat(parts);
}
