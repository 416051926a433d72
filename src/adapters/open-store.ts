/** Creates a store from an `--out` URL. */
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { FleetError } from "../core/errors.ts";
import { assertKey } from "../core/layout.ts";
import type { ObjectStore } from "../core/ports.ts";
import type { RootWait } from "./file/file-root.ts";
import { FileStore } from "./file/file-store.ts";
import { splitS3Url } from "./input-address.ts";
import type { S3Options } from "./s3/s3-client.ts";

/** Settings that are not in the URL. */
export interface OpenStoreOptions {
  /** Used for `s3://` URLs only. */
  readonly s3?: S3Options | undefined;
  /**
   * Whether the first write creates the missing folder of a `file:///` store. Default true. False for processes that only
   * work on a store: for them, a missing folder means a disk that is not mounted.
   */
  readonly makeRoot?: boolean | undefined;
  /** Called when a `file:///` store's first write begins to wait for a missing folder. */
  readonly onWait?: ((wait: RootWait) => void) | undefined;
}

type StoreAddress =
  | { readonly kind: "file"; readonly root: string }
  | { readonly kind: "s3"; readonly bucket: string; readonly prefix: string };

const ALLOWED = "use file:///folder, s3://bucket/prefix, or the path of a folder";

/**
 * A store by its URL. Reads and writes nothing; `probeStore` checks whether the store exists and can be trusted.
 *
 * @param url `file:///folder`, `s3://bucket/prefix` or a path.
 * @throws FleetError `bad_usage` for anything else.
 */
export async function openStore(url: string, options: OpenStoreOptions = {}): Promise<ObjectStore> {
  const address = parseStoreUrl(url);
  if (address.kind === "file") return new FileStore(address.root, options);
  // The SDK takes a quarter of a second to load, which a run on files need not wait for.
  const { S3Store } = await import("./s3/s3-store.ts");
  return new S3Store({ bucket: address.bucket, prefix: address.prefix, ...(options.s3 && { options: options.s3 }) });
}

/** @throws FleetError `bad_usage` unless it is the URL of a store, or a path; its existence is not checked. */
export function assertStoreUrl(url: string): void {
  parseStoreUrl(url);
}

function parseStoreUrl(url: string): StoreAddress {
  if (url.trim() === "" || url.includes("\0")) throw badUrl(url, "is empty or has a NUL in it");
  const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(url)?.[1]?.toLowerCase();
  if (scheme === undefined) return { kind: "file", root: resolve(url) };
  if (/^[^:]+:\/\/[^/]*@/.test(url)) {
    // Not repeated in the message, because it would put the secret into logs.
    throw new FleetError("bad_usage", `the ${scheme}:// URL of the store has credentials in it`, {
      cure: "leave them out of the URL; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or use a role",
    });
  }
  if (scheme === "file") return parseFileUrl(url);
  if (scheme === "s3") return parseBucketUrl(url);
  throw badUrl(url, `has the scheme "${scheme}", which no store supports`);
}

function parseFileUrl(url: string): StoreAddress {
  if (!/^file:\/\/(?:localhost)?\//i.test(url)) throw badUrl(url, "must begin with file:/// and an absolute path");
  if (/[?#]/.test(url)) throw badUrl(url, "has a ? or # in it; write %3F or %23 if the folder's name has one");
  try {
    return { kind: "file", root: resolve(fileURLToPath(url)) };
  } catch (error) {
    throw badUrl(url, "is not a valid file URL", error);
  }
}

/** Taken literally, as the AWS tools do: a `%20` in a prefix is a `%20` in the keys. */
function parseBucketUrl(url: string): StoreAddress {
  const address = splitS3Url(url);
  if (address === null) throw badUrl(url, "names no valid bucket after s3://");
  const { bucket, key: rest } = address;
  if (/[?#]/.test(rest)) throw badUrl(url, "has a ? or # in it; endpoint and region are separate options");
  const prefix = rest.replace(/\/$/, "");
  try {
    if (prefix !== "") assertKey(prefix);
  } catch (error) {
    throw badUrl(url, "has a prefix with empty, '.' or '..' segments, backslashes or control characters", error);
  }
  return { kind: "s3", bucket, prefix };
}

function badUrl(url: string, problem: string, cause?: unknown): FleetError {
  return new FleetError("bad_usage", `the store ${JSON.stringify(url)} ${problem}`, { cure: ALLOWED, cause });
}
