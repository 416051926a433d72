/**
 * Finds the files that a graph loads besides its own: the external data of its tensors, anywhere in the graph, and the
 * compiled engines that EPContext nodes refer to. Only the structure is read and weights are skipped, so memory does
 * not grow with the graph. Field numbers are those of `onnx.proto` (onnx/onnx on GitHub).
 */
import { WireReader, type WireSource } from "./wire-reader.ts";

/** A file that a graph loads. */
export interface GraphFile {
  /** Path as written in the graph, relative to the graph's own folder. */
  readonly location: string;
  /** Minimum size that the file must have, as far as the graph states it. */
  readonly leastBytes: number;
}

/** What a graph computes with and returns. */
export interface GraphOutline {
  /** Names of its operators, those of its functions and of the graphs inside it included. */
  readonly operators: ReadonlySet<string>;
  /** Names of its outputs. */
  readonly outputs: ReadonlySet<string>;
}

/** Maximum size of a protobuf message. */
const MAX_BYTES = 2 ** 31 - 1;
/** Protocol Buffers' own nesting limit, and therefore the runtime's. */
const MAX_DEPTH = 100;
/** Maximum number of files; an export with one file per tensor has some thousands. */
const MAX_FILES = 100_000;
/** Maximum length of a path, a name or a number in digits. */
const MAX_TEXT_BYTES = 4096;

type Kind =
  | "model"
  | "training"
  | "function"
  | "graph"
  | "value"
  | "node"
  | "attribute"
  | "sparse"
  | "tensor"
  | "entry";

interface Child {
  readonly kind: Kind;
  /** False for a field that is one message, possibly in several pieces. */
  readonly isRepeated: boolean;
}
const many = (kind: Kind): Child => ({ kind, isRepeated: true });
const one = (kind: Kind): Child => ({ kind, isRepeated: false });

/** Fields that are messages which contain tensors. */
const CHILDREN: Readonly<Record<Kind, Readonly<Record<number, Child>>>> = {
  model: { 7: one("graph"), 20: many("training"), 25: many("function") },
  training: { 1: one("graph"), 2: one("graph") },
  function: { 7: many("node"), 11: many("attribute") },
  graph: { 1: many("node"), 5: many("tensor"), 12: many("value"), 15: many("sparse") },
  value: {},
  node: { 5: many("attribute") },
  attribute: {
    5: one("tensor"),
    6: one("graph"),
    10: many("tensor"),
    11: many("graph"),
    22: one("sparse"),
    23: many("sparse"),
  },
  sparse: { 1: one("tensor"), 2: one("tensor") },
  tensor: { 13: many("entry") },
  entry: {},
};
/** Text fields that are read: an operator's, a tensor's or an attribute's name, an entry's key, and their values. */
const TEXTS: Readonly<Partial<Record<Kind, Readonly<Record<number, "name" | "text">>>>> = {
  node: { 4: "name" },
  value: { 1: "name" },
  attribute: { 1: "name", 4: "text" },
  tensor: { 8: "name" },
  entry: { 1: "name", 2: "text" },
};
/** Number fields that are read: an attribute's value, and where a tensor's data are. */
const NUMBERS: Readonly<Partial<Record<Kind, number>>> = { attribute: 3, tensor: 14 };
const EXTERNAL = 1n;
/** Keys of a tensor's entries or names of a node's attributes that are read. */
const KEYS: ReadonlySet<string> = new Set([
  "location",
  "offset",
  "length",
  "ep_cache_context",
  "embed_mode",
  "onnx_model_filename",
]);

const VARINT = 0;
const LENGTH = 2;

/** A message in progress. */
interface Frame {
  readonly kind: Kind;
  readonly isRepeated: boolean;
  end: number;
  name: Buffer | null;
  /** Null for none, and for text that is too long to be used. */
  text: Buffer | null;
  number: bigint | null;
  isExternal: boolean;
  /** Children that are one message each, by field; more pieces of them may follow. */
  readonly singles: Map<number, Frame>;
  /** A tensor's entries or a node's attributes, by key. */
  readonly pairs: Map<string, Frame>;
  /** A key that occurred twice. */
  repeatedKey: string | null;
}

/**
 * @returns Each file once.
 * @throws Error whose message is a clause about the graph.
 */
export function filesOfGraph(source: WireSource): GraphFile[] {
  if (source.bytes > MAX_BYTES) throw new Error(`it has ${source.bytes} bytes; an ONNX graph has at most ${MAX_BYTES}`);
  return new GraphReader(source).read();
}

/** @throws Error whose message is a clause about the graph. */
export function outlineOfGraph(source: WireSource): GraphOutline {
  const reader = new GraphReader(source);
  reader.read();
  return reader;
}

/** Depth of the messages around a model's own graph and its fields: the model and the graph. */
const TOP_DEPTH = 2;

class GraphReader {
  readonly operators = new Set<string>();
  readonly outputs = new Set<string>();
  readonly #wire: WireReader;
  readonly #files = new Map<string, number>();
  readonly #open: Frame[];

  constructor(source: WireSource) {
    this.#wire = new WireReader(source);
    this.#open = [frameOf(many("model"), source.bytes)];
  }

