import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import pl from "nodejs-polars";
import { describe, expect, test } from "vitest";
import { assembleResults, decodeResults, encodeResults } from "../../src/arrow/results.ts";
import { allocateShard } from "../../src/core/batch.ts";
import type { VectorType } from "../../src/core/contracts.ts";
import { fromHalf, toHalf } from "../../src/core/half.ts";
import { MemoryPool } from "../../src/core/memory-pool.ts";
import { runOptions } from "../fixtures/run-options.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

const DIM = 32;
const LENGTHS = [7, 5, 3];
const model = { id: "m", revision: "1", sha256: "a".repeat(64), dim: DIM, maxTokens: 64 };

function encode(
  vectors: VectorType,
  files?: MemoryPool<ArrayBuffer>,
): { bytes: Uint8Array; dense: Float32Array; colbert: Float32Array } {
  const buffers = allocateShard({ lengths: LENGTHS, dim: DIM, heads: ["dense", "colbert"] });
  for (const values of [buffers.dense!, buffers.colbert!])
    values.forEach((_, i) => (values[i] = Math.sin(i * 12.9898) / Math.sqrt(DIM)));
  const rows = {
    ids: ["one", "two", "three"],
    chunks: Uint32Array.of(0, 0, 1),
    charStarts: new Uint32Array(3),
    charEnds: Uint32Array.of(20, 15, 9),
    textHashes: new Uint8Array(96),
    offsets: buffers.offsets,
    tokenIds: buffers.ids,
    texts: null,
    kept: [],
  };
  const stats = { rows: 3, rejects: 0, realTokens: 15, paddedTokens: 15, batches: 1, deviceMs: 1, idleMs: 0, idle: {} };
  const options = runOptions({ model, heads: ["dense", "colbert"], vectors });
  const meta = { run: "r", shard: "w000000-s0000", options, stats, rejectsKey: null };
  return {
    bytes: encodeResults(assembleResults(rows, buffers), meta, files),
    dense: buffers.dense!,
    colbert: buffers.colbert!,
  };
}

function decode(bytes: Uint8Array, vectors: VectorType): ReturnType<typeof decodeResults>["rows"] {
  const options = runOptions({ model, heads: ["dense", "colbert"], vectors });
  return decodeResults({ run: "r", shard: "w000000-s0000", options, bytes }).rows;
}

test.each(["float32", "float16"] as const)("used memory gives the same %s file as new memory", (vectors) => {
  const files = new MemoryPool({ allocate: (bytes) => new Uint8Array(bytes).fill(255).buffer });
  expect(Buffer.compare(encode(vectors, files).bytes, encode(vectors).bytes)).toBe(0);
});

describe("a bit that flips in a file", () => {
  const FAULT = { code: "object_corrupt", cure: expect.stringContaining("embedfleet resume r") };

  /** Where a column's values lie: they are written as they are. */
  function placeOf(bytes: Uint8Array, values: Float32Array): number {
    const at = Buffer.from(bytes).indexOf(Buffer.from(values.buffer, values.byteOffset, values.byteLength));
    expect(at).toBeGreaterThan(0);
    return at;
  }

  test("is noticed wherever it is in a vector, and in ids", () => {
    const { bytes, dense, colbert } = encode("float32");
    const id = Buffer.from(bytes).indexOf("onetwothree");
    const dense0 = placeOf(bytes, dense);
    const places = [id, ...Array.from({ length: 61 }, (_, i) => dense0 + i), placeOf(bytes, colbert) + 9];
    for (const place of places) {
      const changed = bytes.slice();
      changed[place]! ^= 1;
      let fault: unknown;
      try {
        decode(changed, "float32");
      } catch (error) {
        fault = error;
      }
      expect(fault, `byte ${place}`).toMatchObject(FAULT);
    }
    expect(decode(bytes, "float32").dense).toEqual(Float32Array.from(dense));
  });

  test("is not looked for in files of before, which have no CRC-32", () => {
    const { bytes, dense } = encode("float32");
    const older = Buffer.from(
      Buffer.from(bytes).toString("latin1").replaceAll("embedfleet.crc32", "embedfleet.x.y32"),
      "latin1",
    );
    older[placeOf(older, dense)]! ^= 1;
    expect(decode(older, "float32").ids).toEqual(["one", "two", "three"]);
  });
});

describe("--vectors float16", () => {
  test("writes half the bytes, and gives back the nearest halves", () => {
    const whole = encode("float32");
    const half = encode("float16");
    const vectorBytes = whole.dense.byteLength + whole.colbert.byteLength;
    expect(whole.bytes.length - half.bytes.length).toBeGreaterThan(vectorBytes / 2 - 64);
    const rows = decode(half.bytes, "float16");
    expect(rows.dense).toEqual(fromHalf(toHalf(half.dense)));
    expect(rows.colbert!.values).toEqual(fromHalf(toHalf(half.colbert)));
    expect(decode(whole.bytes, "float32").dense).toEqual(Float32Array.from(whole.dense));
  });

  test("is not taken for float32, nor the other way round", () => {
    expect(() => decode(encode("float16").bytes, "float32")).toThrow(/dense/);
    expect(() => decode(encode("float32").bytes, "float16")).toThrow(/dense/);
  });

  test("another reader sees the same numbers", async () => {
    const { bytes, dense } = encode("float16");
    const file = join(await tempFolder(), "half.arrow");
    await writeFile(file, bytes);
    const frame = pl
      .scanIPC(file)
      .select(pl.col("id"), pl.col("dense").cast(pl.List(pl.Float32)))
      .collectSync();
    expect(frame.getColumn("id").toArray()).toEqual(["one", "two", "three"]);
    const [first] = frame.getColumn("dense").toArray() as { toArray?: () => number[] }[];
    const numbers = Array.isArray(first) ? (first as number[]) : first!.toArray!();
    expect(Float32Array.from(numbers)).toEqual(fromHalf(toHalf(dense.slice(0, DIM))));
  });
});
