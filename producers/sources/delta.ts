/**
 * Replays the log of a Delta table: which data files its current version consists of.
 * https://github.com/delta-io/delta/blob/master/PROTOCOL.md
 */
import { z } from "zod";
import { FleetError, messageOf } from "../../src/core/errors.ts";
import type { ByteSource } from "../../src/core/ports.ts";
import { type Line, LineSplitter } from "./lines.ts";
import { readColumns } from "./parquet.ts";
import type { TableFields } from "./partition.ts";

/** Maximum length of one action in bytes; an action names one file. */
const MAX_ACTION_BYTES = 16 * 1024 * 1024;
/** Features of tables that do not change which rows a reader of the files sees. */
const READ_FEATURES = new Set([
  "columnMapping",
  "deletionVectors",
  "timestampNtz",
  "typeWidening",
  "typeWidening-preview",
  "v2Checkpoint",
  "vacuumProtocolCheck",
]);

/** Data files by path relative to the table. */
export type TableFiles = ReadonlyMap<string, TableFields>;

/** Access to the folder `_delta_log`. */
export interface DeltaLog {
  /** The table's address in messages. */
  readonly table: string;
  /** Names in the folder, in any order. */
  list(): Promise<string[]>;
  open(name: string): Promise<ByteSource>;
}

const valuesSchema = z.record(z.string(), z.string().nullish());
const addSchema = z.object({
  path: z.string(),
  partitionValues: valuesSchema.nullish(),
  deletionVector: z.unknown().optional(),
});
const removeSchema = z.object({ path: z.string(), deletionVector: z.unknown().optional() });
const actionSchema = z.object({
  add: addSchema.nullish(),
  remove: removeSchema.nullish(),
  metaData: z.object({ configuration: valuesSchema.nullish() }).nullish(),
  protocol: z.object({ minReaderVersion: z.coerce.number(), readerFeatures: z.array(z.string()).nullish() }).nullish(),
  sidecar: z.object({ path: z.string() }).nullish(),
});
type Action = z.infer<typeof actionSchema>;

/**
 * @throws FleetError `source_unreadable` for a damaged log, and for a table whose rows cannot be read from its files alone
 */
export async function readDeltaTable(log: DeltaLog): Promise<TableFiles> {
  const names = (await log.list()).sort();
  const checkpoint = latestCheckpoint(names);
  const replay = new Replay(log.table);
  for (const name of checkpoint?.files ?? []) await replayFile(log, name, replay);
  let version = checkpoint?.version ?? -1;
  for (const name of names) {
    const found = /^(\d{20})\.json$/.exec(name);
    if (found === null || Number(found[1]) <= version) continue;
    if (Number(found[1]) !== version + 1) throw damaged(log.table, `its log lacks version ${version + 1}`);
    await replayFile(log, name, replay);
    version++;
  }
  if (version === -1) throw damaged(log.table, "its log has no version");
  return replay.files();
}

interface Checkpoint {
  readonly version: number;
  readonly files: readonly string[];
}

/** The newest checkpoint of which all parts are there. */
function latestCheckpoint(names: readonly string[]): Checkpoint | null {
  const complete: Checkpoint[] = [];
  const parts = new Map<string, string[]>();
  for (const name of names) {
    const multi = /^(\d{20})\.checkpoint\.\d{10}\.(\d{10})\.parquet$/.exec(name);
    const single = /^(\d{20})\.checkpoint\.(?:parquet|[0-9a-f-]{36}\.(?:json|parquet))$/.exec(name);
    if (single !== null) complete.push({ version: Number(single[1]), files: [name] });
    if (multi === null) continue;
    const [, version, count] = multi;
    const found = [...(parts.get(`${version}.${count}`) ?? []), name];
    parts.set(`${version}.${count}`, found);
    if (found.length === Number(count)) complete.push({ version: Number(version), files: found });
  }
  return complete.reduce<Checkpoint | null>(
    (best, each) => (best === null || each.version >= best.version ? each : best),
    null,
  );
}

async function replayFile(log: DeltaLog, name: string, replay: Replay): Promise<void> {
  const source = await log.open(name);
  try {
    for await (const action of name.endsWith(".json") ? jsonLines(source) : actionRows(source)) {
      const parsed = actionSchema.safeParse(action);
      if (!parsed.success) throw new Error(messageOf(parsed.error));
      replay.apply(parsed.data);
      const { sidecar } = parsed.data;
      // A sidecar lies in a folder of its own, and its name must not lead elsewhere.
      if (sidecar) await replayFile(log, `_sidecars/${sidecar.path.split("/").at(-1)}`, replay);
    }
  } catch (error) {
    if (error instanceof FleetError) throw error;
    throw damaged(log.table, `its log is damaged in ${name}: ${messageOf(error)}`, error);
  } finally {
    await source.close();
  }
}

