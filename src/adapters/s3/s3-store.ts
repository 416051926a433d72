/**
 * `ObjectStore` on S3 and compatible servers. One `PutObject` with `If-None-Match: *` is the whole
 * commit: no multipart, no rename, no staging. Bodies are Buffers and never streams, because a stream's
 * checksum is sent in a trailer, which some servers refuse and one stores as part of the object.
 */
import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  PutObjectCommand,
  type S3Client,
} from "@aws-sdk/client-s3";
import { assertKey } from "../../core/layout.ts";
import type {
  ByteRange,
  CreateOutcome,
  ObjectInfo,
  ObjectStore,
  ReplaceOutcome,
  VersionedBody,
} from "../../core/ports.ts";
import {
  openClient,
  readBody,
  requireEtag,
  requireLength,
  requireTime,
  retryLimitsOf,
  type S3Options,
} from "./s3-client.ts";
import { ConditionalWriter, lacksConditions, noConditions } from "./s3-conditional.ts";
import { nameOf, statusOf, withRetries, type RetryLimits, type S3Call } from "./s3-faults.ts";
import { listObjects } from "./s3-list.ts";
import { assertPrefix, assertRange, assertWithin, missing, shorterThanRange } from "../store-rules.ts";

const VERSIONED = "an object that is replaced is told from its older versions by its ETag";

export class S3Store implements ObjectStore {
  readonly url: string;
  readonly #client: S3Client;
  readonly #bucket: string;
  /** Empty, or ends with `/`. */
  readonly #prefix: string;
  readonly #limits: RetryLimits;
  readonly #pageSize: number;
  readonly #conditions: ConditionalWriter;

  /** @param params.prefix Without a slash at either end; may be empty. */
  constructor(params: Readonly<{ bucket: string; prefix: string; options?: S3Options }>) {
    const options = params.options ?? {};
    this.#bucket = params.bucket;
    this.#prefix = params.prefix === "" ? "" : `${params.prefix}/`;
    this.url = `s3://${params.bucket}${params.prefix === "" ? "" : `/${params.prefix}`}`;
    this.#client = openClient(options);
    this.#limits = retryLimitsOf(options);
    this.#pageSize = options.pageSize ?? 1000;
    this.#conditions = new ConditionalWriter(this.#client);
  }

  async create(params: Readonly<{ key: string; body: Uint8Array }>): Promise<CreateOutcome> {
    const { at, target } = this.#at("PutObject", params.key);
    return withRetries(at, this.#limits, async () => {
      try {
        await this.#client.send(new PutObjectCommand({ ...target, Body: asBuffer(params.body), IfNoneMatch: "*" }));
        return "created";
      } catch (error) {
        // Also the answer to our own second attempt, when only the first one's reply was lost.
        if (statusOf(error) === 412) return "exists";
        throw lacksConditions(error) ? noConditions(at, error) : error;
      }
    });
  }

  async replace(
    params: Readonly<{ key: string; body: Uint8Array; ifVersion?: string | null }>,
  ): Promise<ReplaceOutcome> {
    const { key, ifVersion } = params;
    const { at, target } = this.#at("PutObject", key);
    const body = asBuffer(params.body);
    if (ifVersion !== undefined) {
      const read = (): Promise<VersionedBody | null> => this.readVersion({ key });
      return this.#conditions.replace({ at, target, body, ifVersion, limits: this.#limits, read });
    }
    await withRetries(at, this.#limits, () => this.#client.send(new PutObjectCommand({ ...target, Body: body })));
    return "replaced";
  }

  async readVersion(params: Readonly<{ key: string; maxBytes?: number }>): Promise<VersionedBody | null> {
    const { at, target } = this.#at("GetObject", params.key);
    return withRetries(at, this.#limits, async () => {
      try {
        const answer = await this.#client.send(new GetObjectCommand(target));
        const body = await readBody({ answer, where: at.where, range: undefined, maxBytes: params.maxBytes });
        return { body, version: requireEtag(answer.ETag, at.where, VERSIONED) };
      } catch (error) {
        if (nameOf(error) === "NoSuchKey") return null;
        throw error;
      }
    });
  }

  async read(params: Readonly<{ key: string; range?: ByteRange; maxBytes?: number }>): Promise<Uint8Array> {
    const { key, range, maxBytes } = params;
    const { at, target } = this.#at("GetObject", key);
    if (range !== undefined) {
      assertRange(key, range);
      assertWithin({ where: at.where, bytes: range.end - range.start, maxBytes });
    }
    const header = range === undefined ? {} : { Range: `bytes=${range.start}-${range.end - 1}` };
    return withRetries(at, this.#limits, async () => {
      try {
        const answer = await this.#client.send(new GetObjectCommand({ ...target, ...header }));
        return await readBody({ answer, where: at.where, range, maxBytes });
      } catch (error) {
        if (nameOf(error) === "NoSuchKey") throw missing(at.where, error);
        if (range !== undefined && statusOf(error) === 416)
          throw shorterThanRange({ where: at.where, bytes: undefined, range });
        throw error;
      }
    });
  }

  async stat(params: Readonly<{ key: string }>): Promise<ObjectInfo | null> {
    const { at, target } = this.#at("HeadObject", params.key);
    return withRetries(at, this.#limits, async () => {
      try {
        const { ContentLength, LastModified } = await this.#client.send(new HeadObjectCommand(target));
        const bytes = requireLength(ContentLength, at.where);
        return { key: params.key, bytes, modifiedAtMs: requireTime(LastModified, at.where) };
      } catch (error) {
        // A HEAD response has no body to distinguish a missing bucket from a missing key; the probe at start does.
        if (statusOf(error) === 404) return null;
        throw error;
      }
    });
  }

  list(params: Readonly<{ prefix: string }>): AsyncIterable<ObjectInfo> {
    assertPrefix(params.prefix);
    return this.#list(this.#prefix + params.prefix);
  }

  async remove(params: Readonly<{ key: string }>): Promise<void> {
    const { at, target } = this.#at("DeleteObject", params.key);
    await withRetries(at, this.#limits, async () => {
      try {
        await this.#client.send(new DeleteObjectCommand(target));
      } catch (error) {
        if (nameOf(error) !== "NoSuchKey") throw error;
      }
    });
  }

  async close(): Promise<void> {
    this.#client.destroy();
  }

  async *#list(prefix: string): AsyncGenerator<ObjectInfo> {
    const place = { client: this.#client, bucket: this.#bucket, limits: this.#limits, pageSize: this.#pageSize };
    for await (const { key, bytes, modifiedAtMs } of listObjects({ ...place, prefix }))
      yield { key: key.slice(this.#prefix.length), bytes, modifiedAtMs };
  }

  #at(
    operation: "PutObject" | "GetObject" | "HeadObject" | "DeleteObject",
    key: string,
  ): Readonly<{ at: S3Call; target: { Bucket: string; Key: string } }> {
    assertKey(key);
    const full = this.#prefix + key;
    assertKey(full);
    const permission = operation === "HeadObject" ? "s3:GetObject" : `s3:${operation}`;
    return {
      at: { operation, where: `s3://${this.#bucket}/${full}`, permission },
      target: { Bucket: this.#bucket, Key: full },
    };
  }
}

/** A view, not a copy. */
function asBuffer(body: Uint8Array): Buffer {
  return Buffer.from(body.buffer, body.byteOffset, body.byteLength);
}
