/**
 * Reads the tensors of a PyTorch file: a zip with a pickle in it. A pickle is a program, and running one
 * runs whatever its author wanted, so this one is not run: only the few instructions that make up a dictionary of
 * tensors are interpreted, and any other, or any name but the three below, is an error.
 */
import { FleetError, messageOf } from "../../src/core/errors.ts";
import { fromBfloat16, fromHalf } from "../../src/core/half.ts";
import { readPlain } from "../registry/plain-file.ts";

export interface TorchTensor {
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

/** Limit on a file's size; a head of 4096 x 4096 in fp32 has 64 MiB. */
const MAX_FILE_BYTES = 128 * 1024 * 1024;
const MAX_INSTRUCTIONS = 10_000;

/**
 * @returns Tensors by name, as float32; storages may be fp16, bf16 or fp32.
 * @throws FleetError `model_invalid`
 */
export function readTorchFile(path: string): Map<string, TorchTensor> {
  try {
    const entries = readZip(readPlain(path, MAX_FILE_BYTES));
    const pickle = [...entries].find(([name]) => name.endsWith("/data.pkl"));
    if (pickle === undefined) throw new Error("it has no data.pkl");
    const folder = pickle[0].slice(0, -"data.pkl".length);
    const order = entries.get(`${folder}byteorder`)?.toString("latin1") ?? "little";
    if (order !== "little") throw new Error(`its bytes are in ${order} order`);
    return toTensors(new PickleReader(pickle[1]).read(), (key) => entries.get(`${folder}data/${key}`));
  } catch (error) {
    throw new FleetError("model_invalid", `the PyTorch file ${path} cannot be read: ${messageOf(error)}`, {
      cure: "it must be a state dictionary of fp16, bf16 or fp32 tensors, saved by torch.save of PyTorch 1.6 or newer",
      cause: error,
    });
  }
}

// --- The zip --------------------------------------------------------------------------------

const END_SIGNATURE = 0x06054b50;
const CENTRAL_SIGNATURE = 0x02014b50;
const LOCAL_SIGNATURE = 0x04034b50;
const STORED = 0;

/** Entries by name. PyTorch stores entries uncompressed; out of range reads throw. */
function readZip(file: Buffer): Map<string, Buffer> {
  let end = file.length - 22;
  while (end >= 0 && file.readUInt32LE(end) !== END_SIGNATURE) end--;
  if (end < 0) throw new Error("it is not a zip file");
  const count = file.readUInt16LE(end + 10);
  let at = file.readUInt32LE(end + 16);
  const entries = new Map<string, Buffer>();
  for (let i = 0; i < count; i++) {
    if (file.readUInt32LE(at) !== CENTRAL_SIGNATURE) throw new Error("its directory is damaged");
    const [method, bytes] = [file.readUInt16LE(at + 10), file.readUInt32LE(at + 24)];
    const [nameBytes, extraBytes, commentBytes] = [28, 30, 32].map((offset) => file.readUInt16LE(at + offset));
    const local = file.readUInt32LE(at + 42);
    const name = file.toString("utf8", at + 46, at + 46 + nameBytes!);
    if (method !== STORED) throw new Error(`its entry ${name} is compressed`);
    if (file.readUInt32LE(local) !== LOCAL_SIGNATURE) throw new Error(`its entry ${name} is damaged`);
    const start = local + 30 + file.readUInt16LE(local + 26) + file.readUInt16LE(local + 28);
    if (start + bytes > file.length) throw new Error(`its entry ${name} is cut short`);
    entries.set(name, file.subarray(start, start + bytes));
    at += 46 + nameBytes! + extraBytes! + commentBytes!;
  }
  return entries;
}

// --- The pickle -----------------------------------------------------------------------------

/** Names that a pickle may mention. They are never looked up; `reduce` below interprets them. */
const ALLOWED_NAMES = new Set([
  "collections OrderedDict",
  "torch._utils _rebuild_tensor_v2",
  "torch FloatStorage",
  "torch HalfStorage",
  "torch BFloat16Storage",
]);

class Name {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}
interface Storage {
  readonly type: string;
  readonly key: string;
  readonly length: number;
}
interface PickledTensor {
  readonly storage: Storage;
  readonly offset: number;
  readonly shape: readonly number[];
  readonly stride: readonly number[];
}
const MARK = Symbol("mark");

class PickleReader {
  readonly #bytes: Buffer;
  readonly #stack: unknown[] = [];
  readonly #memo = new Map<number, unknown>();
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  read(): unknown {
    for (let i = 0; i < MAX_INSTRUCTIONS; i++) {
      const code = this.#bytes.readUInt8(this.#at++);
      if (code === 0x2e) return this.#stack.pop();
      const follow = INSTRUCTIONS[code];
      if (follow === undefined) throw new Error(`its pickle has the instruction 0x${code.toString(16)}`);
      follow(this);
    }
    throw new Error(`its pickle has more than ${MAX_INSTRUCTIONS} instructions`);
  }

