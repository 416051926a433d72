/**
 * Which files a graph loads, as our own reader finds them, against what Protocol Buffers make of the same bytes with the
 * format's own description (test/fixtures/onnx_graphs.py): of random models, and of mutants of them.
 */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { filesOfGraph } from "../../models/graph/onnx-reader.ts";
import { writeOnnx } from "../../models/graph/onnx-writer.ts";
import { randomOf } from "../fixtures/made-corpus.ts";
import { modelPython } from "../fixtures/model-export.ts";
import { mutate } from "../fixtures/mutants.ts";

const SEED = Number(process.env["FUZZ_SEED"] ?? 1);
const MUTANTS = 10_000;
const SCRIPT = fileURLToPath(new URL("../fixtures/onnx_graphs.py", import.meta.url));

interface Made {
  readonly bytes: string;
  readonly files: readonly string[];
}

function python(args: readonly string[], input = ""): unknown[] {
  const done = spawnSync(modelPython(), [SCRIPT, ...args], { input, encoding: "utf8", maxBuffer: 1 << 30 });
  expect(done.status, done.stderr).toBe(0);
  return done.stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
}

const made = python(["make", String(SEED), "300"]) as Made[];
const graphs = made.map(({ bytes }) => Buffer.from(bytes, "base64"));

function filesOf(bytes: Uint8Array): string[] {
  const read = (into: Uint8Array, position: number): number => {
    const piece = bytes.subarray(position, position + into.length);
    into.set(piece);
    return piece.length;
  };
  return filesOfGraph({ bytes: bytes.length, read })
    .map(({ location }) => location)
    .toSorted();
}

test("every place that the format has for a tensor is looked into", () => {
  expect(made.flatMap(({ files }) => files).length).toBeGreaterThan(300);
  made.forEach(({ files }, i) => expect(filesOf(graphs[i]!), `FUZZ_SEED=${SEED}, graph ${i}`).toEqual(files));
});

test("no mutant has a file that Protocol Buffers see and we do not, none takes long, and a fault is an error", () => {
  const random = randomOf(SEED);
  const accepted: { mutant: Uint8Array; files: string[]; index: number }[] = [];
  const startedMs = performance.now();
  for (let index = 0; index < MUTANTS; index++) {
    const mutant = mutate(random, graphs[index % graphs.length]!);
    try {
      accepted.push({ mutant, files: filesOf(mutant), index });
    } catch (error) {
      expect((error as Error).message, `FUZZ_SEED=${SEED}, mutant ${index}`).toMatch(/^(?:its? |it names)/);
    }
  }
  expect((performance.now() - startedMs) / MUTANTS).toBeLessThan(20);
  expect(accepted.length).toBeGreaterThan(MUTANTS / 20);
  const read = python(["list"], accepted.map(({ mutant }) => Buffer.from(mutant).toString("base64")).join("\n"));
  accepted.forEach(({ files, index }, i) => {
    // Null is no message for Protocol Buffers: the runtime refuses it.
    if (read[i] !== null) expect(files, `FUZZ_SEED=${SEED}, mutant ${index}`).toEqual(read[i]);
  });
});

test("a graph of 1.5 GiB is read without its weights", () => {
  const HOLE = 1.5 * 1024 ** 3;
  const [head, tail] = [field(7, Buffer.alloc(0), HOLE), graphs.at(-1)!];
  // The graph's first field is a name of 1.5 GiB, which is nowhere but in this function.
  const inner = field(2, Buffer.alloc(0), HOLE - 6);
  let read = 0;
  const files = filesOfGraph({
    bytes: head.length + HOLE + tail.length,
    read: (into, position) => {
      into.fill(0);
      copyAt(into, position, head, 0);
      copyAt(into, position, inner, head.length);
      copyAt(into, position, tail, head.length + HOLE);
      read += into.length;
      return Math.min(into.length, head.length + HOLE + tail.length - position);
    },
  });
  expect(files.map(({ location }) => location)).toEqual(made.at(-1)!.files);
  expect(read).toBeLessThan(1 << 20);
});

function field(number: number, body: Buffer, length = body.length): Buffer {
  const bytes = [(number << 3) | 2];
  let rest = length;
  for (; rest > 127; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128);
  return Buffer.concat([Buffer.from([...bytes, rest]), body]);
}

function copyAt(into: Uint8Array, position: number, bytes: Uint8Array, at: number): void {
  const start = Math.max(position, at);
  const end = Math.min(position + into.length, at + bytes.length);
  if (start < end) into.set(bytes.subarray(start - at, end - at), start - position);
}

const hostile: [string, Buffer, RegExp][] = [
  ["nested without an end", nested(200), /nested more than 100 deep/],
  ["of a length beyond the file", field(7, Buffer.alloc(4), 2 ** 31), /cut short/],
  ["with a number that never ends", Buffer.alloc(16, 0x88), /too large|more than ten/],
  ["with a group", Buffer.from([0x3b]), /unknown type 3/],
  ["with a field 0", Buffer.from([0x02, 0x00]), /without a number/],
  ["with data without a file", external([]), /its tensor "w" names no file/],
  [
    "with data in two files",
    external([
      ["location", "a"],
      ["location", "b"],
    ]),
    /has its location twice/,
  ],
  [
    "with data at no number",
    external([
      ["location", "a"],
      ["offset", "-1"],
    ]),
    /offset "-1", which is not a number/,
  ],
  ["with a file's name in other bytes", external([["location", "\xff"]]), /not UTF-8/],
];
test.each(hostile)("a graph %s is refused", (_, bytes, reason) => {
  expect(() => filesOf(bytes)).toThrow(reason);
});

/** A model of one tensor with these entries. */
function external(entries: readonly (readonly [string, string])[]): Buffer {
  const pairs = entries.map(([key, value]) =>
    field(13, Buffer.concat([field(1, Buffer.from(key)), field(2, Buffer.from(value, "latin1"))])),
  );
  const tensor = Buffer.concat([field(8, Buffer.from("w")), ...pairs, Buffer.from([0x70, 1])]);
  return field(7, field(5, tensor));
}

/** Attributes of graphs of nodes of attributes. */
function nested(times: number): Buffer {
  let bytes: Buffer = Buffer.alloc(0);
  for (let i = 0; i < times; i++) bytes = field(1, field(5, field(6, bytes)));
  return field(7, bytes);
}

test("bytes that data must have, and an engine's file", () => {
  const sized = external([
    ["offset", "16"],
    ["location", "a"],
    ["length", "8"],
  ]);
  const source = { bytes: sized.length, read: (into: Uint8Array, at: number) => sized.copy(into, 0, at) };
  expect(filesOfGraph(source)).toEqual([{ location: "a", leastBytes: 24 }]);
  const attribute = (name: string, value: Buffer): Buffer =>
    field(5, Buffer.concat([field(1, Buffer.from(name)), value]));
  const path = attribute("ep_cache_context", field(4, Buffer.from("e.engine")));
  const node = (...fields: Buffer[]): Buffer =>
    field(7, field(1, Buffer.concat([field(4, Buffer.from("EPContext")), ...fields])));
  expect(filesOf(node(path, attribute("embed_mode", Buffer.from([0x18, 0]))))).toEqual(["e.engine"]);
  expect(filesOf(node(path, attribute("embed_mode", Buffer.from([0x18, 1]))))).toEqual([]);
  expect(filesOf(writeOnnx({ nodes: [], constants: {}, inputs: {}, outputs: {} }))).toEqual([]);
});
