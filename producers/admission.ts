/** Decides which documents of a corpus a run must plan, and which rows of its base are removed. */
import { IdSet } from "../src/disk/id-set.ts";
import type { DeletedRows, DeleteReason } from "../src/arrow/document-index.ts";
import type { RunRecord } from "../src/core/contracts.ts";
import type { ObjectStore } from "../src/core/ports.ts";
import { type AdmissionOutcome, KnownDocuments } from "../src/run/known-documents.ts";

export interface Admission {
  /** @param content Digest; see `contentHash`. */
  admit(id: string, content: Uint8Array): AdmissionOutcome;
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

class FullAdmission implements Admission {
  readonly base = { documents: 0, removed: 0 };
  readonly #seen = new IdSet();

  admit(id: string): AdmissionOutcome {
    return this.#seen.add(id) ? "new" : "duplicate";
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
  #removed = 0;

  constructor(known: KnownDocuments) {
    this.#known = known;
  }

  admit(id: string, content: Uint8Array): AdmissionOutcome {
    return this.#known.admit(id, content);
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
