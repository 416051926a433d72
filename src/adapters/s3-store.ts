/**
 * `ObjectStore` on S3 and servers that speak it. One `PutObject` with `If-None-Match: *` is the whole
 * commit: no multipart, no rename, no staging. Bodies are Buffers and never streams, because a stream's
 * checksum travels in a trailer, which some servers refuse and one stores as part of the object.
 */
import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
  type GetObjectCommandOutput,
  type S3ClientConfig,
} from "@aws-sdk/client-s3";
import { Readable } from "node:stream";
import { FleetError } from "../core/errors.ts";
import { assertKey } from "../core/layout.ts";
import type { ByteRange, CreateOutcome, ObjectInfo, ObjectStore } from "../core/ports.ts";
import { BodyError, nameOf, statusOf, withRetries, type RetryLimits, type S3Call } from "./s3-faults.ts";
import { assertPrefix, assertRange, assertWithin, missing, shorterThanRange } from "./store-rules.ts";

// Which Node.js versions embedfleet needs is said in package.json; the SDK would say its own in every command.
process.env["AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED"] ??= "true";

const DEFAULT_REGION = "us-east-1";
const DEFAULT_MAX_ATTEMPTS = 8;
const DEFAULT_BACKOFF_MS = 200;
const CONNECT_TIMEOUT_MS = 10_000;
/** Without a byte in either direction. No limit on the whole: a large shard over a slow line is no fault. */
const DEFAULT_IDLE_TIMEOUT_MS = 60_000;
const MAX_SOCKETS = 64;

type ChecksumMode = "WHEN_SUPPORTED" | "WHEN_REQUIRED";

/** Whatever is left out comes from the AWS SDK: its environment variables, profile, or the machine's role. */
export interface S3Options {
  /** Of a server that is not AWS: `http://minio:9000`. */
  readonly endpoint?: string | undefined;
  /** Default: what the SDK finds, else `us-east-1`. */
  readonly region?: string | undefined;
  /** `endpoint/bucket/key` instead of `bucket.endpoint/key`. Default: true with an endpoint of one's own. */
  readonly forcePathStyle?: boolean | undefined;
  readonly credentials?: Readonly<{ accessKeyId: string; secretAccessKey: string; sessionToken?: string }> | undefined;
  /** `WHEN_REQUIRED` for servers that refuse the checksum header which the SDK adds. */
  readonly requestChecksums?: ChecksumMode | undefined;
  readonly responseChecksums?: ChecksumMode | undefined;
  /** Attempts of one call, the first included. */
  readonly maxAttempts?: number | undefined;
  /** Longest pause before the second attempt; it doubles each time, up to 10 s. */
  readonly backoffMs?: number | undefined;
  /** How long a connection may be silent. */
  readonly idleTimeoutMs?: number | undefined;
  /** Keys a listing asks for at once, at most 1000. */
  readonly pageSize?: number | undefined;
}

export class S3Store implements ObjectStore {
  readonly url: string;
  readonly #client: S3Client;
  readonly #bucket: string;
  /** Empty, or ends with `/`. */
  readonly #prefix: string;
  readonly #limits: RetryLimits;
  readonly #pageSize: number;

