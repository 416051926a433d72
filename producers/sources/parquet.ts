/** Parquet: row group by row group, only the needed columns. */
import {
  type AsyncBuffer,
  type FileMetaData,
  parquetMetadataAsync,
  parquetReadObjects,
  parquetSchema,
  type RowGroup,
  type SchemaTree,
} from "hyparquet";
import { getPhysicalColumns, isListLike } from "hyparquet/src/schema.js";
import type { SourceItem } from "../../src/core/documents.ts";
import { FleetError } from "../../src/core/errors.ts";
import type { ByteSource } from "../../src/core/ports.ts";
import { type ColumnInfo, resolveColumns } from "./resolve-columns.ts";
import { assertRows, TextBudget } from "./expansion.ts";
import { checkedGroup } from "./parquet-pages.ts";
import { convertOf, isTextElement, PARSERS, rawMetadata } from "./parquet-values.ts";
import { type RecordOptions, toDocument } from "./record.ts";
import { damageOf, unreadableAt } from "./unreadable.ts";

/** Last bytes of a file whose footer is encrypted. */
const ENCRYPTED_MAGIC = "PARE";
/** Size of a slice in bytes; a row group with larger columns is read in slices. */
const SLICE_BYTES = 64 * 1024 * 1024;
/** Maximum number of rows per slice: each is an object in memory, however small it is in the file. */
const SLICE_ROWS = 1024 * 1024;
/** Compressed bytes of one row group that are cached, so that its slices do not fetch them repeatedly. */
const KEPT_BYTES = 256 * 1024 * 1024;

/** Documents of all row groups. A damaged one is one reject that names its rows; the groups after it are read. */
export async function* readParquet(source: ByteSource, options: RecordOptions): AsyncGenerator<SourceItem> {
  let metadata: FileMetaData;
  let columns: ColumnInfo[];
  try {
    metadata = await readMetadata(source);
    columns = columnsOf(metadata);
  } catch (error) {
    yield unreadableAt({ file: source.name }, damageOf(source.name, error), null);
    return;
  }
  const budget = new TextBudget(source.bytes ?? 0);
  const resolved = resolveColumns(source.name, columns, options);
  if ("refused" in resolved) {
    yield resolved.refused;
    return;
  }
  let firstRow = 0;
  for (const [index, group] of metadata.row_groups.entries()) {
    const rows = Number(group.num_rows);
    let row = firstRow;
    try {
      for await (const slice of readGroup({ source, metadata, group, columns: resolved.needed })) {
        for (const record of slice) {
          const item = toDocument(record, { file: source.name, line: ++row }, options);
          budget.take(item?.kind === "document" ? item.document.text.length : 0);
          if (item !== null) yield item;
        }
      }
    } catch (error) {
      const lost = `rows ${row + 1} to ${firstRow + rows} (row group ${index + 1} of ${metadata.row_groups.length})`;
      yield unreadableAt({ file: source.name, line: row + 1 }, damageOf(source.name, error), lost);
    }
    firstRow += rows;
  }
}

async function readMetadata(source: ByteSource): Promise<FileMetaData> {
  const bytes = source.bytes ?? 0;
  try {
    if (bytes < 12) throw new Error(`a Parquet file has at least 12 bytes; this one has ${bytes}`);
    const metadata = await parquetMetadataAsync(asyncBuffer(source));
    if (metadata.row_groups.some(({ num_rows }) => num_rows < 0))
      throw new Error("a row group has a negative number of rows");
    assertRows(Number(metadata.row_groups.reduce((rows, { num_rows }) => rows + num_rows, 0n)), bytes);
    return metadata;
  } catch (error) {
    if (!(error instanceof FleetError)) await assertPlainFooter(source, bytes);
    throw damageOf(source.name, error);
  }
}

async function assertPlainFooter(source: ByteSource, bytes: number): Promise<void> {
  if (bytes < ENCRYPTED_MAGIC.length) return;
  const end = await source.readRange({ start: bytes - ENCRYPTED_MAGIC.length, end: bytes });
  if (end.toString("latin1") !== ENCRYPTED_MAGIC) return;
  throw new FleetError(
    "source_unreadable",
    `${source.name} is an encrypted Parquet file, for which embedfleet has no key; write it without encryption`,
  );
}

function columnsOf(metadata: FileMetaData): ColumnInfo[] {
  const encrypted = encryptedColumns(metadata);
  return parquetSchema(metadata).children.map((node) => {
    const { element, children } = node;
    const type = children.length > 0 ? nestedType(element) : (element.logical_type?.type ?? element.type ?? "unknown");
    const isText = isTextColumn(node);
    return encrypted.has(element.name)
      ? { name: element.name, type, isText, unreadable: "is encrypted; write it without encryption" }
      : { name: element.name, type, isText };
  });
}

