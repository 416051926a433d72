/**
 * Lets loops sleep until something has changed. Check and `wait` must be in the same synchronous section,
 * so that no notification falls between them.
 */
export class Signal {
  #waiters: (() => void)[] = [];

  notify(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const wake of waiters) wake();
  }

  wait(): Promise<void> {
    return new Promise((resolve) => this.#waiters.push(resolve));
  }
}