async function* jsonLines(source: ByteSource): AsyncGenerator {
  const splitter = new LineSplitter(MAX_ACTION_BYTES);
  const parse = (line: Line): unknown => {
    if (line.kind === "too-long") throw new Error(`line ${line.number} has ${line.byteLength} bytes`);
    return JSON.parse(line.bytes.toString("utf8"));
  };
  for await (const chunk of source.stream()) for (const line of splitter.push(chunk)) yield parse(line);
  for (const line of splitter.end()) yield parse(line);
}

function actionRows(source: ByteSource): AsyncGenerator {
  return readColumns(source, ["add", "metaData", "protocol", "sidecar"]);
}

/** The state of a table after the actions so far. */
class Replay {
  readonly #table: string;
  readonly #files = new Map<string, { path: string; fields: TableFields; isPartlyDeleted: boolean }>();
  #features: readonly string[] = [];
  #configuration: Readonly<Record<string, string | null | undefined>> = {};

  constructor(table: string) {
    this.#table = table;
  }

  apply({ add, remove, metaData, protocol }: Action): void {
    if (protocol) this.#features = this.#featuresOf(protocol);
    if (metaData) this.#configuration = metaData.configuration ?? {};
    if (remove) this.#files.delete(keyOf(remove));
    if (!add) return;
    const values = Object.entries(add.partitionValues ?? {});
    this.#files.set(keyOf(add), {
      path: this.#pathOf(add.path),
      // An empty text is how the log writes null.
      fields: Object.fromEntries(values.map(([column, value]) => [column, value || null])),
      isPartlyDeleted: hasVector(add),
    });
  }

  files(): TableFiles {
    const strange = this.#features.filter((feature) => !READ_FEATURES.has(feature));
    if (strange.length > 0) throw refused(this.#table, `it needs a reader with ${strange.join(", ")}`);
    const mapping = this.#configuration["delta.columnMapping.mode"] ?? "none";
    if (mapping !== "none")
      throw refused(this.#table, `it uses column mapping (${mapping}): its files have other names for its columns`);
    const deleted = [...this.#files.values()].filter(({ isPartlyDeleted }) => isPartlyDeleted);
    if (deleted.length > 0)
      throw refused(
        this.#table,
        `deletion vectors mark deleted rows in ${deleted.length} of its ${this.#files.size} files`,
      );
    return new Map([...this.#files.values()].map(({ path, fields }) => [path, fields]));
  }

  #featuresOf({ minReaderVersion, readerFeatures }: NonNullable<Action["protocol"]>): readonly string[] {
    if (minReaderVersion <= 2) return [];
    return minReaderVersion === 3 ? (readerFeatures ?? []) : [`version ${minReaderVersion}`];
  }

  #pathOf(path: string): string {
    if (/^(?:[a-z][a-z0-9+.-]*:|\/)/i.test(path))
      throw refused(this.#table, "it is a shallow clone: its files are those of another table");
    return decodeURIComponent(path);
  }
}

interface FileAction {
  readonly path: string;
  readonly deletionVector?: unknown;
}

/** A file with another deletion vector counts as another file. */
function keyOf({ path, deletionVector }: FileAction): string {
  if (!hasVector({ path, deletionVector })) return path;
  const { storageType, pathOrInlineDv, offset } = deletionVector as Record<string, unknown>;
  return JSON.stringify([path, storageType, pathOrInlineDv, offset ?? null]);
}

function hasVector({ deletionVector }: FileAction): boolean {
  return typeof deletionVector === "object" && deletionVector !== null && Object.values(deletionVector).some(Boolean);
}

function damaged(table: string, finding: string, cause?: unknown): FleetError {
  return new FleetError("source_unreadable", `the Delta table ${table} cannot be read: ${finding}`, { cause });
}

function refused(table: string, finding: string): FleetError {
  return new FleetError("source_unreadable", `the Delta table ${table} cannot be read: ${finding}`, {
    cure: "write its current rows anew, without these features: for example with REORG TABLE … APPLY (PURGE) for deletion vectors, or export them to Parquet",
  });
}
