/** Mapping of an errno to a fault with a cure. */
import { FleetError, messageOf } from "../../core/errors.ts";

/** Cures of permanent errors, by code. `{path}` is the file or folder concerned. */
const CURES: Readonly<Record<string, string>> = {
  EACCES: "grant this process's user read and write permission on {path} and the folders above it",
  EPERM: "the system forbids this to this process's user; check the owner, mode and attributes of {path}",
  EROFS: "the disk with {path} is mounted read-only; mount it writable or choose another --out",
  ENOSPC: "the disk with {path} is full; free some space and run the same command again, it continues where it stopped",
  EDQUOT: "the disk quota for {path} is used up; raise it or free some space, then run the same command again",
  EFBIG: "the file system under {path} does not support files of this size; choose another --out",
  ENOTDIR: "there is a file in place of a folder in {path}; move it or choose another --out",
  EISDIR: "there is a folder in place of the file {path}; move it or choose another --out",
  ELOOP: "{path} is a symbolic link, and objects are never read or written through one; replace it with its target",
  ENAMETOOLONG: "the file system does not support a name as long as {path}; choose a shorter --out",
};

export function errnoOf(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}

/** @param doing The failed operation, as in "could not `write the object`". */
export function fileFault(params: Readonly<{ error: unknown; doing: string; path: string }>): FleetError {
  const { error, doing, path } = params;
  if (error instanceof FleetError) return error;
  const cure = CURES[errnoOf(error) ?? ""];
  const message = `could not ${doing} ${path}: ${messageOf(error)}`;
  if (cure !== undefined) {
    return new FleetError("store_refused", message, { cure: cure.replace("{path}", path), cause: error });
  }
  return new FleetError("store_unavailable", message, {
    cure: "check that the disk or network share is mounted and healthy, then run the same command again",
    cause: error,
  });
}

export function outsideRoot(params: Readonly<{ path: string; real: string; root: string }>): FleetError {
  return new FleetError(
    "store_refused",
    `${params.path} leads to ${params.real}, outside the store's folder ${params.root}`,
    {
      cure: "a symbolic link points out of the store; remove it, nothing was read or written",
    },
  );
}

export function noHardLinks(path: string, cause: unknown): FleetError {
  return new FleetError("store_refused", `the file system of ${path} has no hard links: ${messageOf(cause)}`, {
    cure:
      "files are published by linking, which prevents two workers from writing the same one; " +
      "choose an --out on ext4, xfs, btrfs, zfs, tmpfs, APFS or NFS, or an s3:// store",
    cause,
  });
}
