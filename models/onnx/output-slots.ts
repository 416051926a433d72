/** Shared memory that holds a batch's outputs until they are scattered, while the device computes the next batch. */
import type { BatchOutputs } from "./scatter.ts";

/** Two: one is emptied while the other is filled. */
const SLOTS = 2;
/** Bytes of the words by which V8 copies shared memory; unaligned copies are four times slower. */
const ALIGNMENT = 8;

/**
 * Shared memory that grows to the largest batch's outputs and is reused. ONNX Runtime's outputs are copied into it: its
 * memory cannot be sent to another thread, and it accepts no tensors in shared memory.
 */
export class OutputSlots {
  readonly #slots = Array.from({ length: SLOTS }, () => new SharedArrayBuffer(0));
  /** The slot freed last is used first, so that a second one takes memory only when it is needed. */
  readonly #free = [...this.#slots.keys()];
  #onFree: ((slot: number) => void) | null = null;

  /** Copies the outputs as soon as a slot is free. Called once at a time. */
  async fill(outputs: BatchOutputs): Promise<{ slot: number; outputs: BatchOutputs }> {
    const slot = this.#free.pop() ?? (await new Promise<number>((resolve) => (this.#onFree = resolve)));
    const heads = [...outputs.heads];
    const bytes = heads.reduce((sum, [, values]) => sum + aligned(values.byteLength), 0);
    if (this.#slots[slot]!.byteLength < bytes) this.#slots[slot] = new SharedArrayBuffer(bytes);
    const memory = this.#slots[slot]!;
    let at = 0;
    const landed = heads.map(([head, values]) => {
      const { length } = values;
      const copy =
        values instanceof Uint16Array ? new Uint16Array(memory, at, length) : new Float32Array(memory, at, length);
      copy.set(values);
      at += aligned(values.byteLength);
      return [head, copy] as const;
    });
    return { slot, outputs: { longest: outputs.longest, heads: new Map(landed) } };
  }

  /** Frees a slot whose outputs have been scattered to their rows. */
  free(slot: number): void {
    const onFree = this.#onFree;
    this.#onFree = null;
    if (onFree === null) this.#free.push(slot);
    else onFree(slot);
  }
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}
