/**
 * Check that an S3 server sent a response. A proxy, a load balancer's page or a login page answers 200 as well, and the
 * SDK takes an HTML page for an empty listing and any 200 for a stored object: a run would be sealed without its rows.
 * The check requires only what AWS, Ceph, versitygw, SeaweedFS, moto, s3rver and gofakes3 all send.
 */
import type { S3Client } from "@aws-sdk/client-s3";
import { Readable } from "node:stream";
import { AnswerError } from "./s3-faults.ts";

/** Size limit of a listing; a thousand keys of 1,024 bytes, each escaped, take half of this. */
const MAX_LISTING_BYTES = 16 * 1024 * 1024;
const LISTING_BEGINS = /^\uFEFF?\s*(?:<\?xml[^>]*\?>\s*)?<(?:\w+:)?ListBucketResult[\s>]/;
const LISTING_ENDS = /<\/(?:\w+:)?ListBucketResult>\s*$/;
/** Headers of AWS and nearly all others, of moto, and of Google. */
const REQUEST_IDS = ["x-amz-request-id", "x-amzn-requestid", "x-amz-id-2", "x-guploader-uploadid"];

type Headers = Readonly<Record<string, string | undefined>>;

interface Answer {
  readonly statusCode: number;
  readonly headers: Record<string, string>;
  body?: unknown;
}

/** Makes every call of the client fail with `AnswerError` when the response is not from an S3 server. */
export function distrustAnswers(client: S3Client): void {
  client.middlewareStack.add(
    (next, context) => async (args) => {
      const result = await next(args);
      const answer = result.response as Answer;
      const command = String(context["commandName"]);
      const finding = strangerIn({ command, status: answer.statusCode, headers: answer.headers });
      if (finding !== null) throw strange(answer, finding);
      if (command === "ListObjectsV2Command" && answer.statusCode === 200) await assertListing(answer);
      if (answer.statusCode === 206) dropChecksums(answer.headers);
      return result;
    },
    // Between the SDK's parser and the network, where the raw response is visible.
    { step: "deserialize", priority: "low", name: "distrustAnswers" },
  );
}

/** @returns Evidence that the response is not from an S3 server, or null. */
export function strangerIn(params: Readonly<{ command: string; status: number; headers: Headers }>): string | null {
  const { command, status, headers } = params;
  const isNamed = REQUEST_IDS.some((name) => isSet(headers[name]));
  const isPage = !isNamed && (headers["content-type"] ?? "").startsWith("text/html");
  // A missing object is a valid result; a 404 page of a gateway that lost its server is not.
  if (status === 404) return isPage ? "an HTML page" : null;
  if (status < 200 || status > 299) return null;
  const hasEtag = isSet(headers["etag"]);
  const isRead = command === "GetObjectCommand" || command === "HeadObjectCommand";
  // Moto sends empty responses with that type, and an object of a corpus may be a page.
  if (isPage && headers["content-length"] !== "0" && !(isRead && hasEtag)) return "an HTML page";
  if (hasEtag || !(isRead || command === "PutObjectCommand")) return null;
  // If only the ETag is missing, a proxy stripped it, and reading works without; a stored object always has one.
  return isRead && isNamed ? null : "neither an ETag nor other S3 headers";
}

/** @returns Evidence that the text is not a complete listing, or null. */
export function flawOfListing(text: string): string | null {
  if (text.trim() === "") return "an empty body";
  if (!LISTING_BEGINS.test(text)) return `no ListBucketResult but ${JSON.stringify(text.trim().slice(0, 40))}`;
  return LISTING_ENDS.test(text) ? null : `a ListBucketResult cut short after ${text.length} characters`;
}

async function assertListing(answer: Answer): Promise<void> {
  const bytes = await collect(answer);
  const flaw = flawOfListing(bytes.toString("utf8"));
  if (flaw !== null) throw strange(answer, flaw);
  answer.body = Readable.from([bytes]);
}

async function collect(answer: Answer): Promise<Buffer> {
  if (!(answer.body instanceof Readable)) return Buffer.alloc(0);
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of answer.body) {
      bytes += (chunk as Buffer).length;
      if (bytes > MAX_LISTING_BYTES) throw strange(answer, `more than ${MAX_LISTING_BYTES} bytes`);
      chunks.push(chunk as Buffer);
    }
  } catch (error) {
    if (error instanceof AnswerError) throw error;
    throw new AnswerError(`the listing was cut off after ${bytes} bytes`, { cause: error });
  }
  return Buffer.concat(chunks);
}

/** Removes checksum headers: some servers send the whole object's checksum with a part, which never matches. AWS sends none. */
function dropChecksums(headers: Record<string, string>): void {
  for (const name of Object.keys(headers)) if (/^x-amz-checksum-/i.test(name)) delete headers[name];
}

function strange(answer: Answer, finding: string): AnswerError {
  if (answer.body instanceof Readable) answer.body.destroy();
  return new AnswerError(`${answer.statusCode} with ${finding}, which no S3 server sends`, {
    cure: "something between this machine and the store answers in its place (a proxy, load balancer or login page), or the endpoint is not an S3 server; open the endpoint from this machine to see what it is",
  });
}

function isSet(value: string | undefined): boolean {
  return value !== undefined && value !== "";
}
