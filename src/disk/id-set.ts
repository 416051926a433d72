/** A set of ids in bounded memory, for corpora of any size; 1.4 million are held in memory by default. */
import { FingerprintTable } from "./fingerprint-table.ts";

export class IdSet {
  readonly #table: FingerprintTable;

  constructor(params: Readonly<{ memoryBytes?: number }> = {}) {
    this.#table = new FingerprintTable({ words: 0, memoryBytes: params.memoryBytes });
  }

  get size(): number {
    return this.#table.size;
  }

  /** True when the id is new. */
  add(id: string): boolean {
    let isNewId = false;
    this.#table.visit(id, (_, isNew) => (isNewId = isNew));
    return isNewId;
  }

  has(id: string): boolean {
    let isKnown = false;
    this.#table.visit(id, (_, isNew) => {
      isKnown = !isNew;
      return false;
    });
    return isKnown;
  }

  /** Removes its file, if there is one. The set is empty and unusable afterwards. */
  close(): void {
    this.#table.close();
  }
}
