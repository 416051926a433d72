/**
 * The folder that a file store lies in. It is made once, by the command that begins a store, and never by a process that
 * has seen it or that only works on it: a folder that vanished is an unmounted disk or a store that was deleted, and one
 * made in its place would fill the disk below, with results that nobody looks for.
 *
 * It is known again by device and inode, and after a new mount, which may change both, by the id in `.tmp/store-id`.
 */
import { randomUUID } from "node:crypto";
import { lstat, mkdir, readdir, readFile, realpath, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { FleetError } from "../../core/errors.ts";
import { errnoOf, fileFault, outsideRoot } from "./file-faults.ts";
import { linkFile, lstatOrNull, unlinkIfThere, writeTemp } from "./file-io.ts";

/** Half-written files live here, on the same file system as the names they are linked to. */
export const TEMP_FOLDER = ".tmp";
const ID_FILE = "store-id";
/** A temporary file this old belongs to a process that was killed. Generous: clocks on a share differ. */
const STALE_TEMP_MS = 24 * 60 * 60 * 1000;
/** Machines come up in any order: a worker may be there before the store that it is to work on. */
const WAIT_MS = 30_000;
const POLL_MS = 100;

interface Seen {
  /** With its own links resolved. */
  readonly real: string;
  readonly identity: string;
  /** Null in a store that nothing was written to yet. */
  readonly id: string | null;
}

export interface FileRootOptions {
  readonly makeRoot?: boolean | undefined;
  readonly waitMs?: number | undefined;
  /** Told once when a write begins to wait for the folder. */
  readonly onWait?: ((wait: RootWait) => void) | undefined;
}

/** A write that waits for a folder that is not there. */
export interface RootWait {
  /** The folder, absolute. */
  readonly path: string;
  /** How long it waits at most. */
  readonly waitMs: number;
}

export class FileRoot {
  readonly path: string;
  readonly #waitMs: number;
  readonly #onWait: (wait: RootWait) => void;
  #mayMake: boolean;
  #seen: Seen | undefined;
  /** Of the first write, which several may wait for. A failure is not remembered. */
  #ready: Promise<string> | undefined;

  /**
   * @param options.makeRoot Whether the first write makes the folder, and those above it, if it is not there. Default true.
   * @param options.waitMs How long the first write waits for a folder that it may not make.
   */
  constructor(path: string, options: FileRootOptions = {}) {
    this.path = path;
    this.#mayMake = options.makeRoot ?? true;
    this.#waitMs = options.waitMs ?? WAIT_MS;
    this.#onWait = options.onWait ?? (() => {});
  }

  /** For reading. @returns False when there is no folder and has been none since this process looked first. */
  async isThere(): Promise<boolean> {
    const identity = await identityOf(this.path);
    if (this.#seen === undefined) {
      if (identity === null) return false;
      const real = await realpath(this.path);
      this.#seen = { real, identity, id: await readId(real) };
    } else if (identity !== this.#seen.identity) await this.#recognise(identity);
    return true;
  }

  /** For writing, with a folder for unfinished files. @returns The real path. */
  async ready(): Promise<string> {
    await this.isThere();
    this.#ready ??= this.#prepare().catch((error: unknown) => {
      this.#ready = undefined;
      throw error;
    });
    return this.#ready;
  }

  /** Somebody cleared the folder for unfinished files away; the next write makes it again. */
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

  /** Until the folder is there, or has been waited for long enough. */
  async #untilThere(): Promise<void> {
    if (await this.isThere()) return;
    const { path } = this;
    this.#onWait({ path, waitMs: this.#waitMs });
    const deadline = performance.now() + this.#waitMs;
    while (!(await this.isThere()) && performance.now() < deadline) await sleep(POLL_MS);
  }

  async #recognise(identity: string | null): Promise<void> {
    const seen = this.#seen!;
    if (identity === null) throw vanished(this.path, "is not there any more");
    const real = await realpath(this.path);
    if (seen.id === null || (await readId(real)) !== seen.id) throw vanished(this.path, "is another one than before");
    this.#seen = { real, identity, id: seen.id };
  }
}

/** Null when there is nothing of that name. @throws FleetError `store_refused` when it is no folder, or may not be seen. */
async function identityOf(path: string): Promise<string | null> {
  try {
    const stats = await stat(path, { bigint: true });
    if (!stats.isDirectory()) throw Object.assign(new Error("it is no folder"), { code: "ENOTDIR" });
    return `${stats.dev}:${stats.ino}`;
  } catch (error) {
    // As a fault at once: to those who read, "not a folder" would mean that an object is not there.
    if (errnoOf(error) !== "ENOENT") throw fileFault({ error, doing: "open the store's folder", path });
    return null;
  }
}

/**
 * Level by level. `mkdir` with `recursive` hides what the system said: of a read-only disk it says that something is not
 * there, and on /proc it never comes back.
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
    if (!stats.isDirectory()) throw outsideRoot({ path: temp, real: "something that is no folder of its own", root });
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
  // Not a pipe that somebody put there, and not through a link.
  const stats = await lstatOrNull(path);
  if (stats?.isFile() !== true || stats.size > 100) return null;
  return readFile(path, "utf8");
}

/** @returns The id that the store has from now on: of several who open it first, that of one. */
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
  return new FleetError("store_refused", `the store's folder ${path} is not there`, {
    cure: "mount the disk or share that it is on, or correct --out; a worker makes no store, so run `enqueue` first",
  });
}

function vanished(path: string, finding: string): FleetError {
  return new FleetError("store_unavailable", `the store's folder ${path} ${finding}; nothing was written`, {
    cure: "it was deleted, or its disk or network share is not mounted; mount it again, then run the same command again",
  });
}
