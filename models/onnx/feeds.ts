/** A batch's inputs as the graph takes them: ids, mask, and where it has them type ids, positions and empty caches. */
import { Tensor, type InferenceSession } from "onnxruntime-node";
import type { RowRef } from "../../src/core/batch.ts";
import type { OnnxManifest } from "../registry/manifest.ts";

type Metadata = Extract<InferenceSession.ValueMetadata, { isTensor: true }>;
type Feeds = Record<string, Tensor>;

/** Integers of the batch, by what they are. */
type Values = "ids" | "mask" | "typeIds" | "positionIds";

export class BatchFeeds {
  readonly #manifest: OnnxManifest;
  readonly #integers: readonly (readonly [values: Values, input: Metadata])[];
  readonly #past: readonly Metadata[];
  /** By input; each grows to the largest batch and stays, because ONNX Runtime copies inputs on entry. */
  readonly #memory = new Map<string, ArrayBuffer>();

  constructor(manifest: OnnxManifest, inputs: readonly InferenceSession.ValueMetadata[]) {
    this.#manifest = manifest;
    const tensors = inputs.filter((input): input is Metadata => input.isTensor);
    const { past, ...names } = manifest.inputs;
    this.#integers = (Object.entries(names) as [Values, string][]).flatMap(([values, name]) =>
      tensors.filter((input) => input.name === name).map((input) => [values, input] as const),
    );
    this.#past = past === undefined ? [] : tensors.filter(({ name }) => name.startsWith(past));
  }

  /** @param longest Padded length of a row, in tokens; padding is on the right. */
  of(rows: readonly RowRef[], longest: number): Feeds {
    const feeds: Feeds = {};
    for (const [values, input] of this.#integers) {
      const words = input.type === "int32" ? 1 : 2;
      const memory = this.#memoryOf(input.name, rows.length * longest * words);
      this.#fill(values, new Int32Array(memory, 0, rows.length * longest * words), { rows, longest, words });
      const shape = [rows.length, longest];
      feeds[input.name] =
        words === 1
          ? new Tensor("int32", new Int32Array(memory, 0, rows.length * longest), shape)
          : new Tensor("int64", new BigInt64Array(memory, 0, rows.length * longest), shape);
    }
    for (const { name, type, shape } of this.#past) {
      const empty = type === "float16" ? new Uint16Array(0) : new Float32Array(0);
      feeds[name] = new Tensor(type as "float32", empty as Float32Array, [
        rows.length,
        Number(shape[1]),
        0,
        Number(shape[3]),
      ]);
    }
    return feeds;
  }

  #memoryOf(name: string, words: number): ArrayBuffer {
    const known = this.#memory.get(name);
    if (known !== undefined && known.byteLength >= words * Int32Array.BYTES_PER_ELEMENT) return known;
    const memory = new ArrayBuffer(words * Int32Array.BYTES_PER_ELEMENT);
    this.#memory.set(name, memory);
    return memory;
  }

  /** A value fits the low half of its int64, so that the halves are written without creating BigInts. */
  #fill(
    values: Values,
    into: Int32Array,
    { rows, longest, words }: Readonly<{ rows: readonly RowRef[]; longest: number; words: number }>,
  ): void {
    into.fill(0);
    if (values === "typeIds") return;
    const { padId } = this.#manifest.architecture;
    rows.forEach(({ shard, row }, index) => {
      const start = shard.offsets[row]!;
      const tokens = shard.offsets[row + 1]! - start;
      const base = index * longest;
      if (values === "ids") {
        for (let token = 0; token < tokens; token++) into[(base + token) * words] = shard.ids[start + token]!;
        for (let token = tokens; token < longest; token++) into[(base + token) * words] = padId;
      } else if (values === "mask") {
        for (let token = 0; token < tokens; token++) into[(base + token) * words] = 1;
      } else {
        for (let token = 0; token < longest; token++) into[(base + token) * words] = token;
      }
    });
  }
}
