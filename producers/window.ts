/** A window: consecutive documents that a producer holds in memory, sorts by length and cuts into shards. */
import { createHash, hash, type Hash } from "node:crypto";
import { encodeDocumentIndex } from "../src/arrow/document-index.ts";
import { encodeStagedShard } from "../src/arrow/staged.ts";
import { CONTENT_KEY_BYTES } from "../src/core/content.ts";
import { PLAN_VERSION, type Reject, type RunRecord, type ShardPlan, type WindowPlan } from "../src/core/contracts.ts";
import type { SourceItem } from "../src/core/documents.ts";
import { shardId, windowId } from "../src/core/layout.ts";
import { planShards, type WindowLimits } from "../src/core/planning.ts";
import { RowDigest, type StagedRows, textHashOf } from "../src/core/rows.ts";
import type { RowSpan } from "./chunking/row-columns.ts";
import { DocumentRows } from "./document-rows.ts";
import type { AdmittedDocument, AdmittedItem, TokenisedItem } from "./tokenise.ts";

/** Digest of documents as read, in order, to detect a corpus that changed since it was planned. */
export class SourceDigest {
  readonly #hash: Hash = createHash("sha256");

  add(item: AdmittedItem): void {
    if (item.kind === "reject") this.#field(item.reject.id ?? "").#field(item.reject.reason);
    else this.#field(item.document.id).#hash.update(item.content);
    this.#hash.update(item.kind);
  }

  #field(text: string): this {
    this.#hash.update(`${Buffer.byteLength(text)}:`).update(text, "utf8");
    return this;
  }

  hex(): string {
    return this.#hash.digest("hex");
  }
}

interface Planned {
  readonly id: string;
  readonly content: Uint8Array;
  readonly chunks: number;
}

export interface CutWindow {
  readonly plan: WindowPlan;
  readonly staged: Uint8Array;
  readonly index: Uint8Array;
  readonly rejectLines: Uint8Array | null;
}

export class Window {
  readonly #record: RunRecord;
  readonly #index: number;
  readonly #firstDocument: number;
  readonly #limits: WindowLimits;
  readonly #digest = new SourceDigest();
  readonly #rows = new DocumentRows();
  readonly #rejects: Reject[] = [];
  readonly #planned: Planned[] = [];
  #documents = 0;
  #unchanged = 0;

  constructor(params: Readonly<{ record: RunRecord; index: number; firstDocument: number; limits: WindowLimits }>) {
    this.#record = params.record;
    this.#index = params.index;
    this.#firstDocument = params.firstDocument;
    this.#limits = params.limits;
  }

  get documents(): number {
    return this.#documents;
  }

  get rows(): number {
    return this.#rows.rows;
  }

  get isFull(): boolean {
    const { tokens, rows, documents, textChars } = this.#limits;
    return (
      this.#rows.tokens >= tokens ||
      this.#rows.rows >= rows ||
      this.#documents >= documents ||
      this.#rows.textChars >= textChars
    );
  }

  add(item: TokenisedItem): void {
    if (item.kind === "reject") this.#addReject(item);
    else if (item.kind === "unchanged") this.#addUnchanged(item);
    else this.#addDocument(item, item.rows);
  }

  #addReject(item: SourceItem & { kind: "reject" }): void {
    this.#digest.add(item);
    this.#rejects.push(item.reject);
    this.#documents++;
  }

  #addUnchanged(item: AdmittedDocument): void {
    this.#digest.add(item);
    this.#documents++;
    this.#unchanged++;
  }

  #addDocument(item: AdmittedDocument, rows: RowSpan): void {
    this.#digest.add(item);
    this.#documents++;
    this.#planned.push({ id: item.document.id, content: item.content, chunks: rows.count });
    this.#rows.add(item.document, rows);
  }

  /** Sorts and cuts. The same documents always yield the same bytes. */
  cut(): CutWindow {
    const { version, run, options } = this.#record;
    const isDigested = version === PLAN_VERSION;
    const window = windowId(this.#index);
    const planned = this.#rows.index();
    const layout = planShards({
      lengths: planned.lengths,
      carriedBytes: planned.carriedBytes,
      ...(options.dedupe === true && { firsts: planned.firstsOfTexts() }),
      shape: { dim: options.model.dim, heads: options.heads, vectors: options.vectors },
    });
    const parts: Uint8Array[] = [];
    let stagedBytes = 0;
    const shards = layout.shards.map(({ start, end }, index): ShardPlan => {
      const shard = shardId(window, index);
      const rows = planned.gather(layout.order.subarray(start, end), options.keep);
      const bytes = encodeStagedShard({ run, shard, rows });
      parts.push(bytes);
      stagedBytes += bytes.length;
      return {
        shard,
        rows: rows.ids.length,
        tokens: rows.tokenIds.length,
        longest: rows.offsets[1]!,
        start: stagedBytes - bytes.length,
        end: stagedBytes,
        rowsSha256: digestOf(rows),
        ...(isDigested && { stagedSha256: sha256(bytes) }),
      };
    });
    const index = this.#encodeIndex();
    const rejectLines = toLines(this.#rejects);
    const plan: WindowPlan = {
      version,
      run,
      window,
      firstDocument: this.#firstDocument,
      documents: this.#documents,
      rows: this.#rows.rows,
      tokens: this.#rows.tokens,
      rejects: this.#rejects.length,
      ...(this.#record.lineage?.kind === "delta" && { unchanged: this.#unchanged }),
      sourceSha256: this.#digest.hex(),
      indexSha256: sha256(index),
      ...(isDigested && rejectLines !== null && { rejectsSha256: sha256(rejectLines) }),
      stagedBytes,
      shards,
    };
    return { plan, staged: Buffer.concat(parts), index, rejectLines };
  }

  #encodeIndex(): Uint8Array {
    const contentKeys = new Uint8Array(this.#planned.length * CONTENT_KEY_BYTES);
    this.#planned.forEach(({ content }, i) =>
      contentKeys.set(content.subarray(0, CONTENT_KEY_BYTES), i * CONTENT_KEY_BYTES),
    );
    return encodeDocumentIndex(this.#record.run, {
      ids: this.#planned.map(({ id }) => id),
      contentKeys,
      chunks: Uint32Array.from(this.#planned, ({ chunks }) => chunks),
    });
  }
}

function sha256(bytes: Uint8Array): string {
  return hash("sha256", bytes, "hex");
}

function digestOf(rows: StagedRows): string {
  const digest = new RowDigest();
  rows.ids.forEach((id, row) => digest.add(id, rows.chunks[row]!, textHashOf(rows, row)));
  return digest.hex();
}

function toLines(rejects: readonly Reject[]): Uint8Array | null {
  if (rejects.length === 0) return null;
  return Buffer.from(rejects.map((reject) => `${JSON.stringify(reject)}\n`).join(""));
}
