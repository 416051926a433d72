/** Objects of a bucket, listed page by page. */
import { ListObjectsV2Command, type S3Client } from "@aws-sdk/client-s3";
import { FleetError } from "../core/errors.ts";
import { requireLength, requireTime } from "./s3-client.ts";
import { type RetryLimits, withRetries } from "./s3-faults.ts";

export interface ListParams {
  readonly client: S3Client;
  readonly bucket: string;
  readonly prefix: string;
  /** Keys a page, at most 1,000. */
  readonly pageSize: number;
  readonly limits: RetryLimits;
}

export interface ListedObject {
  readonly key: string;
  readonly bytes: number;
  readonly modifiedAtMs: number;
  readonly etag: string | undefined;
}

/**
 * Every object whose key begins with `prefix`, as S3 sorts them: by the keys' UTF-8 bytes.
 * @throws FleetError `store_refused` when the server sorts them otherwise, and what `withRetries` says
 */
export async function* listObjects(params: ListParams): AsyncGenerator<ListedObject> {
  const { client, bucket, prefix, pageSize, limits } = params;
  const at = { operation: "ListObjectsV2", where: `s3://${bucket}/${prefix}`, permission: "s3:ListBucket" };
  let token: string | undefined;
  let previous = "";
  do {
    const question = new ListObjectsV2Command({
      Bucket: bucket,
      Prefix: prefix,
      MaxKeys: pageSize,
      ...(token === undefined ? {} : { ContinuationToken: token }),
    });
    const page = await withRetries(at, limits, () => client.send(question));
    for (const { Key: key, Size: bytes, LastModified: modified, ETag: etag } of page.Contents ?? []) {
      // Consoles leave empty `folder/` objects behind.
      if (key === undefined || key.endsWith("/")) continue;
      if (Buffer.compare(Buffer.from(key), Buffer.from(previous)) <= 0) throw unsorted(at.where, previous, key);
      previous = key;
      const where = `s3://${bucket}/${key}`;
      yield { key, bytes: requireLength(bytes, where), modifiedAtMs: requireTime(modified, where), etag };
    }
    token = page.IsTruncated === true ? page.NextContinuationToken : undefined;
  } while (token !== undefined);
}

function unsorted(where: string, previous: string, key: string): FleetError {
  return new FleetError("store_refused", `the listing of ${where} gave ${key} after ${previous}`, {
    cure: "this bucket does not list in order of key (S3 Express directory buckets do not); use a general purpose bucket",
  });
}
