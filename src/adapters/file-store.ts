/**
 * `ObjectStore` on a folder. An object appears by `link(2)`, which fails when the name is taken: that is
 * the create-if-absent, and it holds between processes and, on NFS, between machines. Bytes are synced
 * before the link and the folder after it, so "created" and "exists" both survive a power cut.
 */
import { randomUUID } from "node:crypto";
import { constants, type Dirent, type Stats } from "node:fs";
import { link, lstat, mkdir, open, readdir, realpath, rename, rmdir, unlink } from "node:fs/promises";
import { dirname, join, sep } from "node:path";
import { pathToFileURL } from "node:url";
import { FleetError } from "../core/errors.ts";
import { assertKey } from "../core/layout.ts";
import type { ByteRange, CreateOutcome, ObjectInfo, ObjectStore } from "../core/ports.ts";
import { errnoOf, fileFault, noHardLinks, outsideRoot } from "./file-faults.ts";
import { assertPrefix, assertRange, assertWithin, missing, shorterThanRange } from "./store-rules.ts";

/** Half-written files live here, on the same file system as the names they are linked to. */
const TEMP_FOLDER = ".tmp";
/** A temporary file this old belongs to a process that was killed. Generous: clocks on a share differ. */
const STALE_TEMP_MS = 24 * 60 * 60 * 1000;
/** `lstat` calls in flight while listing: enough to hide latency, few enough for the thread pool. */
const LIST_CONCURRENCY = 32;
/** Neither through a link, nor waiting for the other end of a pipe that somebody put there. */
const READ_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
/** How often folders may be pruned by a `remove` while we make them and link into them. */
const LINK_ATTEMPTS = 20;
/** What `link(2)` answers on FAT, exFAT, some FUSE and SMB mounts. */
const NO_LINK_CODES = new Set(["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EXDEV"]);

export class FileStore implements ObjectStore {
  readonly url: string;
  readonly #root: string;
  /** The root with its own links resolved, made on first write. A failure is not remembered. */
  #ready: Promise<string> | undefined;

  /** @param root Absolute path. It is made on the first write, not before. */
  constructor(root: string) {
    this.#root = root;
    this.url = pathToFileURL(root).href;
  }

