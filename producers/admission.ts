/** Decides which documents of a corpus a run must plan, and which rows of its base are removed. */
import { FingerprintTable } from "../src/disk/fingerprint-table.ts";
import type { DeletedRows, DeleteReason } from "../src/arrow/document-index.ts";
import type { RunRecord } from "../src/core/contracts.ts";
import type { Origin } from "../src/core/documents.ts";
import type { ObjectStore } from "../src/core/ports.ts";
import { type AdmissionOutcome, KnownDocuments } from "../src/run/known-documents.ts";
import { Places } from "./places.ts";

export interface Admission {
  /** @param content Digest; see `contentHash`. */
  admit(id: string, content: Uint8Array, origin: Origin): AdmissionOutcome;
  /** Where the document with this id was that was admitted; null when that is not known any more. */
  firstOf(id: string): Origin | null;
  /** Called for a document that the reader rejected: the corpus still has it, so its rows in the base are kept. */
  keep(id: string): void;
  /**
   * Rows of the base whose document is no longer in the corpus, or has other content, in parts. Called
   * once, when the whole corpus has been admitted; the same corpus gives the same parts.
   */
  gone(): AsyncGenerator<DeletedRows>;
  /** Number of documents in the base, and of those listed as removed; valid after `gone`. */
  readonly base: Readonly<{ documents: number; removed: number }>;
  close(): void;
}

/** @throws FleetError when the base is missing, not sealed or changed since its seal. */
export async function openAdmission(params: Readonly<{ store: ObjectStore; record: RunRecord }>): Promise<Admission> {
  const { store, record } = params;
  if (record.lineage?.kind !== "delta") return new FullAdmission();
  return new DeltaAdmission(await KnownDocuments.load({ store, run: record.lineage.base }));
}

/** Memory limit of the ids of a full run, enough for 1.4 million; beyond it, a temporary file is used. */
const MEMORY_BYTES = 48 * 1024 * 1024;

class FullAdmission implements Admission {
  readonly base = { documents: 0, removed: 0 };
  /** Of each id the number of its file and its line. */
  readonly #seen = new FingerprintTable({ words: 2, memoryBytes: MEMORY_BYTES });
  readonly #places = new Places();

  admit(id: string, _content: Uint8Array, origin: Origin): AdmissionOutcome {
    let outcome: AdmissionOutcome = "duplicate";
    this.#seen.visit(id, (words, isNew) => {
      if (!isNew) return false;
      const { file, line } = this.#places.toPlace(origin);
      words[0] = file;
      words[1] = line;
      outcome = "new";
      return true;
    });
    return outcome;
  }

  firstOf(id: string): Origin | null {
    let first: Origin | null = null;
    this.#seen.visit(id, ([file = 0, line = 0], isNew) => {
      if (!isNew) first = this.#places.toOrigin({ file, line });
      return false;
    });
    return first;
  }

  keep(): void {}

  async *gone(): AsyncGenerator<DeletedRows> {}

  close(): void {
    this.#seen.close();
  }
}

const ROWS_PER_PART = 262_144;

class DeltaAdmission implements Admission {
  readonly #known: KnownDocuments;
  readonly #places = new Places();
  #removed = 0;

  constructor(known: KnownDocuments) {
    this.#known = known;
  }

  admit(id: string, content: Uint8Array, origin: Origin): AdmissionOutcome {
    return this.#known.admit(id, content, this.#places.toPlace(origin));
  }

  firstOf(id: string): Origin | null {
    return this.#places.toOrigin(this.#known.placeOf(id));
  }

  keep(id: string): void {
    this.#known.keep(id);
  }

  get base(): Admission["base"] {
    return { documents: this.#known.documents, removed: this.#removed };
  }

  async *gone(): AsyncGenerator<DeletedRows> {
    let part = new Part();
    for await (const { id, chunks, reason } of this.#known.outdated()) {
      if (reason === "removed") this.#removed++;
      for (let chunk = 0; chunk < chunks; chunk++) part.add(id, chunk, reason);
      if (part.ids.length < ROWS_PER_PART) continue;
      yield part.rows();
      part = new Part();
    }
    if (part.ids.length > 0) yield part.rows();
  }

  close(): void {
    this.#known.close();
  }
}

class Part {
  readonly ids: string[] = [];
  readonly #chunks: number[] = [];
  readonly #reasons: DeleteReason[] = [];

  add(id: string, chunk: number, reason: DeleteReason): void {
    this.ids.push(id);
    this.#chunks.push(chunk);
    this.#reasons.push(reason);
  }

  rows(): DeletedRows {
    return { ids: this.ids, chunks: Uint32Array.from(this.#chunks), reasons: this.#reasons };
  }
}