  /** @param params.prefix Without a slash at either end; may be empty. */
  constructor(params: Readonly<{ bucket: string; prefix: string; options?: S3Options }>) {
    const options = params.options ?? {};
    this.#bucket = params.bucket;
    this.#prefix = params.prefix === "" ? "" : `${params.prefix}/`;
    this.url = `s3://${params.bucket}${params.prefix === "" ? "" : `/${params.prefix}`}`;
    this.#client = new S3Client(clientConfig(options));
    this.#limits = {
      maxAttempts: options.maxAttempts ?? DEFAULT_MAX_ATTEMPTS,
      backoffMs: options.backoffMs ?? DEFAULT_BACKOFF_MS,
    };
    this.#pageSize = options.pageSize ?? 1000;
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
        throw statusOf(error) === 501 ? noConditions(at, error) : error;
      }
    });
  }

  async replace(params: Readonly<{ key: string; body: Uint8Array }>): Promise<void> {
    const { at, target } = this.#at("PutObject", params.key);
    await withRetries(at, this.#limits, () =>
      this.#client.send(new PutObjectCommand({ ...target, Body: asBuffer(params.body) })),
    );
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
        const { ContentLength } = await this.#client.send(new HeadObjectCommand(target));
        return { key: params.key, bytes: requireLength(ContentLength, at.where) };
      } catch (error) {
        // An answer to HEAD has no body to tell a missing bucket from a missing key; the probe at start does.
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
    const at = { operation: "ListObjectsV2", where: `s3://${this.#bucket}/${prefix}`, permission: "s3:ListBucket" };
    let token: string | undefined;
    let previous = "";
    do {
      const page = await withRetries(at, this.#limits, () =>
        this.#client.send(
          new ListObjectsV2Command({
            Bucket: this.#bucket,
            Prefix: prefix,
            MaxKeys: this.#pageSize,
            ...(token === undefined ? {} : { ContinuationToken: token }),
          }),
        ),
      );
      for (const { Key, Size } of page.Contents ?? []) {
        // Consoles leave empty `folder/` objects behind; `create` cannot have made them.
        if (Key === undefined || Key.endsWith("/")) continue;
        // S3 sorts by UTF-8 bytes, which for the ASCII keys of `layout.ts` is the order of code units too.
        if (Key <= previous) throw unsorted(at.where, previous, Key);
        previous = Key;
        yield { key: Key.slice(this.#prefix.length), bytes: requireLength(Size, `s3://${this.#bucket}/${Key}`) };
      }
      token = page.IsTruncated === true ? page.NextContinuationToken : undefined;
    } while (token !== undefined);
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

function clientConfig(options: S3Options): S3ClientConfig {
  // The SDK reads its own endpoint variables by itself, but does not draw the conclusion about the path style.
  const { AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL } = process.env;
  const hasOwnEndpoint = (options.endpoint ?? AWS_ENDPOINT_URL_S3 ?? AWS_ENDPOINT_URL) !== undefined;
  return {
    region: options.region ?? regionOrDefault,
    forcePathStyle: options.forcePathStyle ?? hasOwnEndpoint,
    maxAttempts: 1,
    requestHandler: {
      connectionTimeout: CONNECT_TIMEOUT_MS,
      socketTimeout: options.idleTimeoutMs ?? DEFAULT_IDLE_TIMEOUT_MS,
      httpAgent: { keepAlive: true, maxSockets: MAX_SOCKETS },
      httpsAgent: { keepAlive: true, maxSockets: MAX_SOCKETS },
    },
    ...(options.endpoint === undefined ? {} : { endpoint: options.endpoint }),
    ...(options.credentials === undefined ? {} : { credentials: options.credentials }),
    ...(options.requestChecksums === undefined ? {} : { requestChecksumCalculation: options.requestChecksums }),
    ...(options.responseChecksums === undefined ? {} : { responseChecksumValidation: options.responseChecksums }),
  };
}

/** The SDK looks into its variables and profile, and refuses to work when neither names a region. */
async function regionOrDefault(): Promise<string> {
  const finder = new S3Client({});
  try {
    return await finder.config.region();
  } catch {
    return DEFAULT_REGION;
  } finally {
    finder.destroy();
  }
}

/** Checks everything that the headers tell before a byte is read or a buffer allocated. */
async function readBody(
  params: Readonly<{
    answer: GetObjectCommandOutput;
    where: string;
    range: ByteRange | undefined;
    maxBytes: number | undefined;
  }>,
): Promise<Uint8Array> {
  const { answer, where, range, maxBytes } = params;
  const body = answer.Body;
  if (!(body instanceof Readable)) throw new BodyError("the answer has no body to read");
  try {
    const bytes = requireLength(answer.ContentLength, where);
    if (range !== undefined && bytes !== range.end - range.start) throw wrongRange(answer, where, range);
    assertWithin({ where, bytes, maxBytes });
    return await collect(body, bytes);
  } finally {
    // A body that is not read to its end holds one of the sockets for ever.
    body.destroy();
  }
}

async function collect(stream: Readable, bytes: number): Promise<Uint8Array> {
  // Not from the pool: the caller may build typed arrays on it or hand its memory to a thread.
  const body = Buffer.allocUnsafeSlow(bytes);
  let done = 0;
  try {
    for await (const chunk of stream) {
      const part = chunk as Uint8Array;
      if (done + part.length > bytes) throw new BodyError(`more than the ${bytes} bytes that were announced came`);
      body.set(part, done);
      done += part.length;
    }
  } catch (error) {
    throw new BodyError(`the body broke off after ${done} of ${bytes} bytes`, { cause: error });
  }
  if (done < bytes) throw new BodyError(`the body ended after ${done} of ${bytes} bytes`);
  return body;
}

function wrongRange(answer: GetObjectCommandOutput, where: string, range: ByteRange): FleetError {
  const total = Number(/\/(\d+)$/.exec(answer.ContentRange ?? "")?.[1]);
  if (Number.isSafeInteger(total) && total < range.end) return shorterThanRange({ where, bytes: total, range });
  const got = `${answer.ContentLength} bytes, Content-Range ${answer.ContentRange ?? "missing"}`;
  return new FleetError(
    "store_refused",
    `bytes ${range.start} to ${range.end} of ${where} were asked for and ${got} came`,
    {
      cure: "this server or a proxy before it does not honour byte ranges; use one that does",
    },
  );
}

function requireLength(bytes: number | undefined, where: string): number {
  if (bytes !== undefined && Number.isSafeInteger(bytes) && bytes >= 0) return bytes;
  throw new FleetError("store_refused", `the server did not say how long ${where} is`, {
    cure: "a proxy before the server may strip Content-Length or compress answers; switch that off",
  });
}

function noConditions(at: S3Call, cause: unknown): FleetError {
  return new FleetError("store_refused", `${at.operation} ${at.where}: this server has no conditional writes (501)`, {
    cure: "create-if-absent (If-None-Match: *) keeps two workers from writing one file; use AWS S3, Ceph, versitygw or another server that has it",
    cause,
  });
}

function unsorted(where: string, previous: string, key: string): FleetError {
  return new FleetError("store_refused", `the listing of ${where} gave ${key} after ${previous}`, {
    cure: "this bucket does not list in order of key (S3 Express directory buckets do not); use a general purpose bucket",
  });
}

/** A view, not a copy. */
function asBuffer(body: Uint8Array): Buffer {
  return Buffer.from(body.buffer, body.byteOffset, body.byteLength);
}
