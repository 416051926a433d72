/** A LanceDB table of rows, and beside it a table of the runs that were loaded into it. */
import { Table } from "apache-arrow";
import {
  optionalUtf8Column,
  sparseColumn,
  toRecordBatch,
  uint32Column,
  utf8Column,
  vectorColumn,
  vectorListColumn,
} from "../arrow/columns.ts";
import type { ResultRows } from "../arrow/results.ts";
import type { Head } from "../core/contracts.ts";
import { FleetError } from "../core/errors.ts";
import type { RowVectors } from "../core/scoring.ts";
import { rowUuid } from "./row-uuid.ts";
import { type Lance, type LanceConnection, type LanceTable, loadLance } from "./lance-api.ts";

const KEYS_PER_DELETE = 500;
/** Below this number a scan of all vectors is as fast as an index, and exact. */
const MIN_INDEXED_ROWS = 1000;
const URL = /^lancedb:\/\/(.+)$/;

/** Columns that the table has besides those of the result files. */
export const OWN_COLUMNS: readonly string[] = ["key", "run"];

/** A run's state in the index; the rows of a started run may be partially loaded. */
export interface IndexedRun {
  readonly run: string;
  readonly state: "begun" | "done";
  readonly model: string;
  readonly modelSha256: string;
  /** Digest of the model's tokenizer, pooling and prefixes; unknown in records and runs of earlier versions. */
  readonly setupSha256?: string | undefined;
  readonly dim: number;
  readonly heads: Head[];
}

/** A row that was found, with the vectors that the index has. */
export interface IndexRow {
  readonly id: string;
  readonly chunk: number;
  readonly text: string | null;
  readonly vectors: RowVectors;
}

export interface IndexAddress {
  /** URL, `lancedb://folder` or `lancedb://s3://bucket/prefix`. */
  readonly url: string;
  readonly table: string;
  readonly s3?: { readonly endpoint?: string | undefined; readonly region?: string | undefined };
}

export class LanceIndex {
  readonly url: string;
  readonly #lance: Lance;
  readonly #connection: LanceConnection;
  readonly #name: string;
  #table: LanceTable | null = null;

  private constructor(lance: Lance, connection: LanceConnection, address: IndexAddress) {
    this.url = address.url;
    this.#lance = lance;
    this.#connection = connection;
    this.#name = address.table;
  }

