/** Known faults of apache-arrow 21, each shown here, and what keeps them out of the fleet's files. */
import {
  compressionRegistry,
  CompressionType,
  Field,
  Int32,
  RecordBatch,
  RecordBatchFileWriter,
  Schema,
  Struct,
  tableFromIPC,
  Uint32,
  makeData,
} from "apache-arrow";
import pl from "nodejs-polars";
import { expect, test } from "vitest";
import { decodeResults, encodeResults, type ResultRows } from "../../src/arrow/results.ts";
import { toRecordBatch, uint32Column } from "../../src/arrow/columns.ts";
import { runOptions } from "../fixtures/run-options.ts";
import { readSingleBatch } from "../../src/arrow/read.ts";

const options = runOptions({
  model: { id: "m", revision: "1", sha256: "a".repeat(64), dim: 2, maxTokens: 64 },
  heads: ["dense"],
});

function results(rows: number): ResultRows {
  return {
    ids: Array.from({ length: rows }, (_, i) => `d${i}`),
    chunks: new Uint32Array(rows),
    charStarts: new Uint32Array(rows),
    charEnds: new Uint32Array(rows).fill(9),
    tokenCounts: new Uint32Array(rows).fill(4),
    textHashes: new Uint8Array(rows * 32).fill(7),
    dim: 2,
    dense: new Float32Array(rows * 2).fill(0.5),
    sparse: null,
    colbert: null,
    texts: null,
    kept: [],
  };
}

function encode(rows: ResultRows): Uint8Array {
  const count = rows.ids.length;
  const stats = {
    rows: count,
    rejects: 0,
    realTokens: 4,
    paddedTokens: 4,
    batches: 1,
    deviceMs: 1,
    idleMs: 0,
    idle: {},
  };
  return encodeResults(rows, { run: "r", shard: "w000000-s0000", options, stats, rejectsKey: null });
}

function decode(bytes: Uint8Array): ResultRows {
  return decodeResults({ run: "r", shard: "w000000-s0000", options, bytes }).rows;
}

function batchOf(name: string, type: Int32 | Uint32): RecordBatch {
  const data = makeData({
    type,
    length: 1,
    nullCount: 0,
    data: type instanceof Int32 ? Int32Array.of(1) : Uint32Array.of(1),
  });
  const schema = new Schema([new Field(name, type, false)]);
  return new RecordBatch(
    schema,
    makeData({ type: new Struct(schema.fields), length: 1, nullCount: 0, children: [data] }),
  );
}

test("a second batch of another schema is dropped without a word: a file has one batch, and it has every row", () => {
  const writer = new RecordBatchFileWriter();
  writer.write(batchOf("a", new Int32()));
  writer.write(batchOf("b", new Uint32()));
  writer.finish();
  expect(tableFromIPC(writer.toUint8Array(true)).numRows).toBe(1);

  const bytes = encode(results(1000));
  expect(tableFromIPC(bytes).batches).toHaveLength(1);
  expect(pl.readIPC(Buffer.from(bytes)).height).toBe(1000);
});

test("a file without a batch is empty: one without rows has a batch of none", () => {
  const writer = new RecordBatchFileWriter();
  writer.finish();
  expect(writer.toUint8Array(true)).toHaveLength(0);

  const bytes = encode(results(0));
  expect(decode(bytes).ids).toEqual([]);
  expect(pl.readIPC(Buffer.from(bytes)).height).toBe(0);
});

/** One raw block. https://datatracker.ietf.org/doc/html/rfc8878#section-3.1.1 */
function zstdFrame(bytes: Uint8Array): Uint8Array {
  const frame = Buffer.alloc(12 + bytes.length);
  frame.writeUInt32LE(0xfd2fb528, 0);
  // A single segment whose size follows in four bytes.
  frame.writeUInt8(0xa0, 4);
  frame.writeUInt32LE(bytes.length, 5);
  frame.writeUIntLE((bytes.length << 3) | 1, 9, 3);
  frame.set(bytes, 12);
  return frame;
}

test("compressed bodies cannot be read by others: none is written, and none is taken", () => {
  compressionRegistry.set(CompressionType.ZSTD, { encode: zstdFrame });
  const writer = new RecordBatchFileWriter({ compressionType: CompressionType.ZSTD });
  writer.write(
    toRecordBatch(
      [
        uint32Column(
          "a",
          Uint32Array.from({ length: 1000 }, () => 5),
        ),
      ],
      new Map(),
    ),
  );
  writer.finish();
  const compressed = writer.toUint8Array(true);
  expect(() => readSingleBatch(compressed, "a compressed file").uint32("a")).toThrow(
    expect.objectContaining({ code: "object_corrupt" }),
  );
  expect(decode(encode(results(3))).ids).toEqual(["d0", "d1", "d2"]);
});

test("a writer keeps references to arrays until it is drained: the bytes are a copy when encoding returns", () => {
  const writer = new RecordBatchFileWriter();
  const values = Uint32Array.of(1, 2, 3);
  writer.write(toRecordBatch([uint32Column("a", values)], new Map()));
  values.fill(9);
  writer.finish();
  expect([...tableFromIPC(writer.toUint8Array(true)).getChild("a")!]).toEqual([9, 9, 9]);

  const rows = results(3);
  const bytes = encode(rows);
  rows.dense!.fill(9);
  rows.chunks.fill(9);
  expect([...decode(bytes).dense!]).toEqual(Array.from({ length: 6 }, () => 0.5));
  expect([...decode(bytes).chunks]).toEqual([0, 0, 0]);
});
