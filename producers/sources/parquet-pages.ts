/**
 * Checks the pages of a column chunk before the library decodes them. It trusts every count: a run of a few bytes
 * that claims two billion values fills an array of that size.
 *
 * Layout: https://parquet.apache.org/docs/file-format/data-pages/ (pages, levels, the RLE and bit-packing hybrid).
 */
import { hash } from "node:crypto";
import { brotliDecompressSync, crc32, gunzipSync, inflateRawSync } from "node:zlib";
import type { AsyncBuffer, ColumnMetaData, Compressors, PageHeader, RowGroup, SchemaTree } from "hyparquet";
import { parquetHeader } from "hyparquet/src/column.js";
import { deltaBinaryUnpack } from "hyparquet/src/delta.js";
import { getMaxDefinitionLevel, getMaxRepetitionLevel, getTreePath, isFlatColumn } from "hyparquet/src/schema.js";
import { readVarInt } from "hyparquet/src/thrift.js";
import { compressors as libraryCompressors } from "hyparquet-compressors";
import { assertDecodedBytes } from "./expansion.ts";
import { unzstd } from "./zstd.ts";

/** Maximum number of values per page; each is an object in memory, and writers use thousands. */
const MAX_PAGE_VALUES = 8 * 1024 * 1024;
/** Tolerance for padding: writers fill up the last run. */
const MAX_PADDING = 512;
/** Tolerance for an inaccurate size in a chunk's metadata. */
const SIZE_SLACK_BYTES = 16 * 1024 * 1024;
const MAX_SNAPPY_RATIO = 22;
const MAX_LZ4_RATIO = 255;

type PageCheck = (page: Uint8Array) => void;

/**
 * Checks of the pages, by the digest of a page's bytes in the file: the library copies buffers, and
 * passes its decompressors nothing else. Equal pages with different headers are checked for each of them.
 */
type Checks = Map<string, Map<string, PageCheck>>;

interface Column {
  readonly meta: ColumnMetaData;
  readonly start: number;
  readonly end: number;
  readonly maxRepetition: number;
  readonly maxDefinition: number;
  readonly isFlat: boolean;
}

/** A file with one row group, and decompressors for its pages; both throw an Error that states the reason. */
export function checkedGroup(
  params: Readonly<{ file: AsyncBuffer; group: RowGroup; schema: SchemaTree; columns: readonly string[] }>,
): { readonly file: AsyncBuffer; readonly compressors: Compressors } {
  const { file, group, schema, columns } = params;
  const rows = Number(group.num_rows);
  const checks: Checks = new Map();
  const wanted = group.columns.flatMap(({ meta_data: meta }) =>
    meta !== undefined && columns.includes(meta.path_in_schema[0] ?? "") ? [columnOf(meta, schema)] : [],
  );
  const slice = async (start: number, end = file.byteLength): Promise<ArrayBuffer> => {
    const buffer = await file.slice(start, end);
    for (const column of wanted)
      if (start <= column.start && column.end <= end)
        checkChunk(new DataView(buffer, column.start - start, column.end - column.start), column, rows, checks);
    return buffer;
  };
  return { file: { byteLength: file.byteLength, slice }, compressors: checkedCompressors(checks) };
}

function columnOf(meta: ColumnMetaData, schema: SchemaTree): Column {
  const path = getTreePath(schema, meta.path_in_schema);
  const start = Number(meta.dictionary_page_offset || meta.data_page_offset);
  return {
    meta,
    start,
    end: start + Number(meta.total_compressed_size),
    maxRepetition: getMaxRepetitionLevel(path),
    maxDefinition: getMaxDefinitionLevel(path),
    isFlat: isFlatColumn(path),
  };
}

