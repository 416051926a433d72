/** Reads the weights of one layer that stands beside a graph: safetensors, or a PyTorch file read as data. */
import { FleetError, messageOf } from "../../src/core/errors.ts";
import { fromBfloat16, fromHalf } from "../../src/core/half.ts";
import { readPlain } from "../registry/plain-file.ts";
import { readTorchFile, type TorchTensor } from "./torch-file.ts";

/** Limit on a file's size; a layer of 4096 x 4096 in fp32 has 64 MiB. */
const MAX_FILE_BYTES = 128 * 1024 * 1024;
const HEADER_LENGTH_BYTES = 8;

/**
 * @returns Tensors by name, as float32.
 * @throws FleetError `model_invalid`
 */
export function readLayerFile(path: string): Map<string, TorchTensor> {
  return path.endsWith(".safetensors") ? readSafetensors(path) : readTorchFile(path);
}

function readSafetensors(path: string): Map<string, TorchTensor> {
  try {
    const file = readPlain(path, MAX_FILE_BYTES);
    const headerBytes = Number(file.readBigUInt64LE(0));
    const start = HEADER_LENGTH_BYTES + headerBytes;
    if (start > file.length) throw new Error("its header is cut short");
    const header: unknown = JSON.parse(file.toString("utf8", HEADER_LENGTH_BYTES, start));
    if (typeof header !== "object" || header === null) throw new Error("its header is not an object");
    const data = file.subarray(start);
    const entries = Object.entries(header).filter(([name]) => name !== "__metadata__");
    return new Map(entries.map(([name, entry]) => [name, toTensor(name, entry, data)]));
  } catch (error) {
    throw new FleetError("model_invalid", `the safetensors file ${path} cannot be read: ${messageOf(error)}`, {
      cure: "the file is damaged: pull the model again",
      cause: error,
    });
  }
}

/** Bytes of a value, and the values of a copy of those bytes. */
const TYPES: Readonly<Record<string, readonly [bytes: number, read: (bytes: ArrayBuffer) => Float32Array]>> = {
  F64: [8, (bytes) => Float32Array.from(new Float64Array(bytes))],
  F32: [4, (bytes) => new Float32Array(bytes)],
  F16: [2, (bytes) => fromHalf(new Uint16Array(bytes))],
  BF16: [2, (bytes) => fromBfloat16(new Uint16Array(bytes))],
};

function toTensor(name: string, entry: unknown, data: Buffer): TorchTensor {
  const { dtype, shape, data_offsets: offsets } = (entry ?? {}) as Readonly<Record<string, unknown>>;
  const type = TYPES[String(dtype)];
  if (type === undefined) throw new Error(`its tensor ${name} is of type ${String(dtype)}`);
  if (!areSizes(shape) || !areSizes(offsets) || offsets.length !== 2)
    throw new Error(`its tensor ${name} has no shape`);
  const [bytesPerValue, read] = type;
  const [from, to] = offsets as [number, number];
  const count = shape.reduce((product, size) => product * size, 1);
  if (to - from !== count * bytesPerValue || to > data.length)
    throw new Error(`its tensor ${name} lies outside its data`);
  // Copied for alignment, because a tensor begins at any byte.
  return { shape, values: read(Uint8Array.from(data.subarray(from, to)).buffer) };
}

function areSizes(list: unknown): list is number[] {
  return Array.isArray(list) && list.length <= 4 && list.every((size) => Number.isSafeInteger(size) && size >= 0);
}
