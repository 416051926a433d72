/** Classification of S3 and network errors: whether to retry, and the cure. */
import { setTimeout as sleep } from "node:timers/promises";
import { FleetError, messageOf } from "../../core/errors.ts";

/** Status codes worth a retry. 409 is a conditional write that collided with one in flight: S3 asks for a new attempt. */
const TRANSIENT_STATUS = new Set([408, 409, 429, 500, 502, 503, 504]);
const TRANSIENT_NAMES = new Set(["RequestTimeout", "SlowDown", "TimeoutError", "Throttling", "ThrottlingException"]);
/** Codes that a retry cannot change: a bad name, address or certificate. */
const FINAL_NETWORK_CODES = /^E(?:CONF|INVAL|PROTO)|^ERR_|CERT|SELF_SIGNED|UNABLE_TO/;
const CREDENTIAL_NAMES = new Set([
  "CredentialsProviderError",
  "ExpiredToken",
  "InvalidAccessKeyId",
  "InvalidToken",
  "SignatureDoesNotMatch",
  "TokenRefreshRequired",
]);
const REGION_NAMES = new Set([
  "AuthorizationHeaderMalformed",
  "IllegalLocationConstraintException",
  "PermanentRedirect",
]);
const FULL_NAMES = new Set(["QuotaExceeded", "InsufficientStorage", "XMinioStorageFull"]);
/** Words of servers for the headers that newer SDKs add to a write. */
const CHECKSUM_WORDS = /checksum|crc32|trailer|aws-chunked|content-?md5|content-?encoding|digest/i;
const MAX_BACKOFF_MS = 10_000;

/**
 * A response that is not acceptable: a truncated body or one that does not match its checksum, a contradictory listing, a
 * page that is not from an S3 server. A retry may get a better one.
 */
export class AnswerError extends Error {
  /** Cure if no attempt gets a better one. */
  readonly cure: string | undefined;

  constructor(message: string, options: Readonly<{ cure?: string; cause?: unknown }> = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.cure = options.cure;
  }
}

export interface S3Call {
  /** S3's name of the operation: `PutObject`. */
  readonly operation: string;
  /** `s3://bucket/key` */
  readonly where: string;
  /** The required permission: `s3:PutObject`. */
  readonly permission: string;
}

export interface RetryLimits {
  readonly maxAttempts: number;
  /** Longest first pause in milliseconds; it doubles with each attempt. */
  readonly backoffMs: number;
}

interface ServerError {
  readonly name: string;
  readonly status: number | undefined;
  readonly requestId: string | undefined;
  readonly networkCode: string | undefined;
  readonly clockCorrected: boolean;
}

/**
 * The only retry loop: the SDK's own is off, because it stops early when many calls fail at once (one
 * budget for all calls of a client) and cannot repeat a truncated body.
 *
 * @throws FleetError always: one thrown by `call` is passed through, any other error is mapped here.
 */
export async function withRetries<T>(at: S3Call, limits: RetryLimits, call: () => Promise<T>): Promise<T> {
  const startedAt = performance.now();
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await call();
    } catch (error) {
      if (error instanceof FleetError) throw error;
      if (!isTransient(error)) throw finalFault(at, error);
      if (attempt >= limits.maxAttempts) {
        throw exhausted(at, error, { attempts: attempt, seconds: (performance.now() - startedAt) / 1000 });
      }
      const longest = Math.min(MAX_BACKOFF_MS, limits.backoffMs * 2 ** (attempt - 1));
      // At least half of it: of sixteen workers that failed together, none should retry at once.
      await sleep(longest * (0.5 + Math.random() / 2));
    }
  }
}

export function statusOf(error: unknown): number | undefined {
  return describe(error).status;
}

export function nameOf(error: unknown): string {
  return describe(error).name;
}

/** Whether the server refuses the checksum that the SDK sends with every write; some know none, or another one. */
export function refusesChecksum(error: unknown): boolean {
  const { status } = describe(error);
  return (status === 400 || status === 501) && CHECKSUM_WORDS.test(messageOf(error));
}

