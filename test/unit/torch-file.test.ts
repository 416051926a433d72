/** PyTorch files as `torch.save` wrote them (test/fixtures/hub-folder/make.py), whole and tampered with. */
import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { expect, test } from "vitest";
import { readTorchFile } from "../../models/layers/torch-file.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

const FOLDER = fileURLToPath(new URL("../fixtures/hub-folder", import.meta.url));
const golden = JSON.parse(readFileSync(join(FOLDER, "golden.json"), "utf8"));

test("fp16 tensors are those that PyTorch saved", () => {
  const sparse = readTorchFile(join(FOLDER, "sparse_linear.pt"));
  expect([...sparse.keys()]).toEqual(["weight", "bias"]);
  expect(sparse.get("weight")!.shape).toEqual([1, 32]);
  expect([...sparse.get("weight")!.values]).toEqual(golden.sparseWeight[0]);
  const colbert = readTorchFile(join(FOLDER, "colbert_linear.pt"));
  expect(colbert.get("weight")!.shape).toEqual([32, 32]);
  expect([...colbert.get("bias")!.values]).toEqual(golden.colbertBias);
});

test("fp32 tensors too", () => {
  const { shape, values } = readTorchFile(join(FOLDER, "float32.pt")).get("weight")!;
  expect(shape).toEqual([2, 3]);
  expect([...values]).toEqual([0, 1, 2, 3, 4, 5]);
});

/** The pickle inside the file, replaced by another of the same length or shorter. */
async function withPickle(pickle: Buffer): Promise<string> {
  const file = readFileSync(join(FOLDER, "float32.pt"));
  const start = file.indexOf(Buffer.from([0x80, 0x02]));
  pickle.copy(file, start);
  const path = join(await tempFolder(), "other.pt");
  await writeFile(path, file);
  return path;
}

const hostile: [string, string | Buffer, RegExp][] = [
  ["calls the system", "\x80\x02cposix\nsystem\nX\x02\0\0\0ls\x85R.", /mentions "posix system"/],
  ["builds an object", "\x80\x02c__builtin__\neval\n.", /mentions "__builtin__ eval"/],
  ["has an instruction that tensors need not", "\x80\x02i__main__\nx\n.", /instruction 0x69/],
  ["takes from an empty stack", "\x80\x02R.", /pops from an empty stack/],
  ["recalls nothing", "\x80\x02h\x09.", /empty memo entry/],
  ["is no dictionary", "\x80\x02K\x01.", /no dictionary/],
  ["claims a text longer than the file", "\x80\x02X\xff\xff\xff\x7f.", /cut short/],
];
test.each(hostile)("a pickle that %s is refused and nothing runs", async (_, pickle, reason) => {
  const path = await withPickle(Buffer.from(pickle as string, "latin1"));
  expect(() => readTorchFile(path)).toThrow(reason);
  expect(() => readTorchFile(path)).toThrow(expect.objectContaining({ code: "model_invalid" }));
});

test("no damaged byte makes it crash, hang or read outside its data", async () => {
  const whole = readFileSync(join(FOLDER, "sparse_linear.pt"));
  const path = join(await tempFolder(), "damaged.pt");
  await fc.assert(
    fc.asyncProperty(fc.nat(whole.length - 1), fc.nat(255), fc.nat(whole.length), async (at, byte, end) => {
      const damaged = Buffer.from(whole.subarray(0, end));
      if (at < damaged.length) damaged[at] = byte;
      await writeFile(path, damaged);
      try {
        for (const { shape, values } of readTorchFile(path).values())
          expect(values.length).toBe(shape.reduce((product, size) => product * size, 1));
      } catch (error) {
        expect(error).toMatchObject({ code: "model_invalid" });
      }
    }),
    { numRuns: 500 },
  );
});

test("tensors that share a storage cannot take more memory than a file may have", async () => {
  const NUMBERS = 1024 * 1024;
  const path = join(await tempFolder(), "many.pt");
  const shared = (tensors: number): Buffer =>
    zipOf({ "a/data.pkl": tensorsOf(tensors, NUMBERS), "a/data/0": Buffer.alloc(NUMBERS * 4) });
  await writeFile(path, shared(2));
  expect(readTorchFile(path).size).toBe(2);
  await writeFile(path, shared(65));
  expect(() => readTorchFile(path)).toThrow(/tensors have more than \d+ numbers/);
});

/** A pickle of so many tensors, all of the storage 0. */
function tensorsOf(tensors: number, numbers: number): Buffer {
  const whole = (value: number): string => {
    const bytes = Buffer.alloc(4);
    bytes.writeInt32LE(value);
    return `J${bytes.toString("latin1")}`;
  };
  const text = (value: string): string => `X${whole(value.length).slice(1)}${value}`;
  const storage = `(${text("storage")}ctorch\nFloatStorage\n${text("0")}${text("cpu")}${whole(numbers)}tQ`;
  const tensor = `ctorch._utils\n_rebuild_tensor_v2\n(${storage}${whole(0)}${whole(numbers)}\x85${whole(1)}\x85\x89}tR`;
  const items = Array.from({ length: tensors }, (_, i) => `${text(`t${i}`)}${tensor}`);
  return Buffer.from(`\x80\x02}(${items.join("")}u.`, "latin1");
}

/** A zip file of stored entries. */
function zipOf(entries: Readonly<Record<string, Buffer>>): Buffer {
  const local: Buffer[] = [];
  const central: Buffer[] = [];
  let at = 0;
  for (const [name, bytes] of Object.entries(entries)) {
    const [head, listed] = [Buffer.alloc(30), Buffer.alloc(46)];
    head.writeUInt32LE(0x04034b50);
    head.writeUInt16LE(name.length, 26);
    listed.writeUInt32LE(0x02014b50);
    listed.writeUInt32LE(bytes.length, 24);
    listed.writeUInt16LE(name.length, 28);
    listed.writeUInt32LE(at, 42);
    local.push(head, Buffer.from(name), bytes);
    central.push(listed, Buffer.from(name));
    at += head.length + name.length + bytes.length;
  }
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50);
  end.writeUInt16LE(Object.keys(entries).length, 10);
  end.writeUInt32LE(at, 16);
  return Buffer.concat([...local, ...central, end]);
}
