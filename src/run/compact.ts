/**
 * Compaction: the effective rows of a delta and the runs it builds on, written as a new full run, so that readers have one
 * folder to read and the older runs can be removed. Everything is a function of the chain, so a compaction that was killed
 * is simply repeated.
 */
import { createHash, hash } from "node:crypto";
import { IdSet } from "../disk/id-set.ts";
import { encodeDocumentIndex } from "../arrow/document-index.ts";
import { encodeResults } from "../arrow/results.ts";
import { type PickedRow, selectRows } from "../arrow/select-rows.ts";
import {
  type ClosedRecord,
  PLAN_VERSION,
  type Manifest,
  type RunRecord,
  runIdSchema,
  runRecordSchema,
  type ShardPlan,
  type WindowPlan,
} from "../core/contracts.ts";
import { CONTENT_KEY_BYTES } from "../core/content.ts";
import { FleetError } from "../core/errors.ts";
import { sayHold } from "../core/guards.ts";
import { readRecord, toJsonBytes } from "../core/json.ts";
import { runKeys, shardId, windowId } from "../core/layout.ts";
import { PlanProof } from "../core/plan-proof.ts";
import { SHARD_LIMITS } from "../core/planning.ts";
import type { ObjectStore } from "../core/ports.ts";
import { RowDigest, rowKey, textHashOf } from "../core/rows.ts";
import { type EffectiveRows, readChain, readEffective, walkChain } from "./chain.ts";
import { createSame } from "./create-same.ts";
import { readRejects } from "./inspect-shard.ts";
import { KnownDocuments, type OutdatedDocument } from "./known-documents.ts";
import { readRun } from "./read-plan.ts";
import { readManifest, sealRun } from "./seal.ts";

const SHARDS_PER_WINDOW = 512;
const DOCUMENTS_PER_WINDOW = 262_144;
const REJECTS_PER_WINDOW = 65_536;
const ANOTHER_PROGRAM =
  "another version of embedfleet started it: remove it with `embedfleet gc`, or finish it with that version";

/** Id of the run that a delta is compacted into. @throws FleetError `bad_usage` */
export function compactedId(run: string): string {
  const parsed = runIdSchema.safeParse(`${run}-full`);
  if (parsed.success) return parsed.data;
  throw new FleetError("bad_usage", `run ${run} would be compacted to ${run}-full, which is too long for an id`, {
    cure: "use ids of at most 59 characters for runs that are to be compacted",
  });
}

/**
 * @returns The manifest of the new run, `<run>-full`, sealed. `latest.json` is moved to it if it pointed at the delta.
 * @throws FleetError `bad_usage` for a full run; `run_incomplete`, `object_corrupt` for an invalid chain.
 */
export async function compactRun(
  params: Readonly<{ store: ObjectStore; run: string; onFile?: (done: number, total: number) => void }>,
): Promise<Manifest> {
  const { store, run } = params;
  const sealed = await readManifest(store, compactedId(run));
  if (sealed?.supersedes === run) return sealed;
  const chain = await readChain(store, run);
  if (chain.length === 1) {
    throw new FleetError("bad_usage", `run ${run} is a full run already`, { cure: "pass a run made with --since" });
  }
  const record = await openCompacted(store, run);
  const compaction = new Compaction(store, record, chain, params.onFile ?? (() => {}));
  await compaction.run();
  const outcome = await sealRun({ store, run: record.run, keepStaging: false });
  if (outcome.kind === "sealed") return outcome.manifest;
  const reason = outcome.kind === "open" ? outcome.reason : sayHold(outcome.hold);
  throw new FleetError("run_incomplete", `run ${record.run} cannot be sealed: ${reason}`);
}

async function openCompacted(store: ObjectStore, run: string): Promise<RunRecord> {
  const { inputs, options } = await readRun(store, run);
  const target = compactedId(run);
  const key = runKeys(target).record;
  const record: RunRecord = {
    version: PLAN_VERSION,
    run: target,
    createdAt: new Date().toISOString(),
    inputs,
    options,
    lineage: { kind: "compact", supersedes: run },
  };
  if ((await store.create({ key, body: toJsonBytes(record) })) === "created") return record;
  const found = await readRecord(store, key, runRecordSchema);
  if (found.lineage?.kind === "compact") return found;
  throw new FleetError("run_conflict", `run ${target} exists and was not compacted from ${run}`, {
    cure: "remove or keep that run, and compact a later delta",
  });
}