function checkChunk(view: DataView, column: Column, rows: number, checks: Checks): void {
  const reader = { view, offset: 0 };
  let values = 0;
  let decoded = 0;
  // The same loop condition as in the library.
  while (reader.offset < view.byteLength - 1 && (!column.isFlat || values < rows)) {
    const header = parquetHeader(reader);
    const { compressed_page_size: encodedBytes, uncompressed_page_size: bytes } = header;
    if (!(encodedBytes >= 0) || !(bytes >= 0) || reader.offset + encodedBytes > view.byteLength)
      throw new Error(`a page of ${encodedBytes} bytes is outside its column of ${view.byteLength}`);
    assertDecodedBytes(bytes, encodedBytes);
    const page = new Uint8Array(view.buffer, view.byteOffset + reader.offset, encodedBytes);
    if (header.crc !== undefined && crc32(page) !== header.crc >>> 0)
      throw new Error("the checksum of a page does not match its content");
    reader.offset += encodedBytes;
    decoded += bytes;
    values += checkPage(page, header, column, checks);
  }
  if (values < rows) throw new Error(`a column has ${values} values for ${rows} rows`);
  const said = Number(column.meta.total_uncompressed_size);
  if (decoded > said * 2 + SIZE_SLACK_BYTES || (values === rows && said > decoded * 2 + SIZE_SLACK_BYTES))
    throw new Error(`a column claims ${said} bytes, but its pages have ${decoded}`);
  // In nested columns all pages are decoded for every slice.
  if (!column.isFlat) assertDecodedBytes(decoded, view.byteLength);
}

/** @returns The number of values; 0 for a dictionary. */
function checkPage(page: Uint8Array, header: PageHeader, column: Column, checks: Checks): number {
  const { data_page_header: v1, data_page_header_v2: v2, dictionary_page_header: dictionary } = header;
  const values = (v1 ?? v2 ?? dictionary)?.num_values ?? 0;
  if (!(values >= 0) || values > MAX_PAGE_VALUES)
    throw new Error(`a page has ${values} values; at most ${MAX_PAGE_VALUES} are read`);
  if (v2 !== undefined) checkLevelsV2(page, v2, column);
  const levelBytes = v2 === undefined ? 0 : v2.repetition_levels_byte_length + levelBytesV2(v2, column);
  const check: PageCheck = (bytes) => {
    if (dictionary !== undefined) return;
    const encoding = v1?.encoding ?? v2?.encoding;
    const start = v1 === undefined ? 0 : checkLevelsV1(bytes, values, column);
    checkValues(bytes.subarray(start), { encoding, values, column, isV1: v1 !== undefined });
  };
  const body = page.subarray(levelBytes);
  if (column.meta.codec === "UNCOMPRESSED" || v2?.is_compressed === false) check(body);
  else {
    const digest = digestOf(body);
    const known = checks.get(digest) ?? new Map<string, PageCheck>();
    checks.set(digest, known.set(JSON.stringify([header, column.meta.path_in_schema], withoutBytes), check));
  }
  return dictionary === undefined ? values : 0;
}

function digestOf(page: Uint8Array): string {
  return hash("sha1", page, "base64");
}

/** Statistics have any size, and do not affect how a page is read. */
function withoutBytes(key: string, value: unknown): unknown {
  return key === "statistics" ? undefined : value;
}

// --- Levels and values ----------------------------------------------------------------------------------------

type HeaderV2 = NonNullable<PageHeader["data_page_header_v2"]>;

/** Without levels, the library skips none. */
function levelBytesV2(header: HeaderV2, { maxDefinition }: Column): number {
  return maxDefinition > 0 ? header.definition_levels_byte_length : 0;
}

function checkLevelsV2(page: Uint8Array, header: HeaderV2, column: Column): void {
  const { repetition_levels_byte_length: repetition, num_values: values, num_nulls: nulls } = header;
  const definition = levelBytesV2(header, column);
  if (!(repetition >= 0) || !(definition >= 0) || repetition + definition > page.length)
    throw new Error(`a page has levels of ${repetition} and ${definition} bytes in ${page.length}`);
  if (!(nulls >= 0) || nulls > values) throw new Error(`a page of ${values} values has ${nulls} nulls`);
  if (column.maxRepetition > 0) checkRuns(page.subarray(0, repetition), widthOf(column.maxRepetition), values);
  if (column.maxDefinition > 0)
    checkRuns(page.subarray(repetition, repetition + definition), widthOf(column.maxDefinition), values);
}

/** @returns Offset of the values. */
function checkLevelsV1(page: Uint8Array, values: number, { maxRepetition, maxDefinition }: Column): number {
  let at = 0;
  for (const most of [maxRepetition, maxDefinition]) {
    if (most === 0) continue;
    const { view } = readerOf(page);
    const start = at + 4;
    at = start + view.getUint32(at, true);
    checkRuns(page.subarray(start, at), widthOf(most), values);
  }
  return at;
}

