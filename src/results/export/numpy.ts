/** NumPy's file format, which FAISS and SciPy users read: dense matrices, CSR parts of sparse ones. */
import type { ResultRows } from "../../arrow/results.ts";
import { denseOf, type ExportedFile, type ExportFormat, fieldsOf, type Slice, sparseOf, colbertOf } from "./format.ts";

const SLICE_BYTES = 64 * 1024 * 1024;
const ALIGNMENT = 64;

/** Format version 1.0, little-endian, C order: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html */
function npy(descr: "<f4" | "<u4" | "<i8", shape: readonly number[], data: Uint8Array): Uint8Array {
  const dictionary = `{'descr': '${descr}', 'fortran_order': False, 'shape': (${shape.join(", ")}${shape.length === 1 ? "," : ""}), }`;
  const magic = Buffer.from("\u0093NUMPY\u0001\u0000", "latin1");
  const padding = (ALIGNMENT - ((magic.length + 2 + dictionary.length + 1) % ALIGNMENT)) % ALIGNMENT;
  const header = Buffer.from(`${dictionary}${" ".repeat(padding)}\n`, "latin1");
  const length = Buffer.alloc(2);
  length.writeUInt16LE(header.length);
  return Buffer.concat([magic, length, header, data]);
}

function bytesOf(values: Float32Array | Uint32Array | BigInt64Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

function joined(pieces: readonly (Float32Array | Uint32Array)[]): Uint8Array {
  return Buffer.concat(pieces.map(bytesOf));
}

/** Start offset of each row, and the end of the last. */
function offsetsOf(lengths: readonly number[]): Uint8Array {
  const offsets = new BigInt64Array(lengths.length + 1);
  lengths.forEach((length, i) => (offsets[i + 1] = offsets[i]! + BigInt(length)));
  return bytesOf(offsets);
}

function denseFiles(slice: Slice, part: string, { dim }: ResultRows): ExportedFile[] {
  const vectors = Array.from(slice.picked, (row) => denseOf(slice, row)!);
  return [{ key: `dense/${part}.npy`, body: npy("<f4", [vectors.length, dim], joined(vectors)) }];
}

/** Arrays for `scipy.sparse.csr_matrix((data, indices, indptr))`. */
function sparseFiles(slice: Slice, part: string): ExportedFile[] {
  const vectors = Array.from(slice.picked, (row) => sparseOf(slice, row)!);
  const lengths = vectors.map(({ indices }) => indices.length);
  const total = lengths.reduce((sum, length) => sum + length, 0);
  return [
    { key: `sparse/${part}.indptr.npy`, body: npy("<i8", [lengths.length + 1], offsetsOf(lengths)) },
    { key: `sparse/${part}.indices.npy`, body: npy("<u4", [total], joined(vectors.map(({ indices }) => indices))) },
    { key: `sparse/${part}.data.npy`, body: npy("<f4", [total], joined(vectors.map(({ values }) => values))) },
  ];
}

function colbertFiles(slice: Slice, part: string, { dim }: ResultRows): ExportedFile[] {
  const vectors = Array.from(slice.picked, (row) => colbertOf(slice, row)!);
  const lengths = vectors.map((each) => each.length);
  const total = lengths.reduce((sum, length) => sum + length, 0);
  return [
    { key: `colbert/${part}.offsets.npy`, body: npy("<i8", [lengths.length + 1], offsetsOf(lengths)) },
    { key: `colbert/${part}.npy`, body: npy("<f4", [total, dim], joined(vectors.flat())) },
  ];
}

export const numpy: ExportFormat = {
  heads: ["dense", "sparse", "colbert"],
  sliceBytes: SLICE_BYTES,
  describe: () => [],
  encode: (slice, part) => [
    ...(slice.heads.includes("dense") ? denseFiles(slice, part, slice.rows) : []),
    ...(slice.heads.includes("sparse") ? sparseFiles(slice, part) : []),
    ...(slice.heads.includes("colbert") ? colbertFiles(slice, part, slice.rows) : []),
    {
      key: `ids/${part}.jsonl`,
      body: Buffer.from(Array.from(slice.picked, (row) => `${JSON.stringify(fieldsOf(slice, row))}\n`).join("")),
    },
  ],
};