interface Draft {
  index: { readonly documents: number; readonly sha256: string } | null;
  readonly rejects: string[];
  /** Number of rejects that are documents of the corpus; the others are rows. */
  rejectedDocuments: number;
  readonly shards: ShardPlan[];
}

class Compaction {
  readonly #store: ObjectStore;
  readonly #record: RunRecord;
  readonly #chain: readonly Manifest[];
  readonly #onFile: (done: number, total: number) => void;
  readonly #drafts: Draft[] = [];
  readonly #seen = new IdSet();
  #shards = 0;
  #pending: PickedRow[] = [];
  #pendingBytes = 0;

  constructor(
    store: ObjectStore,
    record: RunRecord,
    chain: readonly Manifest[],
    onFile: (done: number, total: number) => void,
  ) {
    this.#store = store;
    this.#record = record;
    this.#chain = chain;
    this.#onFile = onFile;
  }

  /** Writes the run. The plan is written last, so that everything it refers to exists. */
  async run(): Promise<void> {
    try {
      await this.#copyIndex();
      await this.#copyRejects();
      await this.#copyRows();
      await this.#writePlan();
    } finally {
      this.#seen.close();
    }
  }

  #draft(window: number): Draft {
    return (this.#drafts[window] ??= { index: null, rejects: [], rejectedDocuments: 0, shards: [] });
  }

  async #copyIndex(): Promise<void> {
    const known = await KnownDocuments.load({ store: this.#store, run: this.#chain[0]!.run });
    let window = 0;
    let batch: OutdatedDocument[] = [];
    const flush = async (): Promise<void> => {
      this.#draft(window).index = { documents: batch.length, sha256: await this.#writeIndex(window, batch) };
      window++;
      batch = [];
    };
    try {
      // Nothing was admitted, so `outdated` yields every document of the chain.
      for await (const document of known.outdated()) {
        batch.push(document);
        if (batch.length === DOCUMENTS_PER_WINDOW) await flush();
      }
      await flush();
    } finally {
      known.close();
    }
  }

  async #writeIndex(window: number, documents: readonly OutdatedDocument[]): Promise<string> {
    const { run } = this.#record;
    const contentKeys = new Uint8Array(documents.length * CONTENT_KEY_BYTES);
    documents.forEach(({ contentKey }, i) => contentKeys.set(contentKey, i * CONTENT_KEY_BYTES));
    const body = encodeDocumentIndex(run, {
      ids: documents.map(({ id }) => id),
      contentKeys,
      chunks: Uint32Array.from(documents, ({ chunks }) => chunks),
    });
    await this.#create(runKeys(run).documentIndex(windowId(window)), body);
    return createHash("sha256").update(body).digest("hex");
  }

