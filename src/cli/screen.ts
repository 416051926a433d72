/** A few lines of a terminal that are drawn again in place; elsewhere each drawing is printed below the last. */
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
    // What is taller than the terminal could not be taken back.
    const shown = this.#stream.isTTY ? lines.slice(0, Math.max(1, (this.#stream.rows ?? 24) - 1)) : lines;
    this.#stream.write(`${shown.map(visible).join("\n")}\n`);
    if (this.#stream.isTTY) this.#drawn = shown.length;
  }

  /** Takes the last drawing away. */
  clear(): void {
    if (this.#drawn > 0) this.#stream.write(`${ESCAPE}${this.#drawn}A${ESCAPE}0J`);
    this.#drawn = 0;
  }
}
