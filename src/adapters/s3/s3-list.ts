/** Objects of a bucket, listed page by page. A contradictory page is requested again, and then becomes a fault. */
import { ListObjectsV2Command, type ListObjectsV2CommandOutput, type S3Client } from "@aws-sdk/client-s3";
import { FleetError } from "../../core/errors.ts";
import { requireLength, requireTime } from "./s3-client.ts";
import { AnswerError, type RetryLimits, withRetries } from "./s3-faults.ts";

export interface ListParams {
  readonly client: S3Client;
  readonly bucket: string;
  readonly prefix: string;
  /** Keys per page, at most 1,000. */
  readonly pageSize: number;
  readonly limits: RetryLimits;
}

export interface ListedObject {
  readonly key: string;
  readonly bytes: number;
  readonly modifiedAtMs: number;
  readonly etag: string | undefined;
}

const BAD_LISTING =
  "a server or proxy that lists like this would hide files; look for a cache or gateway in front of the store, and update the server";

/**
 * Every object whose key begins with `prefix`, in S3's order: by the keys' UTF-8 bytes.
 * @throws FleetError `store_refused` when the server sorts them otherwise, `store_unavailable` when its listings stay
 *   contradictory; the errors of `withRetries`
 */
export async function* listObjects(params: ListParams): AsyncGenerator<ListedObject> {
  const { client, bucket, prefix, pageSize, limits } = params;
  const at = { operation: "ListObjectsV2", where: `s3://${bucket}/${prefix}`, permission: "s3:ListBucket" };
  let token: string | undefined;
  const tokens = new Set<string>();
  let previous = "";
  do {
    const question = new ListObjectsV2Command({
      Bucket: bucket,
      Prefix: prefix,
      MaxKeys: pageSize,
      ...(token === undefined ? {} : { ContinuationToken: token }),
    });
    const page = await withRetries(at, limits, async () => {
      const answer = await client.send(question);
      const flaw = flawOfPage(answer, prefix, tokens);
      if (flaw !== null) throw new AnswerError(`a listing ${flaw}`, { cure: BAD_LISTING });
      return answer;
    });
    for (const { Key: key = "", Size: bytes, LastModified: modified, ETag: etag } of page.Contents ?? []) {
      // Consoles leave empty `folder/` objects behind.
      if (key.endsWith("/")) continue;
      if (Buffer.compare(Buffer.from(key), Buffer.from(previous)) <= 0) throw unsorted(at.where, previous, key);
      previous = key;
      const where = `s3://${bucket}/${key}`;
      yield { key, bytes: requireLength(bytes, where), modifiedAtMs: requireTime(modified, where), etag };
    }
    token = page.IsTruncated === true ? page.NextContinuationToken : undefined;
    if (token !== undefined) tokens.add(token);
  } while (token !== undefined);
}

/**
 * Checks a page; the seal would take an object that a listing leaves out for missing.
 * @param tokens Tokens of the pages before; a repeated one would list forever.
 * @returns The problem of the page, as in "a listing …", or null.
 */
export function flawOfPage(
  page: Partial<ListObjectsV2CommandOutput>,
  prefix: string,
  tokens: ReadonlySet<string>,
): string | null {
  const objects = page.Contents ?? [];
  const next = page.NextContinuationToken ?? "";
  if (page.Name === undefined || page.IsTruncated === undefined) return "without the bucket's name or IsTruncated";
  if (page.Prefix !== undefined && page.Prefix !== prefix) return `of the prefix ${page.Prefix} in place of ${prefix}`;
  if (page.IsTruncated && next === "") return "that is truncated, without a token to continue";
  if (page.IsTruncated && tokens.has(next)) return "whose token is that of an earlier page";
  if (page.KeyCount !== undefined && page.KeyCount !== objects.length)
    return `of ${page.KeyCount} objects with ${objects.length} in it`;
  const stray = objects.find(({ Key: key }) => key?.startsWith(prefix) !== true);
  return stray === undefined
    ? null
    : `with ${stray.Key ?? "an object without a key"}, which does not begin with ${prefix}`;
}

function unsorted(where: string, previous: string, key: string): FleetError {
  return new FleetError("store_refused", `the listing of ${where} returned ${key} after ${previous}`, {
    cure: "this bucket does not list in order of key (S3 Express directory buckets do not); use a general purpose bucket",
  });
}
