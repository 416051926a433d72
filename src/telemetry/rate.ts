/** A sum over the last minute, in slots of a few seconds, for current rates. */

const SLOT_MS = 5000;
const SLOTS = 12;

export class Rate {
  readonly #sums = new Float64Array(SLOTS);
  readonly #slotOf = new Float64Array(SLOTS).fill(-1);
  #firstMs: number | null = null;

  add(value: number, atMs: number): void {
    const slot = Math.floor(atMs / SLOT_MS);
    const at = slot % SLOTS;
    if (this.#slotOf[at] !== slot) this.#sums[at] = 0;
    this.#slotOf[at] = slot;
    this.#sums[at]! += value;
    this.#firstMs = Math.min(this.#firstMs ?? atMs, atMs);
  }

  sum(nowMs: number): number {
    const oldest = Math.floor(nowMs / SLOT_MS) - SLOTS + 1;
    return this.#sums.reduce((sum, value, at) => sum + (this.#slotOf[at]! >= oldest ? value : 0), 0);
  }

  /** Rate over the last minute, or since the first value where that is later. */
  perSecond(nowMs: number): number {
    if (this.#firstMs === null) return 0;
    const windowStartMs = (Math.floor(nowMs / SLOT_MS) - SLOTS + 1) * SLOT_MS;
    const spanMs = nowMs - Math.max(windowStartMs, this.#firstMs);
    return this.sum(nowMs) / (Math.max(spanMs, SLOT_MS) / 1000);
  }
}
