/**
 * `ObjectStore` on a folder. An object appears by `link(2)`, which fails when the name is taken: that is
 * the create-if-absent, and it holds between processes and, on NFS, between machines. Bytes are synced
 * before the link and the folder after it, so "created" and "exists" both survive a power failure.
 */
import { createHash } from "node:crypto";
import { constants, type Dirent, type Stats } from "node:fs";
import { lstat, mkdir, open, readdir, realpath, rmdir, unlink } from "node:fs/promises";
import { dirname, join, sep } from "node:path";
import { pathToFileURL } from "node:url";
import { FleetError, hasCode } from "../../core/errors.ts";
import { assertKey } from "../../core/layout.ts";
import type {
  ByteRange,
  CreateOutcome,
  ObjectInfo,
  ObjectStore,
  ReplaceOutcome,
  VersionedBody,
} from "../../core/ports.ts";
import { errnoOf, fileFault, outsideRoot } from "./file-faults.ts";
import {
  isGone,
  linkFile,
  lstatOrNull,
  makeEmpty,
  readFully,
  syncFolder,
  unlinkIfThere,
  writeTemp,
} from "./file-io.ts";
import { FileRoot, type FileRootOptions, TEMP_FOLDER } from "./file-root.ts";
import { type FileLock, publishLocked, releaseLock, takeLock } from "./file-lock.ts";
import { assertPrefix, assertRange, assertWithin, missing, shorterThanRange } from "../store-rules.ts";

/** `lstat` calls in flight while listing: enough to hide latency, few enough for the thread pool. */
const LIST_CONCURRENCY = 32;
/** Flags that follow no link and do not block on a pipe that another program put there. */
const READ_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
/** Most attempts to create folders and link into them while a `remove` may prune them. */
const LINK_ATTEMPTS = 20;

export class FileStore implements ObjectStore {
  readonly url: string;
  readonly #root: string;
  readonly #folder: FileRoot;

  /** @param root Absolute path. */
  constructor(root: string, options: FileRootOptions = {}) {
    this.#root = root;
    this.#folder = new FileRoot(root, options);
    this.url = pathToFileURL(root).href;
  }

