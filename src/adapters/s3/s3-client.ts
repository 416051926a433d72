/** The client that all readers and writers of S3 share, and reading of bodies whose length is verified. */
import { type GetObjectCommandOutput, S3Client, type S3ClientConfig } from "@aws-sdk/client-s3";
import { Readable } from "node:stream";
import { FleetError, messageOf } from "../../core/errors.ts";
import type { ByteRange } from "../../core/ports.ts";
import { distrustAnswers } from "./s3-answers.ts";
import { AnswerError, type RetryLimits } from "./s3-faults.ts";
import { limitFirstAnswer } from "./s3-first-answer.ts";
import { assertWithin, shorterThanRange } from "../store-rules.ts";

// package.json declares the Node.js versions for embedfleet; the SDK would print its own requirement in every command.
process.env["AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED"] ??= "true";

const DEFAULT_REGION = "us-east-1";
const DEFAULT_MAX_ATTEMPTS = 8;
const DEFAULT_BACKOFF_MS = 200;
const CONNECT_TIMEOUT_MS = 10_000;
/** Timeout without a byte in either direction. The whole call has none: a large shard over a slow line is not a fault. */
const DEFAULT_IDLE_TIMEOUT_MS = 60_000;
const MAX_SOCKETS = 64;

type ChecksumMode = "WHEN_SUPPORTED" | "WHEN_REQUIRED";

/** Options of the client. Defaults come from the AWS SDK: its environment variables, profile, or the machine's role. */
export interface S3Options {
  /** URL of a server that is not AWS: `http://minio:9000`. */
  readonly endpoint?: string | undefined;
  /** Default: the region that the SDK finds, otherwise `us-east-1`. */
  readonly region?: string | undefined;
  /** Whether URLs are `endpoint/bucket/key` instead of `bucket.endpoint/key`. Default: true with a custom endpoint. */
  readonly forcePathStyle?: boolean | undefined;
  readonly credentials?: Readonly<{ accessKeyId: string; secretAccessKey: string; sessionToken?: string }> | undefined;
  /** `WHEN_REQUIRED` for servers that refuse the checksum header of the SDK. */
  readonly requestChecksums?: ChecksumMode | undefined;
  readonly responseChecksums?: ChecksumMode | undefined;
  /** Attempts of one call, the first included. */
  readonly maxAttempts?: number | undefined;
  /** Longest pause in milliseconds before the second attempt; it doubles each time, up to 10 s. */
  readonly backoffMs?: number | undefined;
  /** Longest silence of a connection in milliseconds. */
  readonly idleTimeoutMs?: number | undefined;
  /** Keys per page of a listing, at most 1000. */
  readonly pageSize?: number | undefined;
}

export function openClient(options: S3Options): S3Client {
  const client = new S3Client(clientConfig(options));
  distrustAnswers(client);
  limitFirstAnswer(client);
  return client;
}

export function retryLimitsOf(options: S3Options): RetryLimits {
  return {
    maxAttempts: options.maxAttempts ?? DEFAULT_MAX_ATTEMPTS,
    backoffMs: options.backoffMs ?? DEFAULT_BACKOFF_MS,
  };
}

function clientConfig(options: S3Options): S3ClientConfig {
  // The SDK reads its endpoint variables by itself, but does not adapt the path style.
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

/** The region from the SDK's variables and profile, without which the SDK refuses to work, or a default. */
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

/** Reads a body. Checks all information in the headers before a byte is read or a buffer allocated. */
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
    // A body that is not read to its end keeps one of the sockets open forever.
    body.destroy();
  }
}

async function collect(stream: Readable, bytes: number): Promise<Uint8Array> {
  // Not from the pool: the caller may create typed arrays on it or transfer its memory to a thread.
  const body = Buffer.allocUnsafeSlow(bytes);
  let done = 0;
  try {
    for await (const chunk of stream) {
      const part = chunk as Uint8Array;
      if (done + part.length > bytes) throw new AnswerError(`more than the announced ${bytes} bytes were received`);
      body.set(part, done);
      done += part.length;
    }
  } catch (error) {
    if (messageOf(error).startsWith("Checksum mismatch")) throw wrongChecksum(error);
    throw new AnswerError(`the body was cut off after ${done} of ${bytes} bytes`, { cause: error });
  }
  if (done < bytes) throw new AnswerError(`the body ended after ${done} of ${bytes} bytes`);
  return body;
}

/** Error for a complete body with a wrong checksum: either data was damaged, or the server stores a wrong checksum. */
function wrongChecksum(cause: unknown): AnswerError {
  return new AnswerError(`the body does not match its checksum: ${messageOf(cause)}`, {
    cure: "if this happens every time, the server stores wrong checksums: set AWS_RESPONSE_CHECKSUM_VALIDATION=WHEN_REQUIRED (every file is checked against its SHA-256 anyway); otherwise its disk or the network damages bytes",
    cause,
  });
}

function wrongRange(answer: GetObjectCommandOutput, where: string, range: ByteRange): FleetError {
  const total = Number(/\/(\d+)$/.exec(answer.ContentRange ?? "")?.[1]);
  if (Number.isSafeInteger(total) && total < range.end) return shorterThanRange({ where, bytes: total, range });
  const got = `${answer.ContentLength} bytes, Content-Range ${answer.ContentRange ?? "missing"}`;
  return new FleetError(
    "store_refused",
    `bytes ${range.start} to ${range.end} of ${where} were requested, but ${got} were received`,
    {
      cure: "this server or a proxy before it does not honour byte ranges; use one that does",
    },
  );
}

export function requireLength(bytes: number | undefined, where: string): number {
  if (bytes !== undefined && Number.isSafeInteger(bytes) && bytes >= 0) return bytes;
  throw new FleetError("store_refused", `the server did not send the length of ${where}`, {
    cure: "a proxy before the server may strip Content-Length or compress answers; switch that off",
  });
}

/** @returns Milliseconds since 1970 by the server's clock. */
export function requireTime(time: Date | undefined, where: string): number {
  const ms = time?.getTime();
  if (ms !== undefined && Number.isFinite(ms)) return ms;
  throw new FleetError("store_refused", `the server did not send the modification time of ${where}`, {
    cure: "every S3 server sends Last-Modified; a proxy before it may strip it, or this is not an S3 server",
  });
}

/** @param use Why the ETag is needed, as a sentence. */
export function requireEtag(etag: string | undefined, where: string, use: string): string {
  if (etag !== undefined && etag !== "") return etag;
  throw new FleetError("store_refused", `the server sent no ETag for ${where}`, {
    cure: `${use}; use a server, or a proxy before it, that sends one`,
  });
}