/** Text, and lists of text. */
function isTextColumn(node: SchemaTree): boolean {
  if (!isListLike(node)) return node.children.length === 0 && isTextElement(node.element);
  const repeated = node.children[0]!;
  return isTextColumn(repeated.children.length === 1 ? repeated.children[0]! : repeated);
}

/** Names of the top-level columns that are encrypted, wholly or in part, in a file whose footer is not. */
function encryptedColumns(metadata: FileMetaData): Set<string> {
  const leaves = getPhysicalColumns(parquetSchema(metadata));
  const names = metadata.row_groups.flatMap(({ columns }) =>
    columns.flatMap(({ crypto_metadata: crypto, meta_data: meta }, i) =>
      crypto === undefined && meta !== undefined ? [] : [leaves[i]?.split(".")[0] ?? ""],
    ),
  );
  return new Set(names);
}

function nestedType(element: SchemaTree["element"]): string {
  return element.logical_type?.type ?? element.converted_type ?? "STRUCT";
}

type Row = Record<string, unknown>;

async function* readGroup(
  params: Readonly<{ source: ByteSource; metadata: FileMetaData; group: RowGroup; columns: readonly string[] }>,
): AsyncGenerator<Row[]> {
  const { source, metadata, group, columns } = params;
  const rows = Number(group.num_rows);
  const schema = parquetSchema(metadata);
  const raw = rawMetadata(metadata, schema);
  const converts = schema.children.flatMap((node): [string, (value: unknown) => unknown][] => {
    const convert = columns.includes(node.element.name) ? convertOf(node) : null;
    return convert === null ? [] : [[node.element.name, convert]];
  });
  const { file, compressors } = checkedGroup({ file: keeping(asyncBuffer(source)), group, schema, columns });
  const slices = Math.max(Math.ceil(sizeOf(group, columns) / SLICE_BYTES), Math.ceil(rows / SLICE_ROWS));
  const step = Math.max(1, Math.floor(rows / slices));
  for (let rowStart = 0; rowStart < rows; rowStart += step) {
    try {
      const slice = await parquetReadObjects({
        file,
        // Only this group: the library iterates over all of them in every call.
        metadata: { ...raw, row_groups: [group] },
        columns: [...columns],
        rowStart,
        rowEnd: Math.min(rowStart + step, rows),
        compressors,
        parsers: PARSERS,
        utf8: false,
      });
      const expected = Math.min(step, rows - rowStart);
      if (slice.length !== expected) throw new Error(`it holds ${slice.length} rows instead of ${expected}`);
      for (const [name, convert] of converts) for (const record of slice) record[name] = convert(record[name]);
      yield slice;
    } catch (error) {
      throw damageOf(source.name, error);
    }
  }
}

/** Uncompressed size of the columns in bytes, at least 1. */
function sizeOf(group: RowGroup, columns: readonly string[]): number {
  let bytes = 1;
  for (const { meta_data } of group.columns) {
    if (meta_data !== undefined && columns.includes(meta_data.path_in_schema[0] ?? ""))
      bytes += Number(meta_data.total_uncompressed_size);
  }
  return bytes;
}

function asyncBuffer(source: ByteSource): AsyncBuffer {
  const byteLength = source.bytes ?? 0;
  return {
    byteLength,
    slice: async (start, end = byteLength) => {
      if (!Number.isSafeInteger(start) || start < 0 || end > byteLength || end < start)
        throw new Error(`it refers to bytes ${start} to ${end} of ${byteLength}`);
      if (start === end) return new ArrayBuffer(0);
      const { buffer, byteOffset, byteLength: bytes } = await source.readRange({ start, end });
      return (bytes === buffer.byteLength ? buffer : buffer.slice(byteOffset, byteOffset + bytes)) as ArrayBuffer;
    },
  };
}

/** Caches ranges that were read, up to a limit. */
function keeping(file: AsyncBuffer): AsyncBuffer {
  const kept = new Map<string, ArrayBuffer>();
  let bytes = 0;
  return {
    byteLength: file.byteLength,
    slice: async (start, end = file.byteLength) => {
      const range = `${start}-${end}`;
      const found = kept.get(range) ?? (await file.slice(start, end));
      if (!kept.has(range) && bytes + found.byteLength <= KEPT_BYTES) {
        kept.set(range, found);
        bytes += found.byteLength;
      }
      return found;
    },
  };
}
