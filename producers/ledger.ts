/** Which documents of a corpus a run has to plan, and which rows of its base are no more. */
import { IdSet } from "../src/adapters/id-set.ts";
import { PrintTable } from "../src/adapters/print-table.ts";
import type { DeletedRows, DeleteReason } from "../src/arrow/document-index.ts";
import { CONTENT_KEY_BYTES } from "../src/core/content.ts";
import type { RunRecord } from "../src/core/contracts.ts";
import type { ObjectStore } from "../src/core/ports.ts";
import { readChain } from "../src/run/chain.ts";
import { readDeletes, readDocumentIndex } from "../src/run/read-lists.ts";

export type Admission = "new" | "unchanged" | "duplicate";

export interface Ledger {
  /** @param content SHA-256 of the document's content; its first 16 bytes are what counts. */
  admit(id: string, content: Uint8Array): Admission;
  /**
   * Rows of the base whose document the corpus has no more, or with other content, in parts. To be asked
   * once, when the whole corpus has been admitted; the same corpus gives the same parts.
   */
  gone(): AsyncGenerator<DeletedRows>;
  close(): void;
}

/** @throws FleetError when the base is not there, not sealed or not as it was sealed. */
export async function openLedger(
  params: Readonly<{ store: ObjectStore; record: RunRecord; memoryBytes?: number }>,
): Promise<Ledger> {
  const { lineage } = params.record;
  if (lineage?.kind !== "delta") return new FullLedger();
  const ledger = new DeltaLedger({ ...params, base: lineage.base });
  try {
    await ledger.load();
    return ledger;
  } catch (error) {
    ledger.close();
    throw error;
  }
}

class FullLedger implements Ledger {
  readonly #seen = new IdSet();

  admit(id: string): Admission {
    return this.#seen.add(id) ? "new" : "duplicate";
  }

  async *gone(): AsyncGenerator<DeletedRows> {}

  close(): void {
    this.#seen.close();
  }
}

/** What is kept of each document: 96 bits of its content's hash as of the base, and one of `STATE`. */
const CONTENT_WORDS = 3;
const STATE_WORD = CONTENT_WORDS;
const STATE = {
  inBase: 1,
  /** Was in an older run of the chain; a newer one took it away. */
  goneBefore: 2,
  unchanged: 3,
  changed: 4,
  new: 5,
  listedAsGone: 6,
} as const;
/** Held in memory up to 5 million documents; then in a temporary file of 46 to 92 bytes a document. */
const MEMORY_BYTES = 256 * 1024 * 1024;
const ROWS_PER_PART = 262_144;

class DeltaLedger implements Ledger {
  readonly #store: ObjectStore;
  readonly #base: string;
  readonly #table: PrintTable;
  /** Oldest first. */
  #runs: readonly string[] = [];

  constructor(params: Readonly<{ store: ObjectStore; base: string; memoryBytes?: number }>) {
    this.#store = params.store;
    this.#base = params.base;
    this.#table = new PrintTable({ words: STATE_WORD + 1, memoryBytes: params.memoryBytes ?? MEMORY_BYTES });
  }

  /** Plays the chain from its oldest run, so that what a newer one says of a document stands. */
  async load(): Promise<void> {
    const chain = (await readChain(this.#store, this.#base)).toReversed();
    this.#runs = chain.map(({ run }) => run);
    for (const manifest of chain) {
      for await (const { ids } of readDeletes(this.#store, manifest)) {
        for (const id of ids) this.#table.visit(id, (words, isNew) => !isNew && setState(words, STATE.goneBefore));
      }
      for await (const { ids, contentKeys } of readDocumentIndex(this.#store, manifest.run)) {
        ids.forEach((id, i) => {
          const content = contentWords(contentKeys, i);
          this.#table.visit(id, (words) => {
            words.set(content);
            return setState(words, STATE.inBase);
          });
        });
      }
    }
  }

  admit(id: string, content: Uint8Array): Admission {
    let admission: Admission = "new";
    const key = contentWords(content, 0);
    this.#table.visit(id, (words, isNew) => {
      const state = words[STATE_WORD];
      if (isNew || state === STATE.goneBefore) return setState(words, STATE.new);
      if (state !== STATE.inBase) {
        admission = "duplicate";
        return false;
      }
      if (!isSame(words, key)) return setState(words, STATE.changed);
      admission = "unchanged";
      return setState(words, STATE.unchanged);
    });
    return admission;
  }

  async *gone(): AsyncGenerator<DeletedRows> {
    let part = emptyPart();
    for (const run of this.#runs) {
      for await (const index of readDocumentIndex(this.#store, run)) {
        for (let i = 0; i < index.ids.length; i++) {
          const id = index.ids[i]!;
          const reason = this.#takeGone(id, contentWords(index.contentKeys, i));
          if (reason === null) continue;
          for (let chunk = 0; chunk < index.chunks[i]!; chunk++) {
            part.ids.push(id);
            part.chunks.push(chunk);
            part.reasons.push(reason);
          }
          if (part.ids.length < ROWS_PER_PART) continue;
          yield { ...part, chunks: Uint32Array.from(part.chunks) };
          part = emptyPart();
        }
      }
    }
    if (part.ids.length > 0) yield { ...part, chunks: Uint32Array.from(part.chunks) };
  }

  /** Why the base's document is gone, once; null when it is not, or was of an older run with other content. */
  #takeGone(id: string, content: Int32Array): DeleteReason | null {
    let reason: DeleteReason | null = null;
    this.#table.visit(id, (words) => {
      const state = words[STATE_WORD];
      if ((state !== STATE.inBase && state !== STATE.changed) || !isSame(words, content)) return false;
      reason = state === STATE.changed ? "changed" : "removed";
      return setState(words, STATE.listedAsGone);
    });
    return reason;
  }

  close(): void {
    this.#table.close();
  }
}

function emptyPart(): { ids: string[]; chunks: number[]; reasons: DeleteReason[] } {
  return { ids: [], chunks: [], reasons: [] };
}

function contentWords(keys: Uint8Array, index: number): Int32Array {
  const words = new Int32Array(CONTENT_WORDS);
  const bytes = keys.subarray(index * CONTENT_KEY_BYTES, index * CONTENT_KEY_BYTES + CONTENT_WORDS * 4);
  new Uint8Array(words.buffer).set(bytes);
  return words;
}

function isSame(words: Int32Array, content: Int32Array): boolean {
  return words[0] === content[0] && words[1] === content[1] && words[2] === content[2];
}

function setState(words: Int32Array, state: (typeof STATE)[keyof typeof STATE]): true {
  words[STATE_WORD] = state;
  return true;
}
