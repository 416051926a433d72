/**
 * A writer for the part of the ONNX format that a small graph needs. Field numbers are those of
 * `onnx.proto` (onnx/onnx on GitHub).
 */

const FLOAT = 1;
const IR_VERSION = 8;
const OPSET = 17;

export interface OnnxNode {
  readonly op: string;
  readonly inputs: readonly string[];
  readonly output: string;
  /** Integers only. */
  readonly attributes?: Readonly<Record<string, number>>;
}

export interface OnnxConstant {
  readonly shape: readonly number[];
  readonly values: Float32Array | BigInt64Array;
}

export interface OnnxGraph {
  readonly nodes: readonly OnnxNode[];
  readonly constants: Readonly<Record<string, OnnxConstant>>;
  /** Shapes of float32 tensors; a name stands for a size that is known only at run time. */
  readonly inputs: Readonly<Record<string, readonly (number | string)[]>>;
  readonly outputs: Readonly<Record<string, readonly (number | string)[]>>;
}

/** @returns The bytes of a model file. */
export function writeOnnx(graph: OnnxGraph): Buffer {
  const graphBytes = Buffer.concat([
    ...graph.nodes.map((node) => message(1, writeNode(node))),
    message(2, Buffer.from("embedfleet")),
    ...Object.entries(graph.constants).map(([name, constant]) => message(5, writeConstant(name, constant))),
    ...Object.entries(graph.inputs).map(([name, shape]) => message(11, writeValue(name, shape))),
    ...Object.entries(graph.outputs).map(([name, shape]) => message(12, writeValue(name, shape))),
  ]);
  const opset = Buffer.concat([message(1, Buffer.alloc(0)), number(2, OPSET)]);
  return Buffer.concat([number(1, IR_VERSION), message(7, graphBytes), message(8, opset)]);
}

function writeNode({ op, inputs, output, attributes = {} }: OnnxNode): Buffer {
  const INT = 2;
  return Buffer.concat([
    ...inputs.map((name) => message(1, Buffer.from(name))),
    message(2, Buffer.from(output)),
    message(4, Buffer.from(op)),
    ...Object.entries(attributes).map(([name, value]) =>
      message(5, Buffer.concat([message(1, Buffer.from(name)), number(3, value), number(20, INT)])),
    ),
  ]);
}

function writeConstant(name: string, { shape, values }: OnnxConstant): Buffer {
  const INT64 = 7;
  return Buffer.concat([
    ...shape.map((size) => number(1, size)),
    number(2, values instanceof Float32Array ? FLOAT : INT64),
    message(8, Buffer.from(name)),
    message(9, Buffer.from(values.buffer, values.byteOffset, values.byteLength)),
  ]);
}

function writeValue(name: string, shape: readonly (number | string)[]): Buffer {
  const sizes = shape.map((size) =>
    message(1, typeof size === "number" ? number(1, size) : message(2, Buffer.from(size))),
  );
  const tensor = Buffer.concat([number(1, FLOAT), message(2, Buffer.concat(sizes))]);
  return Buffer.concat([message(1, Buffer.from(name)), message(2, message(1, tensor))]);
}

// --- Protocol buffers -----------------------------------------------------------------------

/** A length-delimited field: a text or a message. */
function message(field: number, body: Buffer): Buffer {
  return Buffer.concat([varint((field << 3) | 2), varint(body.length), body]);
}

/** @param value An integer; negative ones take ten bytes, as 64-bit two's complement. */
function number(field: number, value: number): Buffer {
  return Buffer.concat([varint(field << 3), varint(value)]);
}

function varint(value: number): Buffer {
  let rest = BigInt.asUintN(64, BigInt(value));
  const bytes: number[] = [];
  for (; rest > 0x7fn; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  return Buffer.from([...bytes, Number(rest)]);
}
