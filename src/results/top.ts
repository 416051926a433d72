/** Selects the best of many items, in memory proportional to the number wanted. */

interface Entry<T> {
  readonly key: string;
  readonly value: T;
  score: number;
  /** Of equal scores, the one offered first ranks higher. */
  order: number;
}

/**
 * Keeps the `limit` keys of the highest scores, each key with its best score: a document scores as its
 * best chunk. A binary heap with the worst on top, and the position of each key in it.
 */
export class Top<T> {
  readonly #limit: number;
  readonly #heap: Entry<T>[] = [];
  readonly #places = new Map<string, number>();
  #offers = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** @param make Called only when the offer is accepted. */
  offer(score: number, key: string, make: () => T): void {
    const order = this.#offers++;
    const place = this.#places.get(key);
    if (place !== undefined) {
      const held = this.#heap[place]!;
      if (score <= held.score) return;
      this.#put(place, { key, score, order: held.order, value: make() });
      return this.#sink(place);
    }
    if (this.#heap.length < this.#limit) {
      this.#put(this.#heap.length, { key, score, order, value: make() });
      return this.#rise(this.#heap.length - 1);
    }
    const worst = this.#heap[0];
    if (worst === undefined || score <= worst.score) return;
    this.#places.delete(worst.key);
    this.#put(0, { key, score, order, value: make() });
    this.#sink(0);
  }

  /** Items, best first. */
  ranked(): { readonly key: string; readonly score: number; readonly value: T }[] {
    return this.#heap.toSorted((a, b) => (isWorse(a, b) ? 1 : -1));
  }

  #put(place: number, entry: Entry<T>): void {
    this.#heap[place] = entry;
    this.#places.set(entry.key, place);
  }

  #rise(from: number): void {
    const entry = this.#heap[from]!;
    let place = from;
    while (place > 0) {
      const parent = (place - 1) >> 1;
      if (!isWorse(entry, this.#heap[parent]!)) break;
      this.#put(place, this.#heap[parent]!);
      place = parent;
    }
    this.#put(place, entry);
  }

  #sink(from: number): void {
    const entry = this.#heap[from]!;
    let place = from;
    for (;;) {
      const left = 2 * place + 1;
      const right = left + 1;
      if (left >= this.#heap.length) break;
      const child = right < this.#heap.length && isWorse(this.#heap[right]!, this.#heap[left]!) ? right : left;
      if (!isWorse(this.#heap[child]!, entry)) break;
      this.#put(place, this.#heap[child]!);
      place = child;
    }
    this.#put(place, entry);
  }
}

function isWorse<T>(a: Entry<T>, b: Entry<T>): boolean {
  return a.score < b.score || (a.score === b.score && a.order > b.order);
}
