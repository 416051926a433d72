/** Addresses of a corpus's inputs: a path, a pattern, `s3://bucket/key`, or `-` for standard input. */
import { sep } from "node:path";
import picomatch from "picomatch";
import { FleetError } from "../core/errors.ts";

export const STDIN = "-";

export function isGlob(input: string): boolean {
  return picomatch.scan(toPosix(input)).isGlob;
}

export function toPosix(path: string): string {
  return path.split(sep).join("/");
}

/** Bucket and key of an S3 URL; null when its bucket name is not valid. */
export function splitS3Url(url: string): { bucket: string; key: string } | null {
  // Wider than AWS allows today: old buckets and other servers have capitals and underscores.
  const [, bucket, key = ""] = /^s3:\/\/([A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9])(?:\/(.*))?$/is.exec(url) ?? [];
  return bucket === undefined ? null : { bucket, key };
}

/** @throws FleetError `bad_usage` */
export function parseS3Url(url: string): { bucket: string; key: string } {
  const address = splitS3Url(url);
  if (address !== null) return address;
  // Not repeated in the message when it may contain a secret.
  const shown = url.includes("@") ? "the s3:// URL of the corpus" : `the corpus ${url}`;
  throw new FleetError("bad_usage", `${shown} names no valid bucket`, {
    cure: "write s3://bucket/key, s3://bucket/prefix or a pattern like s3://bucket/prefix/*.jsonl.gz; credentials come from the standard AWS chain (environment, profile, role)",
  });
}
