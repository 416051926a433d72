/** Reader of our own Arrow files that checks every length, because the bytes come from a store. */
import { type Data, DataType, RecordBatchReader, type RecordBatch, type Utf8 } from "apache-arrow";
import type { VectorType } from "../core/contracts.ts";
import { FleetError, messageOf } from "../core/errors.ts";
import { fromHalf } from "../core/half.ts";
import type { Utf8Texts } from "../core/rows.ts";
import { checkArrowFooter, checkArrowMetadata } from "./check-metadata.ts";

/** Typed, checked access to the columns of one record batch. */
export class BatchView {
  readonly #batch: RecordBatch;
  /** Name for error messages: `the staged rows of shard …`. */
  readonly what: string;

  constructor(batch: RecordBatch, what: string) {
    this.#batch = batch;
    this.what = what;
  }

  get rows(): number {
    return this.#batch.numRows;
  }

  get metadata(): ReadonlyMap<string, string> {
    return this.#batch.schema.metadata;
  }

  get names(): string[] {
    return this.#batch.schema.fields.map((field) => field.name);
  }

  has(name: string): boolean {
    return this.names.includes(name);
  }

  expectMetadata(key: string, value: string): void {
    const found = this.metadata.get(key);
    if (found !== value)
      this.corrupt(`say ${key} = ${JSON.stringify(found ?? null)} where ${JSON.stringify(value)} was expected`);
  }

  strings(name: string): string[] {
    return this.#strings(name, this.#data(name, DataType.isUtf8));
  }

  /** Texts of a nullable column; null where the column is null. */
  optionalStrings(name: string): (string | null)[] {
    const data = this.#data(name, DataType.isUtf8, true);
    const values = this.#strings(name, data);
    if (data.nullCount === 0) return values;
    const bitmap: Uint8Array | null = data.nullBitmap;
    if (bitmap === null || bitmap.length * 8 < this.rows) this.corrupt(`have no bitmap of the nulls in ${name}`);
    return values.map((value, row) => ((bitmap[row >> 3]! & (1 << (row & 7))) === 0 ? null : value));
  }

  /** The texts as UTF-8, a view of the batch's own bytes. */
  utf8(name: string): Utf8Texts {
    return this.#utf8(name, this.#data(name, DataType.isUtf8));
  }

  #utf8(name: string, data: Data<Utf8>): Utf8Texts & { readonly bytes: Buffer } {
    const bytes = Buffer.from(data.values.buffer, data.values.byteOffset, data.values.byteLength);
    return { offsets: this.#offsets(name, data, bytes.length), bytes };
  }

