/**
 * Reads a graph's inputs and outputs: their names, types and shapes. Nodes and weights are skipped, so memory does
 * not grow with the graph. Field numbers are those of `onnx.proto` (onnx/onnx on GitHub).
 */
import { WireReader, type WireSource } from "./wire-reader.ts";

/** An input or an output of a graph. */
export interface GraphValue {
  readonly name: string;
  /** Name of the element type as ONNX Runtime has it; null for a value that is no tensor. */
  readonly type: string | null;
  /** A number, or a name (empty without one) for a size known only at run time; null for an unknown rank. */
  readonly shape: readonly (number | string)[] | null;
}

/** What a graph takes and returns. */
export interface GraphSignature {
  /** Without the inputs that have a value inside the graph. */
  readonly inputs: readonly GraphValue[];
  readonly outputs: readonly GraphValue[];
}

/** Maximum length of a name. */
const MAX_TEXT_BYTES = 4096;
/** Maximum number of inputs, of outputs and of a value's sizes; a decoder of 100 layers has 202 inputs. */
const MAX_VALUES = 10_000;

const VARINT = 0;
const LENGTH = 2;

/** Names by the numbers of `TensorProto.DataType`. */
const TYPES: Readonly<Record<number, string>> = {
  1: "float32",
  2: "uint8",
  3: "int8",
  4: "uint16",
  5: "int16",
  6: "int32",
  7: "int64",
  8: "string",
  9: "bool",
  10: "float16",
  11: "float64",
  12: "uint32",
  13: "uint64",
  16: "bfloat16",
};

/** @throws Error whose message is a clause about the graph. */
export function signatureOf(source: WireSource): GraphSignature {
  const wire = new WireReader(source);
  const inputs: GraphValue[] = [];
  const outputs: GraphValue[] = [];
  const inside = new Set<string>();
  const readGraph = (end: number): void =>
    eachMessage(wire, end, {
      5: (tensorEnd) => inside.add(nameOf(wire, tensorEnd, 8)),
      11: (valueEnd) => add(inputs, readValue(wire, valueEnd)),
      12: (valueEnd) => add(outputs, readValue(wire, valueEnd)),
    });
  eachMessage(wire, source.bytes, { 7: readGraph });
  return { inputs: inputs.filter(({ name }) => !inside.has(name)), outputs };
}

/** Reads the length-delimited fields that have a reader, and skips all others; a reader may leave a rest unread. */
function eachMessage(wire: WireReader, end: number, readers: Readonly<Record<number, (end: number) => void>>): void {
  while (wire.at < end) {
    const { field, type } = wire.tag(end);
    const read = type === LENGTH ? readers[field] : undefined;
    if (read === undefined) {
      wire.skip(type, end);
      continue;
    }
    const fieldEnd = wire.length(end);
    read(fieldEnd);
    wire.at = fieldEnd;
  }
}

function readValue(wire: WireReader, end: number): GraphValue {
  let name = "";
  let type: string | null = null;
  let shape: GraphValue["shape"] = null;
  eachMessage(wire, end, {
    1: (nameEnd) => (name = readText(wire, nameEnd)),
    2: (typeEnd) =>
      eachMessage(wire, typeEnd, {
        1: (tensorEnd) => ({ type, shape } = readTensorType(wire, tensorEnd)),
      }),
  });
  return { name, type, shape };
}

function readTensorType(wire: WireReader, end: number): Pick<GraphValue, "type" | "shape"> {
  let type: string | null = null;
  let shape: (number | string)[] | null = null;
  while (wire.at < end) {
    const { field, type: wireType } = wire.tag(end);
    if (field === 1 && wireType === VARINT) {
      const number = Number(wire.varint(end));
      type = TYPES[number] ?? `type ${number}`;
    } else if (field === 2 && wireType === LENGTH) {
      const shapeEnd = wire.length(end);
      const sizes: (number | string)[] = (shape ??= []);
      eachMessage(wire, shapeEnd, { 1: (sizeEnd) => add(sizes, readSize(wire, sizeEnd)) });
    } else wire.skip(wireType, end);
  }
  return { type, shape };
}

function readSize(wire: WireReader, end: number): number | string {
  let size: number | string = "";
  while (wire.at < end) {
    const { field, type } = wire.tag(end);
    if (field === 1 && type === VARINT) size = Number(wire.varint(end));
    else if (field === 2 && type === LENGTH) size = readText(wire, wire.length(end));
    else wire.skip(type, end);
  }
  return size;
}

function nameOf(wire: WireReader, end: number, field: number): string {
  let name = "";
  eachMessage(wire, end, { [field]: (nameEnd) => (name = readText(wire, nameEnd)) });
  return name;
}

function readText(wire: WireReader, end: number): string {
  if (end - wire.at > MAX_TEXT_BYTES) throw new Error(`it has a name of more than ${MAX_TEXT_BYTES} bytes`);
  return wire.bytesTo(end).toString("utf8");
}

function add<T>(list: T[], value: T): void {
  if (list.length >= MAX_VALUES) throw new Error(`it has more than ${MAX_VALUES} inputs or outputs`);
  list.push(value);
}
