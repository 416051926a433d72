/**
 * Arrow columns that wrap typed arrays. apache-arrow's builders copy value by value and are
 * 10 to 100 times slower, so they are not used.
 */
import {
  type Data,
  Field,
  FixedSizeBinary,
  FixedSizeList,
  Float16,
  Float32,
  Int32,
  List,
  makeData,
  RecordBatch,
  Schema,
  Struct,
  Uint32,
  Utf8,
} from "apache-arrow";
import { FleetError } from "../core/errors.ts";
import type { Utf8Texts } from "../core/rows.ts";

export interface Column {
  readonly field: Field;
  readonly data: Data;
}

function column(name: string, data: Data): Column {
  return { field: new Field(name, data.type, false), data };
}

export function utf8Column(name: string, values: readonly string[] | Utf8Texts): Column {
  if ("bytes" in values) return column(name, wrappedUtf8(values));
  return column(name, utf8Data(name, values, { nullCount: 0 }));
}

function wrappedUtf8({ offsets, bytes }: Utf8Texts): Data<Utf8> {
  return makeData({
    type: new Utf8(),
    length: offsets.length - 1,
    nullCount: 0,
    valueOffsets: toSigned(offsets),
    data: bytes,
  });
}

/** A nullable column, even if no value is null, so that all files of a run have one schema. */
export function optionalUtf8Column(name: string, values: readonly (string | null)[]): Column {
  const nullBitmap = new Uint8Array(Math.ceil(values.length / 8));
  values.forEach((value, i) => {
    if (value !== null) nullBitmap[i >> 3]! |= 1 << (i & 7);
  });
  const nullCount = values.reduce((count, value) => count + (value === null ? 1 : 0), 0);
  const data = utf8Data(
    name,
    values.map((value) => value ?? ""),
    { nullCount, nullBitmap },
  );
  return { field: new Field(name, data.type, true), data };
}

function utf8Data(
  name: string,
  values: readonly string[],
  nulls: Readonly<{ nullCount: number; nullBitmap?: Uint8Array }>,
): Data<Utf8> {
  const valueOffsets = new Int32Array(values.length + 1);
  let bytes = 0;
  for (let i = 0; i < values.length; i++) {
    bytes += Buffer.byteLength(values[i]!);
    valueOffsets[i + 1] = bytes;
  }
  if (bytes > 0x7fffffff)
    throw new RangeError(`column ${name} holds ${bytes} bytes of text; Arrow's utf8 ends at 2 GiB`);
  const data = Buffer.allocUnsafe(bytes);
  for (let i = 0; i < values.length; i++) data.write(values[i]!, valueOffsets[i]!, "utf8");
  return makeData({ type: new Utf8(), length: values.length, ...nulls, valueOffsets, data });
}

export function uint32Column(name: string, values: Uint32Array): Column {
  return column(name, uint32Data(values));
}

export function fixedBinaryColumn(name: string, values: Uint8Array, byteWidth: number): Column {
  const type = new FixedSizeBinary(byteWidth);
  return column(name, makeData({ type, length: values.length / byteWidth, nullCount: 0, data: values }));
}

export function int32ListColumn(name: string, offsets: Uint32Array, values: Int32Array): Column {
  const child = makeData({ type: new Int32(), length: values.length, nullCount: 0, data: values });
  return column(name, listData(offsets, child));
}

/** Float32 values, or the bits of half-precision floats. */
export type VectorValues = Float32Array | Uint16Array;

/** @param values [length, dim] */
export function vectorColumn(name: string, values: VectorValues, dim: number): Column {
  return column(name, vectorData(values, dim));
}

/** A list of vectors per row. @param offsets [rows + 1], in vectors. @param values [vectors, dim] */
export function vectorListColumn(name: string, offsets: Uint32Array, values: VectorValues, dim: number): Column {
  return column(name, listData(offsets, vectorData(values, dim)));
}

/** `struct<indices: list<uint32>, values: list<float32>>`, the shape Milvus and Qdrant use. */
export function sparseColumn(name: string, offsets: Uint32Array, indices: Uint32Array, values: Float32Array): Column {
  const children = [listData(offsets, uint32Data(indices)), listData(offsets, float32Data(values))];
  const type = new Struct([
    new Field("indices", children[0]!.type, false),
    new Field("values", children[1]!.type, false),
  ]);
  return column(name, makeData({ type, length: offsets.length - 1, nullCount: 0, children }));
}

function uint32Data(values: Uint32Array): Data<Uint32> {
  return makeData({ type: new Uint32(), length: values.length, nullCount: 0, data: values });
}

function float32Data(values: Float32Array): Data<Float32> {
  return makeData({ type: new Float32(), length: values.length, nullCount: 0, data: values });
}

function float16Data(bits: Uint16Array): Data<Float16> {
  return makeData({ type: new Float16(), length: bits.length, nullCount: 0, data: bits });
}

function vectorData(values: VectorValues, dim: number): Data<FixedSizeList<Float32 | Float16>> {
  const child: Data<Float32 | Float16> = values instanceof Uint16Array ? float16Data(values) : float32Data(values);
  const type = new FixedSizeList(dim, new Field("item", child.type, false));
  return makeData({ type, length: values.length / dim, nullCount: 0, child });
}

/** Arrow's offsets are signed; all of ours are far below 2^31, so the bits are the same. */
function toSigned(offsets: Uint32Array): Int32Array {
  return new Int32Array(offsets.buffer, offsets.byteOffset, offsets.length);
}

function listData(offsets: Uint32Array, child: Data): Data<List> {
  const valueOffsets = toSigned(offsets);
  const type = new List(new Field("item", child.type, false));
  return makeData({ type, length: offsets.length - 1, nullCount: 0, valueOffsets, child });
}

/** One record batch of the columns. All columns must be of the same length. */
export function toRecordBatch(columns: readonly Column[], metadata: ReadonlyMap<string, string>): RecordBatch {
  const rows = columns[0]?.data.length ?? 0;
  for (const { field, data } of columns) {
    if (data.length !== rows) {
      throw new FleetError(
        "inference_failed",
        `column ${field.name} has ${data.length} rows where the others have ${rows}`,
      );
    }
  }
  const schema = new Schema(
    columns.map((each) => each.field),
    new Map(metadata),
  );
  const struct = makeData({
    type: new Struct(schema.fields),
    length: rows,
    nullCount: 0,
    children: columns.map((each) => each.data),
  });
  return new RecordBatch(schema, struct);
}
