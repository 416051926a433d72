/** Finds the files below a folder, through symbolic links, in the same order on every machine. */
import type { Stats } from "node:fs";
import { opendir, realpath, stat } from "node:fs/promises";
import { isAbsolute, join, posix, relative } from "node:path";
import { errnoOf } from "../../src/adapters/file/file-faults.ts";
import { toPosix } from "../../src/adapters/input-address.ts";
import { rejectAt } from "../../src/core/documents.ts";
import { messageOf } from "../../src/core/errors.ts";
import { passedByName, passedByPath } from "./formats.ts";
import type { TableFields } from "./partition.ts";
import { type OpenedTable, TableGuard } from "./tables.ts";

/** A file, as a POSIX path relative to the folder; or why a file or folder is not read. */
export type Found =
  | {
      readonly kind: "file";
      readonly path: string;
      /** Where to read it; links are resolved where only some places may be read. */
      readonly at: string;
      /** Values of the table's partition that the file belongs to. */
      readonly fields?: TableFields;
    }
  /** `path` is that of a file or folder. */
  | { readonly kind: "passed"; readonly path: string; readonly why: string }
  | { readonly kind: "reject"; readonly reject: ReturnType<typeof rejectAt> };

export interface WalkOptions {
  readonly noFollow: boolean;
  /** Why the target of a link may not be read, null if it may; absent where everything may be read. */
  readonly whyForbidden?: (target: string) => Promise<string | null>;
  /** True if a file at this path below the folder is read, so that a link to it would only read it twice. */
  readonly wants: (path: string) => boolean;
}

interface Folder {
  /** Path relative to the root, empty for the root. */
  readonly below: string;
  readonly real: string;
  readonly table: OpenedTable | null;
}

/**
 * Walks in order of names by code unit; the names of one folder at a time are held. Names that begin with a dot, and
 * files and folders that other programs put beside their data, are passed over. A table is read at its current version.
 *
 * @throws FleetError `source_unreadable` for a table that cannot be read as such
 */
export async function* walk(root: string, options: WalkOptions): AsyncGenerator<Found> {
  const real = await realpath(root).catch(() => root);
  yield* new Walk(root, real, options).folder({ below: "", real, table: null });
}

class Walk {
  readonly #root: string;
  readonly #realRoot: string;
  readonly #options: WalkOptions;
  /** Folders that were entered through a link. */
  readonly #entered = new Set<string>();

  constructor(root: string, realRoot: string, options: WalkOptions) {
    this.#root = root;
    this.#realRoot = realRoot;
    this.#options = options;
  }

  async *folder(folder: Folder): AsyncGenerator<Found> {
    const at = join(this.#root, folder.below);
    let entries: Entry[];
    try {
      entries = await entriesOf(at);
    } catch (error) {
      yield { kind: "reject", reject: rejectAt({ file: at }, "unreadable", messageOf(error)) };
      return;
    }
    const guard = new TableGuard(at, entries);
    const opened = await guard.open(folder.below);
    const inner = { ...folder, table: opened ?? folder.table };
    for (const entry of entries) yield* this.#entry(inner, entry);
    if (opened !== null) yield* opened.missing(at);
  }

  async *#entry(folder: Folder, { name, kind }: Entry): AsyncGenerator<Found> {
    const path = posix.join(folder.below, name);
    const marker = passedByName(name, kind === "folder" ? "folder" : "file");
    if (marker !== null) yield { kind: "passed", path, why: marker };
    else if (kind === "file") yield this.#file(folder, path, join(this.#root, path));
    else if (kind === "folder") yield* this.folder({ ...folder, below: path, real: join(folder.real, name) });
    else if (kind === "link") yield* this.#link(folder, path);
    else yield { kind: "passed", path, why: "special file" };
  }

  #file({ table }: Folder, path: string, at: string): Found {
    if (table === null) return { kind: "file", path, at };
    const fields = table.take(path);
    return fields === null
      ? { kind: "passed", path, why: "file that its table does not hold" }
      : { kind: "file", path, at, fields };
  }

  async *#link(folder: Folder, path: string): AsyncGenerator<Found> {
    const found = await this.#resolve(folder, path);
    if ("kind" in found) yield found;
    else yield* this.folder(found);
  }

  /** What a link leads to: a file, a folder to walk, or the reason why neither is read. */
  async #resolve(folder: Folder, path: string): Promise<Found | Folder> {
    const { noFollow, whyForbidden } = this.#options;
    const passed = (why: string): Found => ({ kind: "passed", path, why });
    if (noFollow) return passed("symbolic link");
    const name = join(this.#root, path);
    const target = await targetOf(name);
    if (typeof target === "string") return passed(target);
    const { real, info } = target;
    const isFolder = info.isDirectory();
    if (isFolder && isWithin(real, folder.real)) return passed("symbolic link that leads back to a folder above it");
    if (this.#isReadAnyway(real, isFolder)) return passed("symbolic link to what is read anyway");
    const why = (await whyForbidden?.(real)) ?? null;
    if (why !== null) return { kind: "reject", reject: rejectAt({ file: name }, "unreadable", why) };
    if (info.isFile()) return this.#file(folder, path, whyForbidden === undefined ? name : real);
    if (!isFolder) return passed("special file");
    this.#entered.add(real);
    return { ...folder, below: path, real };
  }

  /** True for what the walk finds without this link, or has found through another. */
  #isReadAnyway(target: string, isFolder: boolean): boolean {
    if (isFolder && this.#entered.has(target)) return true;
    if (!isWithin(this.#realRoot, target)) return false;
    const below = toPosix(relative(this.#realRoot, target));
    return isFolder ? passedByPath(`${below}/x`) === null : this.#options.wants(below);
  }
}

/** The target of a link, with all links resolved, or why there is none. */
async function targetOf(link: string): Promise<{ readonly real: string; readonly info: Stats } | string> {
  try {
    const real = await realpath(link);
    return { real, info: await stat(real) };
  } catch (error) {
    return errnoOf(error) === "ELOOP" ? "symbolic link that leads back to itself" : "symbolic link that leads nowhere";
  }
}

interface Entry {
  readonly name: string;
  readonly kind: "file" | "folder" | "link" | "other";
}

async function entriesOf(folder: string): Promise<Entry[]> {
  const entries: Entry[] = [];
  for await (const entry of await opendir(folder)) {
    const kind = entry.isFile() ? "file" : entry.isDirectory() ? "folder" : entry.isSymbolicLink() ? "link" : "other";
    entries.push({ name: entry.name, kind });
  }
  return entries.sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** True if `path` is the folder or below it; both with links resolved. */
function isWithin(folder: string, path: string): boolean {
  const way = relative(folder, path);
  return way === "" || (!isAbsolute(way) && way.split(/[/\\]/)[0] !== "..");
}
