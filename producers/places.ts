/** Places of documents in a corpus as two numbers, for tables of many of them. */
import type { Origin } from "../src/core/documents.ts";
import type { Place } from "../src/run/known-documents.ts";

/** Number of files whose names are held; a corpus of more has a document a file, or nearly, whose id says where it is. */
const MAX_FILES = 100_000;

export class Places {
  readonly #files: string[] = [];
  #numbers = new Map<string, number>();

  toPlace({ file, line = 0 }: Origin): Place {
    let number = this.#numbers.get(file);
    if (number === undefined && this.#files.length < MAX_FILES) {
      number = this.#files.push(file);
      this.#numbers.set(file, number);
    }
    return { file: number ?? 0, line };
  }

  /** Null for a file whose name is not held. */
  toOrigin({ file, line }: Place): Origin | null {
    const name = this.#files[file - 1];
    if (name === undefined) return null;
    return line === 0 ? { file: name } : { file: name, line };
  }
}
