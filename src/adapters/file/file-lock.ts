/**
 * A lock on one object of a file store, between processes and machines, held for milliseconds.
 *
 * The lock is a hard link `.tmp/lock-<digest of the key>.<generation>` to the new bytes; renaming that link onto the object
 * publishes them. So the guarded step itself releases the lock: a holder whose lock was taken over finds nothing to rename.
 *
 * Staleness is decided without comparing clocks: a waiter that has seen the same file (inode and times) for `STALE_MS` by
 * its own monotonic clock creates the next generation. Only one waiter can, and it removes the older one before it looks at
 * the object. One race remains: a holder that is suspended for that long exactly between its last look at the lock and the
 * rename, if another holder has the same generation by then.
 */
import { createHash } from "node:crypto";
import { lstat, readdir, rename } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { errnoOf } from "./file-faults.ts";
import { unlinkIfThere } from "./file-io.ts";

/** Age in milliseconds of a stale lock. A lock is held for a few file operations, a thousandth of this on a slow share. */
const STALE_MS = 5000;
const LONGEST_POLL_MS = 20;

export interface FileLock {
  readonly path: string;
  /** Identity of the lock file; another file under this name is another holder's lock. */
  readonly identity: string;
}

/**
 * Waits until the lock is free.
 * @param params.make Creates the file at that path; throws EEXIST when it exists.
 */
export async function takeLock(
  params: Readonly<{ folder: string; key: string; make: (path: string) => Promise<void> }>,
): Promise<FileLock> {
  const { folder, key, make } = params;
  const prefix = `lock-${createHash("sha256").update(key).digest("hex").slice(0, 32)}.`;
  let watched = { identity: "", sinceMs: 0 };
  for (;;) {
    const current = (await generationsOf(folder, prefix)).at(-1);
    const identity = current === undefined ? null : await identityOf(join(folder, prefix + current));
    if (identity === null) {
      const lock = current === undefined ? await claim(join(folder, `${prefix}0`), make) : null;
      // Another process may have taken over a later generation since the folder was read.
      if (lock !== null && (await generationsOf(folder, prefix)).at(-1) === 0) return lock;
      if (lock !== null) await releaseLock(lock);
    } else if (identity !== watched.identity) {
      watched = { identity, sinceMs: performance.now() };
    } else if (performance.now() - watched.sinceMs >= STALE_MS) {
      const lock = await takeOver({ folder, prefix, stale: current!, identity, make });
      if (lock !== null) return lock;
    }
    await sleep(1 + Math.random() * LONGEST_POLL_MS);
  }
}

/** @returns False when the lock was taken over, in which case nothing was published. */
export async function publishLocked(lock: FileLock, path: string): Promise<boolean> {
  if ((await identityOf(lock.path)) !== lock.identity) return false;
  try {
    await rename(lock.path, path);
    return true;
  } catch (error) {
    if (errnoOf(error) === "ENOENT" && (await identityOf(lock.path)) !== lock.identity) return false;
    throw error;
  }
}

export async function releaseLock(lock: FileLock): Promise<void> {
  if ((await identityOf(lock.path)) === lock.identity) await unlinkIfThere(lock.path);
}

async function takeOver(
  params: Readonly<{
    folder: string;
    prefix: string;
    stale: number;
    identity: string;
    make: (path: string) => Promise<void>;
  }>,
): Promise<FileLock | null> {
  const { folder, prefix, stale, identity, make } = params;
  const lock = await claim(join(folder, `${prefix}${stale + 1}`), make);
  if (lock === null) return null;
  if ((await identityOf(join(folder, prefix + stale))) !== identity) {
    // It was released or taken over in the meantime.
    await releaseLock(lock);
    return null;
  }
  for (const generation of await generationsOf(folder, prefix))
    if (generation <= stale) await unlinkIfThere(join(folder, prefix + generation));
  return lock;
}

async function claim(path: string, make: (path: string) => Promise<void>): Promise<FileLock | null> {
  try {
    await make(path);
  } catch (error) {
    if (errnoOf(error) === "EEXIST") return null;
    throw error;
  }
  const identity = await identityOf(path);
  return identity === null ? null : { path, identity };
}

async function generationsOf(folder: string, prefix: string): Promise<number[]> {
  const names = (await readdir(folder)).filter((name) => name.startsWith(prefix));
  return names.map((name) => Number(name.slice(prefix.length))).sort((a, b) => a - b);
}

async function identityOf(path: string): Promise<string | null> {
  try {
    const { dev, ino, mtimeNs } = await lstat(path, { bigint: true });
    return `${dev}:${ino}:${mtimeNs}`;
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return null;
    throw error;
  }
}