function describe(error: unknown): ServerError {
  const fields = (error ?? {}) as Partial<Record<"name" | "code", unknown>> & {
    readonly $metadata?: { httpStatusCode?: number; requestId?: string; clockSkewCorrected?: boolean };
    readonly $response?: { statusCode?: number };
  };
  return {
    name: typeof fields.name === "string" ? fields.name : "Error",
    // A proxy's HTML page contains no S3 code, so only the raw response is available.
    status: fields.$metadata?.httpStatusCode ?? fields.$response?.statusCode,
    requestId: fields.$metadata?.requestId,
    networkCode: typeof fields.code === "string" ? fields.code : undefined,
    clockCorrected: fields.$metadata?.clockSkewCorrected === true,
  };
}

function isTransient(error: unknown): boolean {
  if (error instanceof AnswerError) return true;
  const { name, status, networkCode, clockCorrected } = describe(error);
  if (clockCorrected || TRANSIENT_NAMES.has(name)) return true;
  if (status !== undefined && status >= 300) return TRANSIENT_STATUS.has(status);
  return networkCode !== undefined && /^E[A-Z]/.test(networkCode) && !FINAL_NETWORK_CODES.test(networkCode);
}

function exhausted(at: S3Call, error: unknown, spent: Readonly<{ attempts: number; seconds: number }>): FleetError {
  const times = spent.attempts === 1 ? "once" : `${spent.attempts} times`;
  const message = `${at.operation} ${at.where} failed ${times} in ${spent.seconds.toFixed(1)} s, last with ${saidBy(error)}`;
  const ofAnswer = error instanceof AnswerError ? error.cure : undefined;
  return new FleetError("store_unavailable", message, {
    cure: ofAnswer ?? "check that the endpoint is right, reachable and not overloaded, then run the same command again",
    cause: error,
  });
}

function finalFault(at: S3Call, error: unknown): FleetError {
  const message = `${at.operation} ${at.where} was answered with ${saidBy(error)}`;
  const cure = cureOf(at, error);
  if (cure !== undefined) return new FleetError("store_refused", message, { cure, cause: error });
  return new FleetError("store_unavailable", message, {
    cure: "check the endpoint, its certificate and that it is an S3 server",
    cause: error,
  });
}

function cureOf(at: S3Call, error: unknown): string | undefined {
  const { name, status } = describe(error);
  if (CREDENTIAL_NAMES.has(name)) {
    return "provide valid credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the machine's role";
  }
  if (name === "RequestTimeTooSkewed") return "set this machine's clock: it differs from the server's by minutes";
  if (REGION_NAMES.has(name) || status === 301) return "the bucket is in another region; set AWS_REGION to it";
  if (FULL_NAMES.has(name) || status === 507) return "the server is full or its quota used up; free some space there";
  if (name === "NoSuchBucket") return "the bucket does not exist; create it, or correct the URL, endpoint and region";
  if (status === 403) {
    return `allow ${at.permission} on this bucket and prefix to these credentials (without s3:ListBucket, a missing object reads as forbidden too)`;
  }
  if (refusesChecksum(error)) {
    return "the server refuses the checksum in the request; set AWS_REQUEST_CHECKSUM_CALCULATION=WHEN_REQUIRED";
  }
  if (status === 405 || status === 501)
    return "this server lacks the operation; use one that has it, or a file:/// store";
  return status !== undefined && status >= 300 && status < 500
    ? "correct the URL, endpoint or options that name this store"
    : undefined;
}

/** `503 SlowDown: Please reduce your request rate (request 4442587FB7D0A2F9)` */
function saidBy(error: unknown): string {
  const { name, status, requestId, networkCode } = describe(error);
  const head = [status, name === "Error" ? networkCode : name].filter((part) => part !== undefined).join(" ");
  const tail = requestId === undefined ? "" : ` (request ${requestId})`;
  return `${head === "" ? "" : `${head}: `}${messageOf(error)}${tail}`;
}