  read(): GraphFile[] {
    for (let frame = this.#open.at(-1); frame !== undefined; frame = this.#open.at(-1)) {
      if (this.#wire.at < frame.end) {
        this.#readField(frame);
        continue;
      }
      this.#open.pop();
      if (frame.isRepeated) this.#finish(frame, this.#open.at(-1));
    }
    return [...this.#files].map(([location, leastBytes]) => ({ location, leastBytes }));
  }

  #readField(frame: Frame): void {
    const { field, type } = this.#wire.tag(frame.end);
    const child = CHILDREN[frame.kind][field];
    const text = TEXTS[frame.kind]?.[field];
    if (type === LENGTH && child !== undefined) this.#enter(frame, field, child);
    else if (type === LENGTH && text !== undefined) frame[text] = this.#text(frame.end);
    else if (type === VARINT && field === NUMBERS[frame.kind]) {
      frame.number = this.#wire.varint(frame.end);
      // A value unknown to the format leaves the previous one, and only 32 bits of it count.
      frame.isExternal ||= BigInt.asIntN(32, frame.number) === EXTERNAL;
    } else this.#wire.skip(type, frame.end);
  }

  #text(end: number): Buffer | null {
    const textEnd = this.#wire.length(end);
    if (textEnd - this.#wire.at <= MAX_TEXT_BYTES) return this.#wire.bytesTo(textEnd);
    this.#wire.at = textEnd;
    return null;
  }

  #enter(parent: Frame, field: number, child: Child): void {
    if (this.#open.length >= MAX_DEPTH) throw new Error(`its messages are nested more than ${MAX_DEPTH} deep`);
    const end = this.#wire.length(parent.end);
    const frame = parent.singles.get(field) ?? frameOf(child, end);
    frame.end = end;
    if (!child.isRepeated) parent.singles.set(field, frame);
    this.#open.push(frame);
  }

  /** Evaluates a message that is complete. */
  #finish(frame: Frame, parent: Frame | undefined): void {
    for (const single of frame.singles.values()) this.#finish(single, frame);
    if (frame.kind === "tensor" && frame.isExternal) this.#addData(frame);
    const name = frame.name?.toString() ?? "";
    if (frame.kind === "node" && name === "EPContext") this.#addEngine(frame);
    if (frame.kind === "node" && this.operators.size < MAX_FILES) this.operators.add(name);
    const isOutput = frame.kind === "value" && this.#open.length === TOP_DEPTH;
    if (isOutput && this.outputs.size < MAX_FILES) this.outputs.add(name);
    const key = frame.kind === "entry" || frame.kind === "attribute" ? name : "";
    if (parent === undefined || !KEYS.has(key)) return;
    if (parent.pairs.has(key)) parent.repeatedKey = key;
    parent.pairs.set(key, frame);
  }

  #addData(tensor: Frame): void {
    const what = `its tensor ${JSON.stringify(tensor.name?.toString() ?? "")}`;
    if (tensor.repeatedKey !== null) throw new Error(`${what} has its ${tensor.repeatedKey} twice`);
    const { pairs } = tensor;
    const leastBytes = numberOf(pairs.get("offset"), what) + numberOf(pairs.get("length"), what);
    this.#add(textOf(pairs.get("location"), what), leastBytes);
  }

  /** Adds the engine's file, unless the engine is inside the node, and the graph whose weights it lacks, if any. */
  #addEngine(node: Frame): void {
    const what = "its EPContext node";
    if (node.repeatedKey !== null) throw new Error(`${what} has its ${node.repeatedKey} twice`);
    const { pairs } = node;
    const isInside = (pairs.get("embed_mode")?.number ?? 1n) !== 0n;
    if (!isInside) this.#add(textOf(pairs.get("ep_cache_context"), what), 0);
    const graph = pairs.get("onnx_model_filename");
    if (graph?.text != null && graph.text.length > 0) this.#add(textOf(graph, what), 0);
  }

  #add(location: string, leastBytes: number): void {
    this.#files.set(location, Math.max(leastBytes, this.#files.get(location) ?? 0));
    if (this.#files.size > MAX_FILES) throw new Error(`it names more than ${MAX_FILES} files`);
  }
}

function frameOf({ kind, isRepeated }: Child, end: number): Frame {
  return {
    kind,
    isRepeated,
    end,
    name: null,
    text: null,
    number: null,
    isExternal: false,
    singles: new Map(),
    pairs: new Map(),
    repeatedKey: null,
  };
}

/** @throws Error for text that is not UTF-8, which the runtime could resolve to another path than this reader. */
function textOf(pair: Frame | undefined, what: string): string {
  if (pair?.text == null || pair.text.length === 0) throw new Error(`${what} names no file for its data`);
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(pair.text);
  } catch (error) {
    throw new Error(`${what} names a file in bytes that are not UTF-8`, { cause: error });
  }
}

function numberOf(pair: Frame | undefined, what: string): number {
  if (pair === undefined) return 0;
  const text = pair.text?.toString("latin1") ?? "";
  if (/^\d{0,15}$/.test(text) && (text !== "" || pair.text !== null)) return Number(text);
  throw new Error(`${what} has the ${pair.name!.toString()} ${JSON.stringify(text)}, which is not a number of bytes`);
}