function checkValues(
  bytes: Uint8Array,
  params: Readonly<{ encoding: string | undefined; values: number; column: Column; isV1: boolean }>,
): void {
  const { encoding, values, column, isV1 } = params;
  if (encoding === "DELTA_BYTE_ARRAY") return checkPrefixes(bytes, values);
  const isDictionary = encoding === "PLAIN_DICTIONARY" || encoding === "RLE_DICTIONARY";
  if (!isDictionary && encoding !== "RLE") return;
  // Booleans are preceded by their length in both versions, where the library reads it.
  if (column.meta.type === "BOOLEAN") checkRuns(bytes.subarray(4), 1, values);
  // With a bit width of 0, the first version has no runs at all.
  else if (bytes.length > 0 && (bytes[0]! > 0 || !isV1)) checkRuns(bytes.subarray(1), bytes[0]!, values);
}

function checkRuns(bytes: Uint8Array, bits: number, values: number): void {
  const reader = readerOf(bytes);
  for (let seen = 0; seen < values && reader.offset < bytes.length;) {
    const header = readVarInt(reader);
    const isPacked = (header & 1) === 1;
    const groups = header >>> 1;
    const count = isPacked ? groups * 8 : groups;
    if (count > values - seen + MAX_PADDING) throw new Error(`a run claims ${count} of ${values} values`);
    reader.offset += isPacked ? groups * bits : Math.ceil(bits / 8);
    seen += count;
  }
}

/** Checks prefix lengths: each value begins with a copied prefix of the previous one. */
function checkPrefixes(bytes: Uint8Array, values: number): void {
  const reader = readerOf(bytes);
  readVarInt(reader);
  readVarInt(reader);
  const lengths = new Int32Array(Math.min(values, readVarInt(reader)));
  reader.offset = 0;
  if (lengths.length > 0) deltaBinaryUnpack(reader, lengths.length, lengths);
  assertDecodedBytes(
    lengths.reduce((sum, length) => sum + length, bytes.length),
    bytes.length,
  );
}

function readerOf(bytes: Uint8Array): { view: DataView; offset: number } {
  return { view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), offset: 0 };
}

function widthOf(level: number): number {
  return 32 - Math.clz32(level);
}

// --- Decompression --------------------------------------------------------------------------------------------

type Decompress = (input: Uint8Array, outputBytes: number) => Uint8Array;

/** None outputs more than its declared size, and none allocates more than its input can expand to. */
const DECOMPRESS: Readonly<Record<string, Decompress>> = {
  SNAPPY: (input, outputBytes) => libraryCompressed("SNAPPY", input, outputBytes, MAX_SNAPPY_RATIO),
  LZ4: (input, outputBytes) => libraryCompressed("LZ4", input, outputBytes, MAX_LZ4_RATIO),
  LZ4_RAW: (input, outputBytes) => libraryCompressed("LZ4_RAW", input, outputBytes, MAX_LZ4_RATIO),
  GZIP: (input, outputBytes) => {
    const inflate = input[0] === 0x1f && input[1] === 0x8b ? gunzipSync : inflateRawSync;
    return inflate(input, { maxOutputLength: Math.max(1, outputBytes) });
  },
  BROTLI: (input, outputBytes) => brotliDecompressSync(input, { maxOutputLength: Math.max(1, outputBytes) }),
  ZSTD: (input, outputBytes) => unzstd(input, outputBytes),
};

function libraryCompressed(
  codec: "SNAPPY" | "LZ4" | "LZ4_RAW",
  input: Uint8Array,
  outputBytes: number,
  ratio: number,
): Uint8Array {
  if (outputBytes > (input.length + 64) * ratio)
    throw new Error(`${input.length} bytes of ${codec} cannot hold the ${outputBytes} that are said`);
  return libraryCompressors[codec]!(input, outputBytes);
}

function checkedCompressors(checks: Checks): Compressors {
  const checked = Object.entries(DECOMPRESS).map(([codec, decompress]): [string, Decompress] => [
    codec,
    (input, outputBytes) => {
      const known = checks.get(digestOf(input));
      if (known === undefined) throw new Error("a page is not where its column has pages");
      const page = decompress(input, outputBytes);
      for (const check of known.values()) check(page);
      return page;
    },
  ]);
  return Object.fromEntries(checked);
}