  push(value: unknown): void {
    this.#stack.push(value);
  }

  pop(): unknown {
    if (this.#stack.length === 0) throw new Error("its pickle pops from an empty stack");
    return this.#stack.pop();
  }

  popToMark(): unknown[] {
    const at = this.#stack.lastIndexOf(MARK);
    if (at === -1) throw new Error("its pickle lacks a mark");
    return this.#stack.splice(at).slice(1);
  }

  /** Sets pairs of a dictionary, which stays on the stack. */
  set(pairs: readonly unknown[]): void {
    const target = this.#stack.at(-1);
    if (!(target instanceof Map)) throw new Error("its pickle sets an item of a value that is not a dictionary");
    for (let i = 0; i + 1 < pairs.length; i += 2) target.set(pairs[i], pairs[i + 1]);
  }

  number(bytes: 1 | 2 | 4, signed = false): number {
    const at = this.#at;
    this.#at += bytes;
    return signed ? this.#bytes.readIntLE(at, bytes) : this.#bytes.readUIntLE(at, bytes);
  }

  text(bytes: number): string {
    const at = this.#at;
    this.#at += bytes;
    if (this.#at > this.#bytes.length) throw new Error("its pickle is cut short");
    return this.#bytes.toString("utf8", at, this.#at);
  }

  line(): string {
    const end = this.#bytes.indexOf(0x0a, this.#at);
    if (end === -1) throw new Error("its pickle is cut short");
    return this.text(end - this.#at) + (this.text(1) && "");
  }

  remember(index: number): void {
    this.#memo.set(index, this.#stack.at(-1));
  }

  recall(index: number): void {
    if (!this.#memo.has(index)) throw new Error("its pickle reads an empty memo entry");
    this.push(this.#memo.get(index));
  }

  name(): void {
    const text = `${this.line()} ${this.line()}`;
    if (!ALLOWED_NAMES.has(text)) throw new Error(`its pickle mentions ${JSON.stringify(text)}`);
    this.push(new Name(text));
  }

  storage(): void {
    const [kind, type, key, , length] = this.pop() as unknown[];
    if (kind !== "storage" || !(type instanceof Name) || typeof key !== "string" || typeof length !== "number")
      throw new Error("its pickle refers to a value that is not a storage");
    this.push({ type: type.text, key, length } satisfies Storage);
  }

  reduce(): void {
    const given = this.pop() as unknown[];
    const made = this.pop();
    if (!(made instanceof Name)) throw new Error("its pickle calls a value that is not a name");
    if (made.text === "collections OrderedDict" && given.length === 0) this.push(new Map());
    else if (made.text === "torch._utils _rebuild_tensor_v2") {
      const [storage, offset, shape, stride] = given as [Storage, number, number[], number[]];
      this.push({ storage, offset, shape, stride } satisfies PickledTensor);
    } else throw new Error(`its pickle calls ${made.text}`);
  }
}

/** The instructions of pickle protocol 2 that `torch.save` writes for a dictionary of tensors. */
const INSTRUCTIONS: Readonly<Record<number, (pickle: PickleReader) => void>> = {
  0x80: (pickle) => void pickle.number(1), // PROTO
  0x7d: (pickle) => pickle.push(new Map()), // EMPTY_DICT
  0x28: (pickle) => pickle.push(MARK),
  0x58: (pickle) => pickle.push(pickle.text(pickle.number(4))), // BINUNICODE
  0x71: (pickle) => pickle.remember(pickle.number(1)), // BINPUT
  0x72: (pickle) => pickle.remember(pickle.number(4)), // LONG_BINPUT
  0x68: (pickle) => pickle.recall(pickle.number(1)), // BINGET
  0x6a: (pickle) => pickle.recall(pickle.number(4)), // LONG_BINGET
  0x63: (pickle) => pickle.name(), // GLOBAL
  0x4b: (pickle) => pickle.push(pickle.number(1)), // BININT1
  0x4d: (pickle) => pickle.push(pickle.number(2)), // BININT2
  0x4a: (pickle) => pickle.push(pickle.number(4, true)), // BININT
  0x4e: (pickle) => pickle.push(null), // NONE
  0x88: (pickle) => pickle.push(true), // NEWTRUE
  0x89: (pickle) => pickle.push(false), // NEWFALSE
  0x29: (pickle) => pickle.push([]), // EMPTY_TUPLE
  0x74: (pickle) => pickle.push(pickle.popToMark()), // TUPLE
  0x85: (pickle) => pickle.push([pickle.pop()]), // TUPLE1
  0x86: (pickle) => pickle.push([pickle.pop(), pickle.pop()].toReversed()), // TUPLE2
  0x87: (pickle) => pickle.push([pickle.pop(), pickle.pop(), pickle.pop()].toReversed()), // TUPLE3
  0x51: (pickle) => pickle.storage(), // BINPERSID
  0x52: (pickle) => pickle.reduce(), // REDUCE
  0x73: (pickle) => pickle.set([pickle.pop(), pickle.pop()].toReversed()), // SETITEM
  0x75: (pickle) => pickle.set(pickle.popToMark()), // SETITEMS
  0x62: (pickle) => void pickle.pop(), // BUILD: the dictionary's own attributes, which are irrelevant to tensors
};

// --- The tensors ----------------------------------------------------------------------------

function toTensors(found: unknown, dataOf: (key: string) => Buffer | undefined): Map<string, TorchTensor> {
  if (!(found instanceof Map)) throw new Error("it holds no dictionary of tensors");
  const tensors = new Map<string, TorchTensor>();
  let numbers = 0;
  for (const [name, value] of found as Map<unknown, unknown>) {
    if (typeof name !== "string" || !isTensor(value)) throw new Error(`its entry ${String(name)} is not a tensor`);
    const tensor = toTensor(name, value, dataOf(value.storage.key));
    // Any number of tensors may share one storage, and each is copied.
    numbers += tensor.values.length;
    if (numbers > MAX_FILE_BYTES / 2) throw new Error(`its tensors have more than ${MAX_FILE_BYTES / 2} numbers`);
    tensors.set(name, tensor);
  }
  return tensors;
}

function isTensor(value: unknown): value is PickledTensor {
  const { storage, offset, shape, stride } = (value ?? {}) as Partial<PickledTensor>;
  const areSizes = (list: unknown): boolean =>
    Array.isArray(list) && list.length <= 4 && list.every((size) => Number.isInteger(size) && size >= 0);
  return storage?.key !== undefined && Number.isInteger(offset) && areSizes(shape) && areSizes(stride);
}

function toTensor(name: string, tensor: PickledTensor, data: Buffer | undefined): TorchTensor {
  const { storage, offset, shape, stride } = tensor;
  const count = shape.reduce((product, size) => product * size, 1);
  const isContiguous = shape.every(
    (_, i) => stride[i] === shape.slice(i + 1).reduce((product, size) => product * size, 1),
  );
  if (!isContiguous) throw new Error(`its tensor ${name} is not contiguous`);
  const width = storage.type === "torch FloatStorage" ? 4 : 2;
  if (data === undefined || offset < 0 || (offset + count) * width > data.length)
    throw new Error(`its tensor ${name} lies outside its data`);
  // Copied for alignment, because a zip entry begins at any byte.
  const bytes = Uint8Array.from(data.subarray(offset * width, (offset + count) * width)).buffer;
  if (storage.type === "torch BFloat16Storage") return { shape, values: fromBfloat16(new Uint16Array(bytes)) };
  return { shape, values: width === 2 ? fromHalf(new Uint16Array(bytes)) : new Float32Array(bytes) };
}
