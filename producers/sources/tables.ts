/** Recognises folders that are tables, whose files are not all current: a log or metadata beside them says which are. */
import { opendir, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { openFileSource } from "../../src/adapters/file/file-source.ts";
import type { S3Bucket, S3Entry } from "../../src/adapters/s3/s3-source.ts";
import { rejectAt } from "../../src/core/documents.ts";
import { FleetError, hasCode, messageOf } from "../../src/core/errors.ts";
import { type DeltaLog, readDeltaTable, type TableFiles } from "./delta.ts";
import type { TableFields } from "./partition.ts";

const DELTA_LOG = "_delta_log";
const ICEBERG_METADATA = /\.metadata\.json$/;

/** Data files of a table's current version, by their paths relative to the input. */
export class OpenedTable {
  readonly #below: string;
  readonly #files: TableFiles;
  readonly #missing: Set<string>;

  /** @param below Path of the table relative to the input, empty for the input itself. */
  constructor(below: string, files: TableFiles) {
    this.#below = below;
    this.#files = files;
    this.#missing = new Set(files.keys());
  }

  /** The values of the partition of a file that was found; null if the table does not hold it. */
  take(path: string): TableFields | null {
    const inTable = this.#below === "" ? path : path.slice(this.#below.length + 1);
    this.#missing.delete(inTable);
    return this.#files.get(inTable) ?? null;
  }

  /** Files of the table that were not found, as rejects. @param at The table as the user names it. */
  *missing(at: string): Generator<{ kind: "reject"; reject: ReturnType<typeof rejectAt> }> {
    for (const path of this.#missing) {
      const detail = "the table's log names this file, and it is not there";
      yield { kind: "reject", reject: rejectAt({ file: `${at}/${path}` }, "unreadable", detail) };
    }
  }
}

/** Finds out whether a local folder is a table. */
export class TableGuard {
  readonly #folder: string;
  readonly #names: ReadonlySet<string>;

  constructor(folder: string, entries: readonly { readonly name: string; readonly kind: string }[]) {
    this.#folder = folder;
    this.#names = new Set(entries.filter(({ kind }) => kind !== "file").map(({ name }) => name));
  }

  /**
   * Null if it is a plain folder.
   * @throws FleetError `source_unreadable` for a table that cannot be read at its current version
   */
  async open(below: string): Promise<OpenedTable | null> {
    const folder = this.#folder;
    if (this.#names.has(DELTA_LOG)) return new OpenedTable(below, await readDeltaTable(localLog(folder)));
    if (this.#names.has(".hoodie")) throw notRead(folder, "Hudi");
    if (this.#names.has("metadata") && (await holdsIcebergMetadata(join(folder, "metadata"))))
      throw notRead(folder, "Iceberg");
    return null;
  }
}

/**
 * Refuses a partition of a table as an input of its own: its files are listed by the table's log only.
 * @throws FleetError `source_unreadable`
 */
export async function assertNoPartition(input: string, holdsLog: (folder: string) => Promise<boolean>): Promise<void> {
  const parts = input.replace(/\/$/, "").split("/");
  const table = parts.slice(0, parts.findLastIndex((part) => !part.includes("=")) + 1).join("/");
  if (parts.at(-1)?.includes("=") !== true || !(await holdsLog(table))) return;
  const conditions = parts.filter((part) => part.includes("=")).map((part) => `--where '${part}'`);
  throw new FleetError(
    "source_unreadable",
    `${input} is a partition of a Delta table, whose files are not all current`,
    {
      cure: `name the table itself, ${table || "its folder"}, with ${conditions.join(" ")}`,
    },
  );
}

export async function holdsDeltaLog(folder: string): Promise<boolean> {
  return stat(join(folder, DELTA_LOG)).then(
    (info) => info.isDirectory(),
    () => false,
  );
}

function localLog(folder: string): DeltaLog {
  const log = join(folder, DELTA_LOG);
  return {
    table: folder,
    list: async () => {
      try {
        return await readdir(log);
      } catch (error) {
        throw new FleetError("source_unreadable", `${log} cannot be read: ${messageOf(error)}`, { cause: error });
      }
    },
    open: (name) => openFileSource({ path: join(log, name), name: join(log, name) }),
  };
}

async function holdsIcebergMetadata(folder: string): Promise<boolean> {
  try {
    for await (const { name } of await opendir(folder)) if (ICEBERG_METADATA.test(name)) return true;
    return false;
  } catch (error) {
    // An unreadable folder is reported by the walk.
    if (hasCode(error, "source_unreadable")) throw error;
    return false;
  }
}

/**
 * The table at a prefix of a bucket; null if there is none.
 * @param prefix Empty, or ends with a slash.
 * @throws FleetError `source_unreadable` for a table that cannot be read at its current version
 */
export async function tableInBucket(bucket: S3Bucket, prefix: string): Promise<OpenedTable | null> {
  await assertNoPartition(prefix, async (folder) => {
    for await (const _ of bucket.list(folder === "" ? `${DELTA_LOG}/` : `${folder}/${DELTA_LOG}/`)) return true;
    return false;
  });
  const entries = new Map<string, S3Entry>();
  const log = `${prefix}${DELTA_LOG}/`;
  for await (const entry of bucket.list(log)) entries.set(entry.key.slice(log.length), entry);
  const table = `${bucket.url}/${prefix.replace(/\/$/, "")}`;
  if (entries.size > 0) {
    const list = async (): Promise<string[]> => [...entries.keys()];
    const open: DeltaLog["open"] = async (name) => {
      const entry = entries.get(name);
      if (entry !== undefined) return bucket.open(entry);
      throw new FleetError("source_missing", `${bucket.url}/${log}${name} does not exist`);
    };
    return new OpenedTable("", await readDeltaTable({ table, list, open }));
  }
  for await (const { key } of bucket.list(`${prefix}metadata/`))
    if (ICEBERG_METADATA.test(key)) throw notRead(table, "Iceberg");
  return null;
}

/** Refuses a table that is found within a listing, when some of its files may have been read already. */
export function assertNoTable(bucket: S3Bucket, key: string): void {
  const at = /(?:^|\/)(?:_delta_log|\.hoodie)\/|(?:^|\/)metadata\/[^/]*\.metadata\.json$/.exec(key);
  if (at === null) return;
  const table = `${bucket.url}/${key.slice(0, at.index)}`;
  throw new FleetError("source_unreadable", `${table} is a table, and not all of its files are current`, {
    cure: "name the table itself as an input, and the other prefixes beside it",
  });
}

function notRead(folder: string, format: "Hudi" | "Iceberg"): FleetError {
  return new FleetError(
    "source_unreadable",
    `${folder} is a table in the format ${format}, which is not read: not all of its files are current`,
    { cure: "export its current rows to Parquet, for example with DuckDB or Spark, and name that folder" },
  );
}