  /** Opens a table. @throws FleetError `bad_usage`, `addon_missing`, `index_conflict` if embedfleet did not make it. */
  static async open(address: IndexAddress): Promise<LanceIndex> {
    const uri = URL.exec(address.url)?.[1];
    if (uri === undefined) {
      throw new FleetError("bad_usage", `${JSON.stringify(address.url)} is not the URL of an index`, {
        cure: "use lancedb:// and a folder or s3://bucket/prefix: lancedb:///data/index, lancedb://s3://bucket/index",
      });
    }
    const lance = await loadLance();
    const index = new LanceIndex(lance, await lance.connect(uri, { storageOptions: s3Options(address) }), address);
    const names = await index.#connection.tableNames();
    if (!names.includes(address.table)) return index;
    index.#table = await index.#connection.openTable(address.table);
    const { fields } = await index.#table.schema();
    if (names.includes(index.#runsName) && fields.some(({ name }) => name === "key")) return index;
    throw new FleetError("index_conflict", `the table ${address.table} in ${address.url} was not made by embedfleet`, {
      cure: "choose another --table",
    });
  }

  get #runsName(): string {
    return `${this.#name}_runs`;
  }

  /** True before the first run. */
  get isEmpty(): boolean {
    return this.#table === null;
  }

  /** Runs in the order they were recorded. */
  async runs(): Promise<IndexedRun[]> {
    if (!(await this.#connection.tableNames()).includes(this.#runsName)) return [];
    const table = await this.#connection.openTable(this.#runsName);
    const rows = await table.query().toArray();
    table.close();
    return rows
      .map((row) => JSON.parse(String(row["record"])) as { readonly at: string } & IndexedRun)
      .toSorted((a, b) => (a.at < b.at ? -1 : 1));
  }

  async record(run: IndexedRun): Promise<void> {
    const data = [{ record: JSON.stringify({ at: new Date().toISOString(), ...run }) }];
    const exists = (await this.#connection.tableNames()).includes(this.#runsName);
    const table = exists
      ? await this.#connection.openTable(this.#runsName)
      : await this.#connection.createTable(this.#runsName, data);
    if (exists) await table.add(data);
    table.close();
  }

  /** Adds rows; each replaces an existing row of the same document and chunk. */
  async upsert(rows: ResultRows, run: string): Promise<void> {
    const data = toTable(rows, run);
    if (this.#table === null) this.#table = await this.#connection.createTable(this.#name, data);
    else await this.#table.mergeInsert("key").whenMatchedUpdateAll().whenNotMatchedInsertAll().execute(data);
  }

  async remove(rows: Readonly<{ ids: readonly string[]; chunks: Uint32Array }>): Promise<void> {
    const keys = rows.ids.map((id, i) => `'${rowUuid(id, rows.chunks[i]!)}'`);
    for (let from = 0; from < keys.length; from += KEYS_PER_DELETE)
      await this.#table?.delete(`key IN (${keys.slice(from, from + KEYS_PER_DELETE).join(",")})`);
  }

  /** Removes the rows of all other runs. Run ids contain no quotes. */
  async retain(runs: readonly string[]): Promise<void> {
    await this.#table?.delete(`run NOT IN (${runs.map((run) => `'${run}'`).join(",")})`);
  }

  count(): Promise<number> {
    return this.#table?.countRows() ?? Promise.resolve(0);
  }

  /** Creates missing indexes, updates existing ones and compacts small files. */
  async optimize(params: Readonly<{ fullText: boolean }>): Promise<void> {
    const table = this.#table;
    if (table === null) return;
    const indexed = (await table.listIndices()).flatMap(({ columns }) => columns);
    const { Index } = this.#lance;
    const names = (await table.schema()).fields.map(({ name }) => name);
    const make = async (column: string, config: () => unknown): Promise<void> => {
      if (names.includes(column) && !indexed.includes(column)) await table.createIndex(column, { config: config() });
    };
    await make("key", () => Index.btree());
    if ((await table.countRows()) >= MIN_INDEXED_ROWS)
      await make("dense", () => Index.ivfFlat({ distanceType: "dot" }));
    if (params.fullText) await make("text", () => Index.fts());
    await table.optimize();
  }

  /** The rows of the nearest dense vectors, nearest first. @param nprobes Number of index partitions to search. */
  async nearest(params: Readonly<{ vector: Float32Array; limit: number; nprobes: number }>): Promise<IndexRow[]> {
    if (this.#table === null) return [];
    const columns = (await this.#table.schema()).fields.map(({ name }) => name);
    const wanted = ["id", "chunk", "dense", "sparse", "colbert", "text"].filter((name) => columns.includes(name));
    const rows = await this.#table
      .vectorSearch(params.vector)
      .distanceType("dot")
      .column("dense")
      .select([...wanted, "_distance"])
      .limit(params.limit)
      .nprobes(params.nprobes)
      .toArray();
    return rows.map((row) => toIndexRow(row as FoundRow, params.vector.length));
  }

  async close(): Promise<void> {
    this.#table?.close();
    this.#connection.close();
  }
}

function s3Options({ s3 }: IndexAddress): Record<string, string> {
  return {
    ...(s3?.region !== undefined && { aws_region: s3.region }),
    ...(s3?.endpoint !== undefined && {
      aws_endpoint: s3.endpoint,
      allow_http: String(s3.endpoint.startsWith("http:")),
      virtual_hosted_style_request: "false",
    }),
  };
}

function toTable(rows: ResultRows, run: string): Table {
  const columns = [
    utf8Column(
      "key",
      rows.ids.map((id, row) => rowUuid(id, rows.chunks[row]!)),
    ),
    utf8Column("id", rows.ids),
    uint32Column("chunk", rows.chunks),
    uint32Column("char_start", rows.charStarts),
    uint32Column("char_end", rows.charEnds),
    uint32Column("n_tokens", rows.tokenCounts),
    utf8Column(
      "run",
      rows.ids.map(() => run),
    ),
  ];
  if (rows.dense) columns.push(vectorColumn("dense", rows.dense, rows.dim));
  if (rows.sparse) columns.push(sparseColumn("sparse", rows.sparse.offsets, rows.sparse.indices, rows.sparse.values));
  if (rows.colbert) columns.push(vectorListColumn("colbert", rows.colbert.offsets, rows.colbert.values, rows.dim));
  if (rows.texts) columns.push(utf8Column("text", rows.texts));
  for (const { name, values } of rows.kept) columns.push(optionalUtf8Column(name, values));
  return new Table([toRecordBatch(columns, new Map())]);
}

interface FoundVector {
  toArray(): Float32Array;
}

/** A row as LanceDB returns it: Arrow vectors, not arrays. */
interface FoundRow {
  readonly id: string;
  readonly chunk: number;
  readonly text?: string;
  readonly dense: FoundVector;
  readonly sparse?: { readonly indices: { toArray(): Uint32Array }; readonly values: FoundVector };
  readonly colbert?: Iterable<FoundVector>;
}

function toIndexRow({ id, chunk, text, dense, sparse, colbert }: FoundRow, dim: number): IndexRow {
  const indices = sparse?.indices.toArray();
  const tokens = colbert === undefined ? null : Array.from(colbert, (vector) => vector.toArray());
  const values = tokens && new Float32Array(tokens.length * dim);
  tokens?.forEach((token, i) => values!.set(token, i * dim));
  return {
    id,
    chunk,
    text: text ?? null,
    vectors: {
      dim,
      dense: dense.toArray(),
      sparse:
        sparse === undefined || indices === undefined
          ? null
          : { offsets: Uint32Array.of(0, indices.length), indices, values: sparse.values.toArray() },
      colbert: values && { offsets: Uint32Array.of(0, tokens?.length ?? 0), values },
    },
  };
}