  /** Copies the newest run's document rejects, because it read the whole corpus, and every run's own row rejects. */
  async #copyRejects(): Promise<void> {
    let count = 0;
    for await (const { manifest, isKept } of walkChain(this.#store, this.#chain)) {
      for (const { key } of manifest.rejects) {
        const ofWorker = !/\/w\d{6}\.jsonl$/.test(key);
        if (!ofWorker && manifest !== this.#chain[0]) continue;
        for (const reject of await readRejects(this.#store, key)) {
          if (ofWorker && !isKept(reject.id ?? "", reject.chunk ?? 0)) continue;
          const draft = this.#draft(Math.floor(count++ / REJECTS_PER_WINDOW));
          draft.rejects.push(`${JSON.stringify(reject)}\n`);
          if (!ofWorker) draft.rejectedDocuments++;
        }
      }
    }
  }

  async #copyRows(): Promise<void> {
    const total = this.#chain.reduce((sum, { files }) => sum + files.length, 0);
    let done = 0;
    for await (const file of readEffective(this.#store, this.#chain)) {
      await this.#takeFile(file);
      this.#onFile(++done, total);
    }
    if (this.#pending.length > 0) await this.#flush();
  }

  async #takeFile({ manifest, shard, rows, kept }: EffectiveRows): Promise<void> {
    if (kept.length === 0) return;
    // A file of which few rows are taken should not be kept in memory for them.
    const isWhole = kept.length === rows.ids.length;
    const from = isWhole ? rows : selectRows(Array.from(kept, (row) => ({ from: rows, row })));
    for (let row = 0; row < kept.length; row++) {
      if (!this.#seen.add(rowKey(from.ids[row]!, from.chunks[row]!))) {
        const name = `id ${JSON.stringify(from.ids[row])}, chunk ${from.chunks[row]}`;
        throw new FleetError(
          "object_corrupt",
          `${name} of shard ${shard} of run ${manifest.run} is in a newer run too`,
        );
      }
      const bytes = bytesOf({ from, row });
      const isFull =
        this.#pending.length === SHARD_LIMITS.rows || this.#pendingBytes + bytes > SHARD_LIMITS.outputBytes;
      if (isFull && this.#pending.length > 0) await this.#flush();
      this.#pending.push({ from, row });
      this.#pendingBytes += bytes;
    }
  }

  async #flush(): Promise<void> {
    const { run, options } = this.#record;
    const window = Math.floor(this.#shards / SHARDS_PER_WINDOW);
    const shard = shardId(windowId(window), this.#shards++ % SHARDS_PER_WINDOW);
    const tokensOf = ({ from, row }: PickedRow): number => from.tokenCounts[row]!;
    const rows = selectRows(this.#pending.sort((a, b) => tokensOf(b) - tokensOf(a)));
    this.#pending = [];
    this.#pendingBytes = 0;
    const digest = new RowDigest();
    rows.ids.forEach((id, row) => digest.add(id, rows.chunks[row]!, textHashOf(rows, row)));
    const tokens = rows.tokenCounts.reduce((sum, count) => sum + count, 0);
    this.#draft(window).shards.push({
      shard,
      rows: rows.ids.length,
      tokens,
      longest: rows.tokenCounts[0]!,
      // Nothing is staged: these rows have their vectors and are never queued.
      start: 0,
      end: 1,
      rowsSha256: digest.hex(),
    });
    const key = runKeys(run).data(shard);
    if ((await this.#store.stat({ key })) !== null) return;
    const cost = { realTokens: tokens, paddedTokens: 0, batches: 0, deviceMs: 0, idleMs: 0, idle: {} };
    const stats = { rows: rows.ids.length, rejects: 0, ...cost };
    await this.#store.create({ key, body: encodeResults(rows, { run, shard, options, stats, rejectsKey: null }) });
  }

  async #writePlan(): Promise<void> {
    const { run } = this.#record;
    const keys = runKeys(run);
    const proof = new PlanProof();
    for (const [index, draft] of this.#drafts.entries()) {
      const plan = await this.#planOf(index, draft, proof.totals.documents);
      if (draft.rejects.length > 0) await this.#create(keys.windowRejects(plan.window), rejectBytes(draft));
      const bytes = toJsonBytes(plan);
      await this.#create(keys.plan(plan.window), bytes);
      proof.add(plan, bytes);
    }
    const closed: ClosedRecord = { version: PLAN_VERSION, run, ...proof.totals, plansSha256: proof.plansSha256 };
    await this.#create(keys.closed, toJsonBytes(closed));
  }

  async #planOf(index: number, draft: Draft, firstDocument: number): Promise<WindowPlan> {
    const { shards, rejects } = draft;
    const documents = draft.index ?? { documents: 0, sha256: await this.#writeIndex(index, []) };
    const source = createHash("sha256");
    for (const { rowsSha256 } of shards) source.update(rowsSha256);
    return {
      version: PLAN_VERSION,
      run: this.#record.run,
      window: windowId(index),
      firstDocument,
      documents: documents.documents + draft.rejectedDocuments,
      rows: shards.reduce((sum, { rows }) => sum + rows, 0),
      tokens: shards.reduce((sum, { tokens }) => sum + tokens, 0),
      rejects: rejects.length,
      sourceSha256: source.digest("hex"),
      indexSha256: documents.sha256,
      ...(rejects.length > 0 && { rejectsSha256: hash("sha256", rejectBytes(draft), "hex") }),
      stagedBytes: 0,
      shards,
    };
  }

  #create(key: string, body: Uint8Array): Promise<void> {
    return createSame(this.#store, { key, body, cure: ANOTHER_PROGRAM });
  }
}

function rejectBytes({ rejects }: Draft): Uint8Array {
  return Buffer.from(rejects.join(""));
}

/** Bytes of a row in a result file. */
function bytesOf({ from, row }: PickedRow): number {
  const { dim, dense, sparse, colbert, texts } = from;
  let bytes = from.ids[row]!.length + 56;
  if (dense !== null) bytes += dim * 4;
  if (sparse !== null) bytes += (sparse.offsets[row + 1]! - sparse.offsets[row]!) * 8;
  if (colbert !== null) bytes += (colbert.offsets[row + 1]! - colbert.offsets[row]!) * dim * 4;
  if (texts !== null) bytes += Buffer.byteLength(texts[row]!);
  return bytes;
}
