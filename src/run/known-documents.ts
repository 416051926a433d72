/** The documents of a chain of runs, in bounded memory. */
import { FingerprintTable } from "../disk/fingerprint-table.ts";
import { CONTENT_KEY_BYTES } from "../core/content.ts";
import type { ObjectStore } from "../core/ports.ts";
import { proveSealed, readChain } from "./chain.ts";
import { readDeletes, readDocumentIndex } from "./read-lists.ts";
import { requireClosed } from "./read-plan.ts";

/** Words per document: 96 bits of its content's hash, one of `STATE`, and its place in the new corpus. */
const CONTENT_WORDS = 3;
const STATE_WORD = CONTENT_WORDS;
const FILE_WORD = STATE_WORD + 1;
const LINE_WORD = FILE_WORD + 1;
const STATE = {
  known: 1,
  /** An older run of the chain had it; a newer one deleted it. */
  goneBefore: 2,
  unchanged: 3,
  changed: 4,
  new: 5,
  listed: 6,
  /** The reader refused it; the chain's version of it stays. */
  kept: 7,
} as const;
type State = (typeof STATE)[keyof typeof STATE];
/** Memory limit, enough for 5 million documents; beyond it a temporary file of 57 to 114 bytes a document is used. */
const MEMORY_BYTES = 320 * 1024 * 1024;

export type AdmissionOutcome = "new" | "unchanged" | "duplicate";

/** Where a document is in the new corpus: the number of its file, and its line, 0 for none. */
export interface Place {
  readonly file: number;
  readonly line: number;
}

const NOWHERE: Place = { file: 0, line: 0 };

/** A document of the chain that no corpus admitted since contains unchanged. */
export interface OutdatedDocument {
  readonly id: string;
  /** The first 16 bytes of `contentHash`. */
  readonly contentKey: Uint8Array;
  readonly chunks: number;
  /** `changed` when it was admitted with other content. */
  readonly reason: "removed" | "changed";
}

export class KnownDocuments {
  readonly #store: ObjectStore;
  readonly #table: FingerprintTable;
  /** Run ids, oldest first. */
  readonly #runs: readonly string[];
  #documents = 0;

  private constructor(store: ObjectStore, runs: readonly string[], memoryBytes: number) {
    this.#store = store;
    this.#runs = runs;
    this.#table = new FingerprintTable({ words: LINE_WORD + 1, memoryBytes });
  }

  /** @throws FleetError when the run does not exist, is not sealed, or was changed after the seal. */
  static async load(
    params: Readonly<{ store: ObjectStore; run: string; memoryBytes?: number }>,
  ): Promise<KnownDocuments> {
    const { store, run, memoryBytes = MEMORY_BYTES } = params;
    const chain = (await readChain(store, run)).toReversed();
    const runs = chain.map((manifest) => manifest.run);
    const known = new KnownDocuments(store, runs, memoryBytes);
    try {
      // From the oldest run on, so that the newest state of a document remains.
      for (const manifest of chain) {
        const closed = await proveSealed(store, manifest);
        for await (const { ids } of readDeletes(store, manifest)) ids.forEach((id) => known.#forget(id));
        for await (const { ids, contentKeys } of readDocumentIndex(store, manifest.run, closed))
          ids.forEach((id, i) => known.#learn(id, contentWords(contentKeys, i)));
      }
      return known;
    } catch (error) {
      known.close();
      throw error;
    }
  }

  #forget(id: string): void {
    this.#table.visit(id, (words, isNew) => {
      if (isNew) return false;
      if (words[STATE_WORD] === STATE.known) this.#documents--;
      return setState(words, STATE.goneBefore);
    });
  }

  #learn(id: string, content: Int32Array): void {
    this.#table.visit(id, (words, isNew) => {
      if (isNew || words[STATE_WORD] !== STATE.known) this.#documents++;
      words.set(content);
      return setState(words, STATE.known);
    });
  }

  /** Number of documents in the chain, whatever was admitted. */
  get documents(): number {
    return this.#documents;
  }

  /** Keeps a document that the new corpus has but that could not be read: it is not outdated. */
  keep(id: string): void {
    this.#table.visit(id, (words, isNew) => !isNew && words[STATE_WORD] === STATE.known && setState(words, STATE.kept));
  }

  /** Adds a document of the new corpus. @param content SHA-256 of its content; its first 12 bytes are compared. */
  admit(id: string, content: Uint8Array, place: Place = NOWHERE): AdmissionOutcome {
    let admission: AdmissionOutcome = "new";
    const key = contentWords(content, 0);
    this.#table.visit(id, (words, isNew) => {
      const state = words[STATE_WORD];
      const isDuplicate = !isNew && state !== STATE.goneBefore && state !== STATE.known && state !== STATE.kept;
      if (isDuplicate) {
        admission = "duplicate";
        return false;
      }
      words[FILE_WORD] = place.file;
      words[LINE_WORD] = place.line;
      if (isNew || state === STATE.goneBefore) return setState(words, STATE.new);
      if (!isSame(words, key)) return setState(words, STATE.changed);
      admission = "unchanged";
      return setState(words, STATE.unchanged);
    });
    return admission;
  }

  /** Where the document with this id was that was admitted. */
  placeOf(id: string): Place {
    let place = NOWHERE;
    this.#table.visit(id, (words, isNew) => {
      if (!isNew) place = { file: words[FILE_WORD]!, line: words[LINE_WORD]! };
      return false;
    });
    return place;
  }

  /**
   * Documents of the chain that the admitted corpus lacks or has with other content; all of the chain when nothing was
   * admitted. Can be read once; the order is deterministic.
   */
  async *outdated(): AsyncGenerator<OutdatedDocument> {
    for (const run of this.#runs) {
      const closed = await requireClosed(this.#store, run);
      for await (const { ids, contentKeys, chunks } of readDocumentIndex(this.#store, run, closed)) {
        for (let i = 0; i < ids.length; i++) {
          const id = ids[i]!;
          const reason = this.#takeOutdated(id, contentWords(contentKeys, i));
          if (reason === null) continue;
          const contentKey = contentKeys.subarray(i * CONTENT_KEY_BYTES, (i + 1) * CONTENT_KEY_BYTES);
          yield { id, contentKey, chunks: chunks[i]!, reason };
        }
      }
    }
  }

  /** Null when the document is unchanged, was listed before, or belongs to an older run with other content. */
  #takeOutdated(id: string, content: Int32Array): OutdatedDocument["reason"] | null {
    let reason: OutdatedDocument["reason"] | null = null;
    this.#table.visit(id, (words) => {
      const state = words[STATE_WORD];
      if ((state !== STATE.known && state !== STATE.changed) || !isSame(words, content)) return false;
      reason = state === STATE.changed ? "changed" : "removed";
      return setState(words, STATE.listed);
    });
    return reason;
  }

  close(): void {
    this.#table.close();
  }
}

function contentWords(keys: Uint8Array, index: number): Int32Array {
  const words = new Int32Array(CONTENT_WORDS);
  const start = index * CONTENT_KEY_BYTES;
  new Uint8Array(words.buffer).set(keys.subarray(start, start + words.byteLength));
  return words;
}

function isSame(words: Int32Array, content: Int32Array): boolean {
  return words[0] === content[0] && words[1] === content[1] && words[2] === content[2];
}

function setState(words: Int32Array, state: State): true {
  words[STATE_WORD] = state;
  return true;
}
