/**
 * The folder of a file store. It is created once, by the command that starts a store, and never by a process that has seen
 * it or that only works on it: a folder that vanished is an unmounted disk or a deleted store, and a new one in its place
 * would fill the disk below with results that nobody looks for.
 *
 * It is identified by device and inode and, because a new mount may change both, by the id in `.tmp/store-id`.
 */
import { randomUUID } from "node:crypto";
import { lstat, mkdir, readdir, readFile, realpath, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { FleetError } from "../../core/errors.ts";
import { errnoOf, fileFault, outsideRoot } from "./file-faults.ts";
import { linkFile, lstatOrNull, unlinkIfThere, writeTemp } from "./file-io.ts";

/** Folder of unfinished files, on the same file system as the names they are linked to. */
export const TEMP_FOLDER = ".tmp";
const ID_FILE = "store-id";
/** Age in milliseconds from which a temporary file belongs to a killed process. Generous: clocks on a share differ. */
const STALE_TEMP_MS = 24 * 60 * 60 * 1000;
/** Milliseconds to wait for the folder: machines start in any order, so a worker may start before its store exists. */
const WAIT_MS = 30_000;
const POLL_MS = 100;

interface Seen {
  /** Path with links resolved. */
  readonly real: string;
  readonly identity: string;
  /** Null in a store that nothing was written to yet. */
  readonly id: string | null;
}

export interface FileRootOptions {
  readonly makeRoot?: boolean | undefined;
  readonly waitMs?: number | undefined;
  /** Called once when a write begins to wait for the folder. */
  readonly onWait?: ((wait: RootWait) => void) | undefined;
}

/** A write that waits for a missing folder. */
export interface RootWait {
  /** Absolute path of the folder. */
  readonly path: string;
  /** Longest wait in milliseconds. */
  readonly waitMs: number;
}

export class FileRoot {
  readonly path: string;
  readonly #waitMs: number;
  readonly #onWait: (wait: RootWait) => void;
  #mayMake: boolean;
  #seen: Seen | undefined;
  /** Result of the first write's check, shared by concurrent writes. A failure is not cached. */
  #ready: Promise<string> | undefined;

  /**
   * @param options.makeRoot Whether the first write creates a missing folder and its parents. Default true.
   * @param options.waitMs Longest wait in milliseconds of the first write for a folder that it may not create.
   */
  constructor(path: string, options: FileRootOptions = {}) {
    this.path = path;
    this.#mayMake = options.makeRoot ?? true;
    this.#waitMs = options.waitMs ?? WAIT_MS;
    this.#onWait = options.onWait ?? (() => {});
  }

  /** Check before reads. @returns False when the folder does not exist and has not since this process first looked. */
  async isThere(): Promise<boolean> {
    const identity = await identityOf(this.path);
    if (this.#seen === undefined) {
      if (identity === null) return false;
      const real = await realpath(this.path);
      this.#seen = { real, identity, id: await readId(real) };
    } else if (identity !== this.#seen.identity) await this.#recognise(identity);
    return true;
  }

  /** Check before writes; also creates the folder for unfinished files. @returns The real path. */
  async ready(): Promise<string> {
    await this.isThere();
    this.#ready ??= this.#prepare().catch((error: unknown) => {
      this.#ready = undefined;
      throw error;
    });
    return this.#ready;
  }

  /** The folder for unfinished files was deleted; the next write creates it again. */
  forgetTemps(): void {
    this.#ready = undefined;
  }

  async #prepare(): Promise<string> {
    if (this.#seen === undefined && this.#mayMake) await makeFolders(this.path);
    this.#mayMake = false;
    await this.#untilThere();
    if (this.#seen === undefined) throw noRoot(this.path);
    const { real, identity, id } = this.#seen;
    const temp = join(real, TEMP_FOLDER);
    await makeTemps(temp, this.path);
    this.#seen = { real, identity, id: await settleId(temp, id ?? randomUUID()) };
    return real;
  }

  /** Waits until the folder exists; rejects after the longest wait. */
  async #untilThere(): Promise<void> {
    if (await this.isThere()) return;
    const { path } = this;
    this.#onWait({ path, waitMs: this.#waitMs });
    const deadline = performance.now() + this.#waitMs;
    while (!(await this.isThere()) && performance.now() < deadline) await sleep(POLL_MS);
  }

  async #recognise(identity: string | null): Promise<void> {
    const seen = this.#seen!;
    if (identity === null) throw vanished(this.path, "no longer exists");
    const real = await realpath(this.path);
    if (seen.id === null || (await readId(real)) !== seen.id)
      throw vanished(this.path, "is not the same folder as before");
    this.#seen = { real, identity, id: seen.id };
  }
}

