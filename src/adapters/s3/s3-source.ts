/** Corpus objects in an S3 bucket: listed page by page, read by ranges, each pinned to its ETag. */
import { GetObjectCommand, HeadObjectCommand, type S3Client } from "@aws-sdk/client-s3";
import { FleetError } from "../../core/errors.ts";
import type { ByteRange, ByteSource } from "../../core/ports.ts";
import { openClient, readBody, requireEtag, requireLength, retryLimitsOf, type S3Options } from "./s3-client.ts";
import { nameOf, type RetryLimits, type S3Call, statusOf, withRetries } from "./s3-faults.ts";
import { listObjects } from "./s3-list.ts";
import { streamBlocks } from "../stream-blocks.ts";

/** Large enough that a request's latency is small compared to its transfer. */
const BLOCK_BYTES = 4 * 1024 * 1024;
const PINNED = "a corpus object is pinned by its ETag";

export interface S3Entry {
  readonly key: string;
  readonly bytes: number;
  readonly etag: string;
}

/** Faults: `store_unavailable` (try again later), `store_refused` (permissions, missing bucket). */
export class S3Bucket {
  readonly url: string;
  readonly #bucket: string;
  readonly #client: S3Client;
  readonly #limits: RetryLimits;
  readonly #pageSize: number;

  constructor(params: Readonly<{ bucket: string; options?: S3Options | undefined }>) {
    const options = params.options ?? {};
    this.#bucket = params.bucket;
    this.url = `s3://${params.bucket}`;
    this.#client = openClient(options);
    this.#limits = retryLimitsOf(options);
    this.#pageSize = options.pageSize ?? 1000;
  }

  /** The object with exactly this key, or null. */
  async find(key: string): Promise<S3Entry | null> {
    const at = this.#call("HeadObject", key, "s3:GetObject");
    return withRetries(at, this.#limits, async () => {
      try {
        const answer = await this.#client.send(new HeadObjectCommand({ Bucket: this.#bucket, Key: key }));
        return {
          key,
          bytes: requireLength(answer.ContentLength, at.where),
          etag: requireEtag(answer.ETag, at.where, PINNED),
        };
      } catch (error) {
        // A HEAD response has no body to distinguish a missing bucket from a missing key; the listing after it does.
        if (statusOf(error) === 404) return null;
        throw error;
      }
    });
  }

  /** Every object whose key begins with `prefix`, in the server's order: by the keys' UTF-8 bytes. */
  async *list(prefix: string): AsyncGenerator<S3Entry> {
    const place = { client: this.#client, bucket: this.#bucket, limits: this.#limits, pageSize: this.#pageSize };
    for await (const { key, bytes, etag } of listObjects({ ...place, prefix }))
      yield { key, bytes, etag: requireEtag(etag, `${this.url}/${key}`, PINNED) };
  }

  /** Creates the source; reads nothing yet. */
  open(entry: S3Entry): ByteSource {
    const readRange = (range: ByteRange): Promise<Buffer> => this.#read(entry, range);
    return {
      name: `${this.url}/${entry.key}`,
      bytes: entry.bytes,
      stream: ({ start = 0 } = {}) =>
        streamBlocks({ range: { start, end: entry.bytes }, blockBytes: BLOCK_BYTES, read: readRange }),
      readRange,
      close: async () => {},
    };
  }

  async close(): Promise<void> {
    this.#client.destroy();
  }

  async #read(entry: S3Entry, range: ByteRange): Promise<Buffer> {
    if (range.end <= range.start) return Buffer.alloc(0);
    const at = this.#call("GetObject", entry.key, "s3:GetObject");
    return withRetries(at, this.#limits, async () => {
      try {
        const answer = await this.#client.send(
          new GetObjectCommand({
            Bucket: this.#bucket,
            Key: entry.key,
            Range: `bytes=${range.start}-${range.end - 1}`,
            IfMatch: entry.etag,
          }),
        );
        // A server that ignores the condition would mix two objects.
        if (answer.ETag !== undefined && answer.ETag !== entry.etag) throw changed(at.where);
        const body = await readBody({ answer, where: at.where, range, maxBytes: undefined });
        return Buffer.from(body.buffer, body.byteOffset, body.byteLength);
      } catch (error) {
        if (statusOf(error) === 412 || statusOf(error) === 416) throw changed(at.where, error);
        if (nameOf(error) === "NoSuchKey")
          throw new FleetError("source_missing", `${at.where} no longer exists`, { cause: error });
        throw error;
      }
    });
  }

  #call(operation: string, key: string, permission: string): S3Call {
    return { operation, where: `${this.url}/${key}`, permission };
  }
}

function changed(where: string, cause?: unknown): FleetError {
  return new FleetError("source_changed", `${where} was replaced while it was read`, {
    cure: "wait until nothing writes to the corpus, then start a new run",
    cause,
  });
}
