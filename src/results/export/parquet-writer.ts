/** Parquet files: one with every column of the result files, and one in the types that Milvus imports. */
import type { SchemaElement } from "hyparquet";
import { type ColumnSource, parquetWriteBuffer } from "hyparquet-writer";
import type { ResultRows } from "../../arrow/results.ts";
import type { Head } from "../../core/contracts.ts";
import { TEXT_HASH_BYTES, textHashOf } from "../../core/rows.ts";
import { colbertOf, denseOf, type ExportContext, type ExportFormat, uuidOf, type Slice, sparseOf } from "./format.ts";

/** The writer holds a slice as JavaScript arrays, at about ten times its size. */
const SLICE_BYTES = 16 * 1024 * 1024;

/** A column and the schema elements that define its type. */
interface ParquetColumn {
  readonly schema: readonly SchemaElement[];
  readonly data: ColumnSource["data"];
  /** Vectors are nearly random, so compression and dictionary encoding would waste time. */
  readonly isVector?: boolean;
}

function leaf(name: string, type: Omit<SchemaElement, "name">): SchemaElement {
  return { repetition_type: "REQUIRED", ...type, name };
}

function group(name: string, children: number, type: Omit<SchemaElement, "name"> = {}): SchemaElement {
  return { repetition_type: "REQUIRED", ...type, name, num_children: children };
}

/** A three-level list, see https://github.com/apache/parquet-format/blob/master/LogicalTypes.md#lists */
function list(name: string, item: readonly SchemaElement[]): SchemaElement[] {
  const [first, ...rest] = item;
  const element = { ...first!, name: "element" };
  return [
    group(name, 1, { converted_type: "LIST" }),
    group("list", 1, { repetition_type: "REPEATED" }),
    element,
    ...rest,
  ];
}

const STRING = { type: "BYTE_ARRAY", converted_type: "UTF8" } as const;
const UINT32 = { type: "INT32", converted_type: "UINT_32" } as const;
const INT64 = { type: "INT64" } as const;
const FLOAT = { type: "FLOAT" } as const;

function textColumn(name: string, data: readonly string[]): ParquetColumn {
  return { schema: [leaf(name, STRING)], data: [...data] };
}

function uint32Column(name: string, slice: Slice, values: Uint32Array): ParquetColumn {
  return { schema: [leaf(name, UINT32)], data: Array.from(slice.picked, (row) => values[row]!) };
}

function int64Column(name: string, slice: Slice, values: Uint32Array): ParquetColumn {
  return { schema: [leaf(name, INT64)], data: Array.from(slice.picked, (row) => BigInt(values[row]!)) };
}

function vectorColumns(slice: Slice): ParquetColumn[] {
  const rows = Array.from(slice.picked);
  const has = (head: Head): boolean => slice.heads.includes(head);
  const columns: ParquetColumn[] = [];
  if (has("dense")) {
    const data = rows.map((row) => Array.from(denseOf(slice, row)!));
    columns.push({ schema: list("dense", [leaf("element", FLOAT)]), data, isVector: true });
  }
  if (has("sparse")) {
    const data = rows.map((row) => {
      const { indices, values } = sparseOf(slice, row)!;
      return { indices: [...indices], values: [...values] };
    });
    const fields = [...list("indices", [leaf("element", UINT32)]), ...list("values", [leaf("element", FLOAT)])];
    columns.push({ schema: [group("sparse", 2), ...fields], data, isVector: true });
  }
  if (has("colbert")) {
    const data = rows.map((row) => colbertOf(slice, row)!.map((vector) => Array.from(vector)));
    columns.push({ schema: list("colbert", list("element", [leaf("element", FLOAT)])), data, isVector: true });
  }
  return columns;
}

/** Columns of the text and of the kept fields, which may be null. */
function textColumns({ rows, picked }: Slice): ParquetColumn[] {
  const of = <T>(values: readonly T[]): T[] => Array.from(picked, (row) => values[row]!);
  const kept = rows.kept.map(({ name, values }): ParquetColumn => {
    return { schema: [leaf(name, { ...STRING, repetition_type: "OPTIONAL" })], data: of(values) };
  });
  return rows.texts === null ? kept : [textColumn("text", of(rows.texts)), ...kept];
}

function encode(columns: readonly ParquetColumn[], { run, options }: ExportContext): Uint8Array {
  const schema = [{ name: "root", num_children: columns.length }, ...columns.flatMap((column) => column.schema)];
  const columnData = columns.map((column): ColumnSource => ({
    name: column.schema[0]!.name,
    data: column.data,
    ...(column.isVector && { encoding: "PLAIN", codec: "UNCOMPRESSED", statistics: false }),
  }));
  const kvMetadata = [
    { key: "embedfleet.run", value: run },
    { key: "embedfleet.model", value: options.model.id },
    { key: "embedfleet.options", value: JSON.stringify(options) },
  ];
  return new Uint8Array(parquetWriteBuffer({ schema, columnData, kvMetadata, createdBy: "embedfleet" }));
}

function hashes({ rows, picked }: Slice): ParquetColumn {
  const type = { type: "FIXED_LEN_BYTE_ARRAY", type_length: TEXT_HASH_BYTES } as const;
  return { schema: [leaf("text_hash", type)], data: Array.from(picked, (row) => textHashOf(rows, row)) };
}

function idsOf(slice: Slice): string[] {
  return Array.from(slice.picked, (row) => slice.rows.ids[row]!);
}

/** The columns of the result files, under the same names. */
export const parquet: ExportFormat = {
  heads: ["dense", "sparse", "colbert"],
  sliceBytes: SLICE_BYTES,
  describe: () => [],
  encode: (slice, part, context) => {
    const { rows }: { rows: ResultRows } = slice;
    const columns = [
      textColumn("id", idsOf(slice)),
      uint32Column("chunk", slice, rows.chunks),
      uint32Column("char_start", slice, rows.charStarts),
      uint32Column("char_end", slice, rows.charEnds),
      uint32Column("n_tokens", slice, rows.tokenCounts),
      hashes(slice),
      ...vectorColumns(slice),
      ...textColumns(slice),
    ];
    return [{ key: `data/${part}.parquet`, body: encode(columns, context) }];
  },
};

/** Milvus has no unsigned integers, and a single key column. The collection's schema is in docs/indexing.md. */
export const milvus: ExportFormat = {
  heads: ["dense", "sparse"],
  sliceBytes: SLICE_BYTES,
  describe: () => [],
  encode: (slice, part, context) => {
    const { rows } = slice;
    const columns = [
      textColumn(
        "pk",
        Array.from(slice.picked, (row) => uuidOf(rows, row)),
      ),
      textColumn("id", idsOf(slice)),
      int64Column("chunk", slice, rows.chunks),
      int64Column("char_start", slice, rows.charStarts),
      int64Column("char_end", slice, rows.charEnds),
      int64Column("n_tokens", slice, rows.tokenCounts),
      ...vectorColumns(slice),
      ...textColumns(slice),
    ];
    return [{ key: `data/${part}.parquet`, body: encode(columns, context) }];
  },
};