  async create(params: Readonly<{ key: string; body: Uint8Array }>): Promise<CreateOutcome> {
    const path = this.#pathOf(params.key);
    try {
      await this.#folder.ready();
      // Avoids writing megabytes for a name that is taken; the link below decides.
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

  async replace(
    params: Readonly<{ key: string; body: Uint8Array; ifVersion?: string | null }>,
  ): Promise<ReplaceOutcome> {
    const path = this.#pathOf(params.key);
    try {
      const temp = await this.#writeTemp(params.body);
      try {
        if (params.ifVersion === null) return (await this.#publish(temp, path)) === "created" ? "replaced" : "changed";
        return await this.#replaceBy(temp, { ...params, path });
      } finally {
        await unlinkIfThere(temp);
      }
    } catch (error) {
      throw fileFault({ error, doing: "replace", path });
    }
  }

  /** The version is a digest of the bytes, so that it does not depend on the timestamps of a file system. */
  async readVersion(params: Readonly<{ key: string; maxBytes?: number }>): Promise<VersionedBody | null> {
    try {
      const body = await this.read(params);
      return { body, version: createHash("sha256").update(body).digest("hex") };
    } catch (error) {
      if (hasCode(error, "object_missing")) return null;
      throw error;
    }
  }

  async read(params: Readonly<{ key: string; range?: ByteRange; maxBytes?: number }>): Promise<Uint8Array> {
    const { key, range, maxBytes } = params;
    const path = this.#pathOf(key);
    if (range !== undefined) assertRange(key, range);
    try {
      if (!(await this.#folder.isThere())) throw missing(path);
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
      if (!(await this.#folder.isThere())) return null;
      await this.#assertInside(dirname(path));
      const stats = await lstatOrNull(path);
      return stats?.isFile() === true ? infoOf(params.key, stats) : null;
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
      if (!(await this.#folder.isThere())) return;
      await this.#assertInside(dirname(path));
      if ((await lstat(path)).isDirectory()) return;
      await this.#locked(params.key, makeEmpty, () => unlink(path));
      await syncFolder(dirname(path));
      await this.#pruneEmptyFolders(dirname(path));
    } catch (error) {
      if (isGone(error)) return;
      throw fileFault({ error, doing: "remove", path });
    }
  }

  /** No-op: nothing is open between calls. */
  async close(): Promise<void> {}

  #pathOf(key: string): string {
    assertKey(key);
    if (key === TEMP_FOLDER || key.startsWith(`${TEMP_FOLDER}/`)) {
      throw new FleetError("store_refused", `the key ${key} is in the store's folder for unfinished files`, {
        cure: "this is a fault of the caller; nothing was read or written",
      });
    }
    return join(this.#root, key);
  }

  async #writeTemp(body: Uint8Array): Promise<string> {
    const root = await this.#folder.ready();
    try {
      return await writeTemp(join(root, TEMP_FOLDER), body);
    } catch (error) {
      if (errnoOf(error) === "ENOENT") this.#folder.forgetTemps();
      throw error;
    }
  }

  /** Refuses links on the path to an object that lead out of the store. */
  async #assertInside(folder: string): Promise<void> {
    const [real, root] = await Promise.all([realpath(folder), realpath(this.#root)]);
    if (real !== root && !real.startsWith(root.endsWith(sep) ? root : root + sep)) {
      throw outsideRoot({ path: folder, real, root });
    }
  }

  /** @param replacement.ifVersion When omitted, replaces any version. */
  async #replaceBy(
    temp: string,
    replacement: Readonly<{ key: string; path: string; ifVersion?: string | null }>,
  ): Promise<ReplaceOutcome> {
    const { key, path, ifVersion } = replacement;
    const folder = dirname(path);
    for (let attempt = 1; ; attempt += 1) {
      try {
        const makeLock = (lock: string): Promise<void> => linkFile(temp, lock);
        const outcome = await this.#locked(key, makeLock, async (lock) => {
          if (ifVersion !== undefined && (await this.readVersion({ key }))?.version !== ifVersion) return "changed";
          await this.#makeFolder(folder);
          return (await publishLocked(lock, path)) ? "replaced" : "taken-over";
        });
        if (outcome === "replaced") await syncFolder(folder);
        if (outcome !== "taken-over") return outcome;
      } catch (error) {
        if (errnoOf(error) !== "ENOENT" || attempt === LINK_ATTEMPTS) throw error;
      }
    }
  }

  /** Runs one at a time among all calls that replace or remove the object. @param make Creates the lock's file. */
  async #locked<T>(
    key: string,
    make: (path: string) => Promise<void>,
    act: (lock: FileLock) => Promise<T>,
  ): Promise<T> {
    const folder = join(await this.#folder.ready(), TEMP_FOLDER);
    const lock = await takeLock({ folder, key, make });
    try {
      return await act(lock);
    } finally {
      await releaseLock(lock);
    }
  }

  async #isTaken(path: string): Promise<boolean> {
    const stats = await lstatOrNull(path);
    if (stats === null) return false;
    try {
      await this.#assertInside(dirname(path));
    } catch (error) {
      // It was removed meanwhile, and its folder pruned.
      if (errnoOf(error) === "ENOENT") return false;
      throw error;
    }
    if (stats.isDirectory()) throw Object.assign(new Error("it is a folder"), { code: "EISDIR" });
    return true;
  }

  /** Links the file to its name. A `remove` may prune folders at any step, so missing ones are created again. */
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
    let outcome: CreateOutcome = "created";
    try {
      await linkFile(temp, path);
    } catch (error) {
      if (errnoOf(error) !== "EEXIST") throw error;
      await this.#isTaken(path);
      outcome = "exists";
    }
    // After "exists", too: the winner may not have synced yet, and the caller assumes durability.
    await syncFolder(folder);
    return outcome;
  }

  /** Creates folders level by level, so that none is created beyond a link that leads out. */
  async #makeFolder(folder: string): Promise<void> {
    try {
      return await this.#assertInside(folder);
    } catch (error) {
      // Only `FileRoot` creates the root itself: one that vanished may be an unmounted disk.
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

  /** Removes empty folders, because a store has no folders of its own. Stops at the first that is in use. */
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
      if (!(await this.#folder.isThere())) return [];
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
      return stats?.isFile() === true ? infoOf(key, stats) : null;
    } catch (error) {
      throw fileFault({ error, doing: "look at", path });
    }
  }
}

function infoOf(key: string, stats: Stats): ObjectInfo {
  return { key, bytes: stats.size, modifiedAtMs: stats.mtimeMs };
}

/** Null for links, sockets and devices, which are not objects. */
function nameInKeyOrder(entry: Dirent): string | null {
  if (entry.isDirectory()) return `${entry.name}/`;
  return entry.isFile() ? entry.name : null;
}

/** False for names that `create` would refuse; another program put them there. */
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