  async create(params: Readonly<{ key: string; body: Uint8Array }>): Promise<CreateOutcome> {
    const path = this.#pathOf(params.key);
    try {
      await this.#prepare();
      // Spares writing megabytes for a name that is taken; the link below is what decides.
      if (await this.#isTaken(path)) return "exists";
      const temp = await this.#writeTemp(params.body);
      try {
        return await this.#publish(temp, path);
      } finally {
        await unlinkIfThere(temp);
      }
    } catch (error) {
      throw fileFault({ error, doing: "create", path });
    }
  }

  async replace(params: Readonly<{ key: string; body: Uint8Array }>): Promise<void> {
    const path = this.#pathOf(params.key);
    try {
      const temp = await this.#writeTemp(params.body);
      try {
        await this.#makeFolder(dirname(path));
        await rename(temp, path);
      } finally {
        await unlinkIfThere(temp);
      }
      await syncFolder(dirname(path));
    } catch (error) {
      throw fileFault({ error, doing: "replace", path });
    }
  }

  async read(params: Readonly<{ key: string; range?: ByteRange; maxBytes?: number }>): Promise<Uint8Array> {
    const { key, range, maxBytes } = params;
    const path = this.#pathOf(key);
    if (range !== undefined) assertRange(key, range);
    try {
      await this.#assertInside(dirname(path));
      const file = await open(path, READ_FLAGS);
      try {
        const stats = await file.stat();
        if (!stats.isFile()) throw missing(path);
        if (range !== undefined && range.end > stats.size)
          throw shorterThanRange({ where: path, bytes: stats.size, range });
        const start = range?.start ?? 0;
        const bytes = (range?.end ?? stats.size) - start;
        assertWithin({ where: path, bytes, maxBytes });
        return await readFully({ file, path, start, bytes });
      } finally {
        await file.close();
      }
    } catch (error) {
      throw isGone(error) ? missing(path, error) : fileFault({ error, doing: "read", path });
    }
  }

  async stat(params: Readonly<{ key: string }>): Promise<ObjectInfo | null> {
    const path = this.#pathOf(params.key);
    try {
      await this.#assertInside(dirname(path));
      const stats = await lstatOrNull(path);
      return stats?.isFile() === true ? { key: params.key, bytes: stats.size } : null;
    } catch (error) {
      if (isGone(error)) return null;
      throw fileFault({ error, doing: "look at", path });
    }
  }

  list(params: Readonly<{ prefix: string }>): AsyncIterable<ObjectInfo> {
    assertPrefix(params.prefix);
    const folder = params.prefix.slice(0, params.prefix.lastIndexOf("/") + 1);
    return this.#walk(folder, params.prefix);
  }

  async remove(params: Readonly<{ key: string }>): Promise<void> {
    const path = this.#pathOf(params.key);
    try {
      await this.#assertInside(dirname(path));
      if ((await lstat(path)).isDirectory()) return;
      await unlink(path);
      await syncFolder(dirname(path));
      await this.#pruneEmptyFolders(dirname(path));
    } catch (error) {
      if (isGone(error)) return;
      throw fileFault({ error, doing: "remove", path });
    }
  }

  /** Nothing is held open between calls. */
  async close(): Promise<void> {}

  #pathOf(key: string): string {
    assertKey(key);
    if (key === TEMP_FOLDER || key.startsWith(`${TEMP_FOLDER}/`)) {
      throw new FleetError("store_refused", `the key ${key} lies in the store's own folder for unfinished files`, {
        cure: "this is a fault of the caller; nothing was read or written",
      });
    }
    return join(this.#root, key);
  }

  #prepare(): Promise<string> {
    this.#ready ??= prepareRoot(this.#root).catch((error: unknown) => {
      this.#ready = undefined;
      throw error;
    });
    return this.#ready;
  }

  async #writeTemp(body: Uint8Array): Promise<string> {
    const root = await this.#prepare();
    try {
      return await writeTemp(root, body);
    } catch (error) {
      // Somebody cleaned up around us; the next attempt makes the folder again.
      if (errnoOf(error) === "ENOENT") this.#ready = undefined;
      throw error;
    }
  }

  /** A link on the way to an object may stay within the store, and no more. */
  async #assertInside(folder: string): Promise<void> {
    const [real, root] = await Promise.all([realpath(folder), realpath(this.#root)]);
    if (real !== root && !real.startsWith(root.endsWith(sep) ? root : root + sep)) {
      throw outsideRoot({ path: folder, real, root });
    }
  }

  async #isTaken(path: string): Promise<boolean> {
    const stats = await lstatOrNull(path);
    if (stats === null) return false;
    try {
      await this.#assertInside(dirname(path));
    } catch (error) {
      // Removed since, and its folder pruned.
      if (errnoOf(error) === "ENOENT") return false;
      throw error;
    }
    if (stats.isDirectory()) throw Object.assign(new Error("it is a folder"), { code: "EISDIR" });
    return true;
  }

  /** Folders on the way may be pruned by a `remove` at any step, so what is not there is made again. */
  async #publish(temp: string, path: string): Promise<CreateOutcome> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        await this.#makeFolder(dirname(path));
        return await this.#linkOnce(temp, path);
      } catch (error) {
        if (errnoOf(error) !== "ENOENT" || attempt === LINK_ATTEMPTS) throw error;
      }
    }
  }

  async #linkOnce(temp: string, path: string): Promise<CreateOutcome> {
    const folder = dirname(path);
    const failure = await link(temp, path).then(
      () => null,
      (error: unknown) => error,
    );
    const code = failure === null ? null : (errnoOf(failure) ?? "");
    if (code !== null && NO_LINK_CODES.has(code)) throw noHardLinks(folder, failure);
    if (code !== null && code !== "EEXIST") throw failure;
    if (code === "EEXIST") await this.#isTaken(path);
    // After "exists", too: the winner may not have come to its own sync yet, and our caller takes it for durable.
    await syncFolder(folder);
    return code === null ? "created" : "exists";
  }

  /** Level by level, so that no level is made beyond a link that leads out. */
  async #makeFolder(folder: string): Promise<void> {
    try {
      return await this.#assertInside(folder);
    } catch (error) {
      // The root itself is made by `#prepare` alone: one that vanished may be an unmounted disk.
      if (errnoOf(error) !== "ENOENT" || folder === this.#root) throw error;
    }
    const parent = dirname(folder);
    if (parent !== this.#root) await this.#makeFolder(parent);
    try {
      await mkdir(folder);
    } catch (error) {
      if (errnoOf(error) !== "EEXIST") throw error;
    }
    await syncFolder(parent);
    await this.#assertInside(folder);
  }

  /** Stores have no folders of their own: one without objects is gone. Stops at the first that is in use. */
  async #pruneEmptyFolders(from: string): Promise<void> {
    for (let folder = from; folder !== this.#root; folder = dirname(folder)) {
      try {
        await rmdir(folder);
      } catch {
        return;
      }
    }
  }

  async *#walk(folder: string, prefix: string): AsyncGenerator<ObjectInfo> {
    const names = await this.#namesIn(folder);
    const wanted = names.filter((name) => matches(folder + name, prefix));
    for (let first = 0; first < wanted.length; first += LIST_CONCURRENCY) {
      const slice = wanted.slice(first, first + LIST_CONCURRENCY);
      const infos = await Promise.all(
        slice.map((name) => (name.endsWith("/") ? Promise.resolve(null) : this.#fileInfo(folder + name))),
      );
      for (const [index, name] of slice.entries()) {
        const info = infos[index] ?? null;
        if (name.endsWith("/")) yield* this.#walk(folder + name, prefix);
        else if (info !== null) yield info;
      }
    }
  }

  /** Files by name and folders by name and `/`, in the order of the keys: `a.b` comes before `a/b`. */
  async #namesIn(folder: string): Promise<string[]> {
    const path = join(this.#root, folder);
    try {
      await this.#assertInside(path);
      const entries = await readdir(path, { withFileTypes: true });
      const isTemp = (entry: Dirent): boolean => folder === "" && entry.name === TEMP_FOLDER;
      const names = entries.filter((entry) => !isTemp(entry) && isObjectName(entry.name)).map(nameInKeyOrder);
      return names.filter((name) => name !== null).sort();
    } catch (error) {
      if (isGone(error)) return [];
      throw fileFault({ error, doing: "list", path });
    }
  }

  async #fileInfo(key: string): Promise<ObjectInfo | null> {
    const path = join(this.#root, key);
    try {
      const stats = await lstatOrNull(path);
      return stats?.isFile() === true ? { key, bytes: stats.size } : null;
    } catch (error) {
      throw fileFault({ error, doing: "look at", path });
    }
  }
}

