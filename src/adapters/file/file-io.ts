/** File operations of the file store: whole reads, synced writes, and absence as a result instead of an error. */
import { randomUUID } from "node:crypto";
import { constants, type Stats } from "node:fs";
import { link, lstat, open, unlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { errnoOf, noHardLinks } from "./file-faults.ts";
import { shorterThanRange } from "../store-rules.ts";

/** Error codes of `link(2)` on FAT, exFAT, some FUSE and SMB mounts. */
const NO_LINK_CODES = new Set(["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EXDEV"]);

/** @returns The path of a complete, synced file with a unique name. */
export async function writeTemp(folder: string, body: Uint8Array): Promise<string> {
  const temp = join(folder, `${process.pid}-${randomUUID()}`);
  const file = await open(temp, "wx", 0o644);
  try {
    await file.writeFile(body);
    await file.sync();
  } catch (error) {
    await unlinkIfThere(temp);
    throw error;
  } finally {
    await file.close();
  }
  return temp;
}

export async function readFully(
  params: Readonly<{ file: Awaited<ReturnType<typeof open>>; path: string; start: number; bytes: number }>,
): Promise<Uint8Array> {
  const { file, path, start, bytes } = params;
  // Not from the pool: the caller may create typed arrays on it or transfer its memory to a thread.
  const body = Buffer.allocUnsafeSlow(bytes);
  for (let done = 0; done < bytes;) {
    const { bytesRead } = await file.read(body, done, bytes - done, start + done);
    if (bytesRead === 0)
      throw shorterThanRange({ where: path, bytes: start + done, range: { start, end: start + bytes } });
    done += bytesRead;
  }
  return body;
}

export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

export async function lstatOrNull(path: string): Promise<Stats | null> {
  try {
    return await lstat(path);
  } catch (error) {
    if (isGone(error)) return null;
    throw error;
  }
}

export async function unlinkIfThere(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (errnoOf(error) !== "ENOENT") throw error;
  }
}

/** Whether the path does not exist; ENOTDIR means that a parent is a file, so nothing can exist below it. */
export function isGone(error: unknown): boolean {
  const code = errnoOf(error);
  return code === "ENOENT" || code === "ENOTDIR";
}

/** @throws With EEXIST when the name is taken; FleetError `store_refused` where there are no hard links. */
export async function linkFile(from: string, to: string): Promise<void> {
  try {
    await link(from, to);
  } catch (error) {
    if (NO_LINK_CODES.has(errnoOf(error) ?? "")) throw noHardLinks(dirname(to), error);
    throw error;
  }
}

/** @throws With EEXIST when the name is taken. */
export async function makeEmpty(path: string): Promise<void> {
  await (await open(path, "wx", 0o644)).close();
}