/** Null when the path does not exist. @throws FleetError `store_refused` when it is not a folder, or access is denied. */
async function identityOf(path: string): Promise<string | null> {
  try {
    const stats = await stat(path, { bigint: true });
    if (!stats.isDirectory()) throw Object.assign(new Error("it is not a folder"), { code: "ENOTDIR" });
    return `${stats.dev}:${stats.ino}`;
  } catch (error) {
    // As a fault at once: readers would take "not a folder" for a missing object.
    if (errnoOf(error) !== "ENOENT") throw fileFault({ error, doing: "open the store's folder", path });
    return null;
  }
}

/**
 * Creates folders level by level. `mkdir` with `recursive` hides the system's error: on a read-only disk it reports a
 * missing path, and on /proc it never returns.
 */
async function makeFolders(path: string): Promise<void> {
  try {
    await mkdir(path);
  } catch (error) {
    if (errnoOf(error) === "EEXIST") return;
    const parent = dirname(path);
    if (errnoOf(error) !== "ENOENT" || parent === path) throw error;
    await makeFolders(parent);
    await mkdir(path).catch((again: unknown) => {
      if (errnoOf(again) !== "EEXIST") throw again;
    });
  }
}

async function makeTemps(temp: string, root: string): Promise<void> {
  try {
    await mkdir(temp);
  } catch (error) {
    if (errnoOf(error) !== "EEXIST") throw error;
    const stats = await lstat(temp);
    if (!stats.isDirectory()) throw outsideRoot({ path: temp, real: "something that is not a folder", root });
    await removeStaleTemps(temp);
  }
}

async function removeStaleTemps(temp: string): Promise<void> {
  for (const name of await readdir(temp)) {
    if (name === ID_FILE) continue;
    const stats = await lstatOrNull(join(temp, name));
    if (stats?.isFile() === true && Date.now() - stats.mtimeMs > STALE_TEMP_MS) await unlinkIfThere(join(temp, name));
  }
}

async function readId(real: string): Promise<string | null> {
  const path = join(real, TEMP_FOLDER, ID_FILE);
  // Neither a pipe nor a link that another program may have put there.
  const stats = await lstatOrNull(path);
  if (stats?.isFile() !== true || stats.size > 100) return null;
  return readFile(path, "utf8");
}

/** @returns The id of the store from now on; one of several concurrent writers wins. */
async function settleId(temp: string, id: string): Promise<string> {
  const there = await readId(dirname(temp));
  if (there !== null) return there;
  const made = await writeTemp(temp, Buffer.from(id));
  try {
    await linkFile(made, join(temp, ID_FILE));
  } catch (error) {
    if (errnoOf(error) !== "EEXIST") throw error;
  } finally {
    await unlinkIfThere(made);
  }
  return (await readId(dirname(temp))) ?? id;
}

function noRoot(path: string): FleetError {
  return new FleetError("store_refused", `the store's folder ${path} does not exist`, {
    cure: "mount its disk or share, or correct --out; a worker does not create a store, so run `enqueue` first",
  });
}

function vanished(path: string, finding: string): FleetError {
  return new FleetError("store_unavailable", `the store's folder ${path} ${finding}; nothing was written`, {
    cure: "it was deleted, or its disk or network share is not mounted; mount it again, then run the same command again",
  });
}