async function prepareRoot(root: string): Promise<string> {
  await mkdir(root, { recursive: true });
  const real = await realpath(root);
  const temp = join(real, TEMP_FOLDER);
  try {
    await mkdir(temp);
  } catch (error) {
    if (errnoOf(error) !== "EEXIST") throw error;
    const stats = await lstat(temp);
    if (!stats.isDirectory()) throw outsideRoot({ path: temp, real: "something that is no folder of its own", root });
    await removeStaleTemps(temp);
  }
  return real;
}

async function removeStaleTemps(temp: string): Promise<void> {
  for (const name of await readdir(temp)) {
    const stats = await lstatOrNull(join(temp, name));
    if (stats?.isFile() === true && Date.now() - stats.mtimeMs > STALE_TEMP_MS) await unlinkIfThere(join(temp, name));
  }
}

/** @returns The path of a complete, synced file that no other writer has the name of. */
async function writeTemp(root: string, body: Uint8Array): Promise<string> {
  const temp = join(root, TEMP_FOLDER, `${process.pid}-${randomUUID()}`);
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

async function readFully(
  params: Readonly<{ file: Awaited<ReturnType<typeof open>>; path: string; start: number; bytes: number }>,
): Promise<Uint8Array> {
  const { file, path, start, bytes } = params;
  // Not from the pool: the caller may build typed arrays on it or hand its memory to a thread.
  const body = Buffer.allocUnsafeSlow(bytes);
  for (let done = 0; done < bytes;) {
    const { bytesRead } = await file.read(body, done, bytes - done, start + done);
    if (bytesRead === 0)
      throw shorterThanRange({ where: path, bytes: start + done, range: { start, end: start + bytes } });
    done += bytesRead;
  }
  return body;
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function lstatOrNull(path: string): Promise<Stats | null> {
  try {
    return await lstat(path);
  } catch (error) {
    if (isGone(error)) return null;
    throw error;
  }
}

async function unlinkIfThere(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (errnoOf(error) !== "ENOENT") throw error;
  }
}

/** With a file where a folder would be, nothing can lie beneath it either. */
function isGone(error: unknown): boolean {
  const code = errnoOf(error);
  return code === "ENOENT" || code === "ENOTDIR";
}

/** Null for what is neither a file nor a folder: links, sockets and devices are no objects. */
function nameInKeyOrder(entry: Dirent): string | null {
  if (entry.isDirectory()) return `${entry.name}/`;
  return entry.isFile() ? entry.name : null;
}

/** Names that `create` would refuse were put there by somebody else. */
function isObjectName(name: string): boolean {
  try {
    assertKey(name);
    return true;
  } catch {
    return false;
  }
}

/** @param key A file's key, or a folder's with its `/`. */
function matches(key: string, prefix: string): boolean {
  return key.startsWith(prefix) || (key.endsWith("/") && prefix.startsWith(key));
}