  #strings(name: string, data: Data<Utf8>): string[] {
    const { offsets, bytes } = this.#utf8(name, data);
    return Array.from({ length: this.rows }, (_, row) => bytes.toString("utf8", offsets[row], offsets[row + 1]));
  }

  uint32(name: string): Uint32Array {
    const data = this.#data(name, DataType.isInt);
    return this.#values(name, data, Uint32Array, this.rows);
  }

  fixedBinary(name: string, byteWidth: number): Uint8Array {
    const data = this.#data(name, DataType.isFixedSizeBinary);
    if (data.type.byteWidth !== byteWidth)
      this.corrupt(`have a ${name} of ${data.type.byteWidth} bytes, not ${byteWidth}`);
    return this.#values(name, data, Uint8Array, this.rows * byteWidth);
  }

  int32List(name: string): { offsets: Uint32Array; values: Int32Array } {
    const { offsets, child } = this.#list(name, this.#data(name, DataType.isList));
    return { offsets, values: this.#values(name, child, Int32Array, offsets[this.rows]!) };
  }

  /** @returns float32 [rows, dim] */
  vectors(name: string, type: VectorType): { dim: number; values: Float32Array } {
    return this.#vectors(name, type, this.#data(name, DataType.isFixedSizeList), this.rows);
  }

  /** @returns offsets in vectors [rows + 1] and float32 [vectors, dim] */
  vectorLists(name: string, type: VectorType): { dim: number; offsets: Uint32Array; values: Float32Array } {
    const { offsets, child } = this.#list(name, this.#data(name, DataType.isList));
    return { offsets, ...this.#vectors(name, type, child, offsets[this.rows]!) };
  }

  sparse(name: string): { offsets: Uint32Array; indices: Uint32Array; values: Float32Array } {
    const [first, second] = this.#data(name, DataType.isStruct).children;
    if (first === undefined || second === undefined) this.corrupt(`have a ${name} without indices and values`);
    const indices = this.#list(name, first);
    const values = this.#list(name, second);
    if (indices.offsets.some((offset, i) => offset !== values.offsets[i])) {
      this.corrupt(`have a ${name} with different numbers of indices and values`);
    }
    const length = indices.offsets[this.rows]!;
    return {
      offsets: indices.offsets,
      indices: this.#values(name, indices.child, Uint32Array, length),
      values: this.#values(name, values.child, Float32Array, length),
    };
  }

  corrupt(finding: string): never {
    throw new FleetError("object_corrupt", `${this.what} ${finding}`);
  }

  // oxlint-disable-next-line typescript/no-explicit-any -- Data is generic in the type its guard proves
  #data<T extends DataType>(name: string, isType: (type: any) => type is T, mayBeNull = false): Data<T> {
    const data = this.#batch.getChild(name)?.data[0];
    if (data === undefined) this.corrupt(`have no column ${name}`);
    if (!isType(data.type)) this.corrupt(`have a column ${name} of type ${String(data.type)}`);
    if (data.offset !== 0 || data.length !== this.rows || (data.nullCount !== 0 && !mayBeNull)) {
      this.corrupt(`have a column ${name} with nulls or of another length`);
    }
    return data as Data<T>;
  }

  #list(name: string, data: Data): { offsets: Uint32Array; child: Data } {
    const child = data.children[0];
    if (child === undefined) this.corrupt(`have a list column ${name} without values`);
    return { offsets: this.#offsets(name, data, child.length), child };
  }

  /** Vectors as single-precision floats, converted where half-precision ones were written. */
  #vectors(name: string, type: VectorType, data: Data, length: number): { dim: number; values: Float32Array } {
    const child = data.children[0];
    if (child === undefined || !DataType.isFixedSizeList(data.type)) this.corrupt(`have no vectors in ${name}`);
    const dim = data.type.listSize;
    const values =
      type === "float16"
        ? fromHalf(this.#values(name, child, Uint16Array, length * dim))
        : this.#values(name, child, Float32Array, length * dim);
    return { dim, values };
  }

  /** Offsets that start at zero, never decrease and end within the values; apache-arrow checks none of it. */
  #offsets(name: string, data: Data, limit: number): Uint32Array {
    const raw = data.valueOffsets as Int32Array | undefined;
    if (raw === undefined || raw.length < this.rows + 1) this.corrupt(`have too few offsets in ${name}`);
    const offsets = new Uint32Array(raw.buffer, raw.byteOffset, this.rows + 1);
    let previous = 0;
    for (const offset of offsets) {
      if (offset < previous || offset > limit) this.corrupt(`have offsets in ${name} that do not fit its values`);
      previous = offset;
    }
    if (offsets[0] !== 0) this.corrupt(`have offsets in ${name} that do not start at 0`);
    return offsets;
  }

  #values<T extends Uint8Array | Uint16Array | Int32Array | Uint32Array | Float32Array>(
    name: string,
    data: Data,
    kind: new (buffer: ArrayBufferLike, byteOffset: number, length: number) => T,
    length: number,
  ): T {
    const values: unknown = data.values;
    if (!(values instanceof kind) || values.length < length) this.corrupt(`hold too few or other values in ${name}`);
    return values.subarray(0, length) as T;
  }
}

/** @throws FleetError `object_corrupt` unless the bytes are Arrow IPC, file or stream, of exactly one batch. */
export function readSingleBatch(bytes: Uint8Array, what: string): BatchView {
  try {
    checkArrowMetadata(bytes);
    const reader = RecordBatchReader.from(bytes);
    const batches = [...reader];
    if (batches.length === 1) return new BatchView(batches[0]!, what);
    throw new Error(`${batches.length} record batches instead of 1`);
  } catch (error) {
    if (error instanceof FleetError) throw error;
    throw new FleetError("object_corrupt", `${what} cannot be read as Arrow IPC: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

const FILE_START = Buffer.from("ARROW1\0\0", "latin1");

/**
 * The schema metadata of an Arrow IPC file, from its last bytes: the footer is read as a file of its own, without its
 * batches.
 * @throws FleetError `object_corrupt`, also when the footer is not completely within `end`.
 */
export function readFileMetadata(end: Uint8Array, what: string): ReadonlyMap<string, string> {
  try {
    const file = Buffer.concat([FILE_START, checkArrowFooter(end)]);
    return RecordBatchReader.from(file).open().schema.metadata;
  } catch (error) {
    throw new FleetError("object_corrupt", `${what} cannot be read as an Arrow file: ${messageOf(error)}`, {
      cause: error,
    });
  }
}
