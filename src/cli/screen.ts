/** Terminal lines that are redrawn in place; elsewhere each drawing is printed below the last. */
import type { WriteStream } from "node:tty";
import { visible } from "../core/visible.ts";

const ESCAPE = "\u001B[";

export class Screen {
  readonly #stream: WriteStream;
  #drawn = 0;

  constructor(stream: WriteStream) {
    this.#stream = stream;
  }

  get columns(): number {
    return this.#stream.columns ?? 80;
  }

  draw(lines: readonly string[]): void {
    this.clear();
    // Lines beyond the terminal's height could not be erased.
    const shown = this.#stream.isTTY ? lines.slice(0, Math.max(1, (this.#stream.rows ?? 24) - 1)) : lines;
    this.#stream.write(`${shown.map(visible).join("\n")}\n`);
    if (this.#stream.isTTY) this.#drawn = shown.length;
  }

  /** Erases the last drawing. */
  clear(): void {
    if (this.#drawn > 0) this.#stream.write(`${ESCAPE}${this.#drawn}A${ESCAPE}0J`);
    this.#drawn = 0;
  }
}
