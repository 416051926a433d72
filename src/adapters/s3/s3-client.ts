/** What every reader and writer of S3 shares: the client and bodies whose length is proved. */
import { type GetObjectCommandOutput, S3Client, type S3ClientConfig } from "@aws-sdk/client-s3";
import { Readable } from "node:stream";
import { FleetError, messageOf } from "../../core/errors.ts";
import type { ByteRange } from "../../core/ports.ts";
import { distrustAnswers } from "./s3-answers.ts";
import { AnswerError, type RetryLimits } from "./s3-faults.ts";
import { assertWithin, shorterThanRange } from "../store-rules.ts";

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

export function openClient(options: S3Options): S3Client {
  const client = new S3Client(clientConfig(options));
  distrustAnswers(client);
  return client;
}

export function retryLimitsOf(options: S3Options): RetryLimits {
  return {
    maxAttempts: options.maxAttempts ?? DEFAULT_MAX_ATTEMPTS,
    backoffMs: options.backoffMs ?? DEFAULT_BACKOFF_MS,
  };
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
export async function readBody(
  params: Readonly<{
    answer: GetObjectCommandOutput;
    where: string;
    range: ByteRange | undefined;
    maxBytes: number | undefined;
  }>,
): Promise<Uint8Array> {
  const { answer, where, range, maxBytes } = params;
  const body = answer.Body;
  if (!(body instanceof Readable)) throw new AnswerError("the answer has no body to read");
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
      if (done + part.length > bytes) throw new AnswerError(`more than the ${bytes} bytes that were announced came`);
      body.set(part, done);
      done += part.length;
    }
  } catch (error) {
    if (messageOf(error).startsWith("Checksum mismatch")) throw wrongChecksum(error);
    throw new AnswerError(`the body broke off after ${done} of ${bytes} bytes`, { cause: error });
  }
  if (done < bytes) throw new AnswerError(`the body ended after ${done} of ${bytes} bytes`);
  return body;
}

/** All bytes came; either one was damaged on the way, or the server keeps a checksum of something else. */
function wrongChecksum(cause: unknown): AnswerError {
  return new AnswerError(`the body is not what its checksum was made of: ${messageOf(cause)}`, {
    cure: "if this server always says so, it keeps wrong checksums: set AWS_RESPONSE_CHECKSUM_VALIDATION=WHEN_REQUIRED (every file is checked against its SHA-256 all the same); if not, its disk or the line damages bytes",
    cause,
  });
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

export function requireLength(bytes: number | undefined, where: string): number {
  if (bytes !== undefined && Number.isSafeInteger(bytes) && bytes >= 0) return bytes;
  throw new FleetError("store_refused", `the server did not say how long ${where} is`, {
    cure: "a proxy before the server may strip Content-Length or compress answers; switch that off",
  });
}

/** @returns Milliseconds since 1970 by the server's clock. */
export function requireTime(time: Date | undefined, where: string): number {
  const ms = time?.getTime();
  if (ms !== undefined && Number.isFinite(ms)) return ms;
  throw new FleetError("store_refused", `the server did not say when ${where} was written`, {
    cure: "every S3 server sends Last-Modified; a proxy before it may strip it, or this is no S3 server",
  });
}

/** @param use What the ETag is needed for, as a sentence. */
export function requireEtag(etag: string | undefined, where: string, use: string): string {
  if (etag !== undefined && etag !== "") return etag;
  throw new FleetError("store_refused", `the server gave no ETag of ${where}`, {
    cure: `${use}; use a server, or a proxy before it, that gives one`,
  });
}
