/**
 * Reads a corpus, writes the plan window by window and queues its shards. Every object is created
 * once and is the same for the same corpus and options, so a producer may be killed anywhere and run
 * again, or run twice at the same time.
 */
import { createHash } from "node:crypto";
import { encodeDeletes } from "../src/arrow/document-index.ts";
import { contentHash } from "../src/core/content.ts";
import {
  type ClosedRecord,
  closedRecordSchema,
  type DeletesFile,
  PLAN_VERSION,
  type Reject,
  type RunRecord,
  type WindowPlan,
} from "../src/core/contracts.ts";
import { type Origin, rejectAt, type SourceItem } from "../src/core/documents.ts";
import { FleetError } from "../src/core/errors.ts";
import { toJsonBytes } from "../src/core/json.ts";
import { runKeys } from "../src/core/layout.ts";
import { PlanProof } from "../src/core/plan-proof.ts";
import { jobOf, type WindowLimits, windowLimits } from "../src/core/planning.ts";
import type { JobQueue, ObjectStore, Tokenizer } from "../src/core/ports.ts";
import { type Observe, unobserved } from "../src/core/telemetry.ts";
import { assertNotCancelled } from "../src/run/cancelled.ts";
import { createSame } from "../src/run/create-same.ts";
import { assertSettled, settleRun } from "../src/run/open-run.ts";
import { listData, readClosed, readWindow, type StoredPlan } from "../src/run/read-plan.ts";
import { type Chunker, LocalChunker } from "./chunking/chunker.ts";
import { type Admission, openAdmission } from "./admission.ts";
import { findLost, objectsOf, proveClosed, proveWritten } from "./read-back.ts";
import type { ReadItem } from "./parts/read-parts.ts";
import { type AdmittedItem, tokenise } from "./tokenise.ts";
import { type CutWindow, SourceDigest, Window } from "./window.ts";

const SHOWN_REJECTS = 3;
const NEW_RUN = "the corpus or the program changed since: use another --run id";

/** Totals of the windows planned so far. */
export interface ProduceProgress {
  readonly documents: number;
  readonly rows: number;
  readonly rejects: number;
}

interface CommonParams {
  readonly store: ObjectStore;
  readonly queue: JobQueue;
  readonly record: RunRecord;
  readonly items: AsyncIterable<ReadItem>;
  /** Maximum number of rejects; null for no limit. */
  readonly maxRejects: number | null;
  /** Waits until the queue has room for a window's jobs. */
  readonly untilRoom?: (params: Readonly<{ jobs: number; signal?: AbortSignal | undefined }>) => Promise<void>;
  /** Size limits of windows, `windowLimits` by default: the same for all producers of a run. */
  readonly limitsOf?: (window: number) => WindowLimits;
  /** Called after every window. */
  readonly onProgress?: (progress: ProduceProgress) => void;
  /** Called at the end if characters were replaced in texts, with their number and that of the documents. */
  readonly onCleaned?: (cleaned: Readonly<{ documents: number; characters: number }>) => void;
  /** Observes what was tokenised, planned and rejected; none by default. */
  readonly observe?: Observe;
  /** Stops planning between documents; planned windows are kept and the next run continues from there. */
  readonly signal?: AbortSignal;
}

/**
 * Dependencies of a producer. Documents are cut on this thread, or by the chunker on others; every chunker makes
 * the same chunks.
 */
export type ProduceParams = CommonParams & ({ readonly tokenizer: Tokenizer } | { readonly chunker: Chunker });

/**
 * Plans and queues a run's documents window by window, and continues after the windows that are already planned.
 *
 * @throws FleetError `run_conflict`, `run_cancelled`, `too_many_rejects` and errors of store and queue.
 */
export async function produce(params: ProduceParams): Promise<ClosedRecord> {
  const admission = await openAdmission(params);
  try {
    return await new Producer(params, admission).run();
  } finally {
    admission.close();
  }
}

class Producer {
  readonly #params: ProduceParams;
  readonly #observe: Observe;
  readonly #admission: Admission;
  readonly #source: AsyncGenerator<AdmittedItem>;
  readonly #chunker: Chunker;
  readonly #proof = new PlanProof();
  #unchanged = 0;
  /** The run's record once its options are fixed. */
  #settled: RunRecord | null = null;
  /** Number of windows in the store that an earlier producer planned. */
  #replayed = 0;

  constructor(params: ProduceParams, admission: Admission) {
    this.#params = params;
    this.#observe = params.observe ?? unobserved;
    this.#admission = admission;
    this.#source = this.#admitted();
    this.#chunker = cutterOf(params);
  }

  async run(): Promise<ClosedRecord> {
    try {
      return await this.#planAll();
    } finally {
      await this.#source.return(undefined);
    }
  }

  async #planAll(): Promise<ClosedRecord> {
    const { store, record } = this.#params;
    const before = await readClosed(store, record.run);
    await this.#replay(before);
    if (this.#replayed !== before?.windows) await this.#planRest(before);
    else if ((await this.#source.next()).done !== true) throw this.#goesOn();
    // A corpus without a document has no window.
    await this.#settle();
    const deletes = record.lineage?.kind === "delta" ? await this.#listGone() : undefined;
    await proveWritten(store, { run: record.run, proof: this.#proof, from: this.#replayed, deletes });
    const closed: ClosedRecord = {
      version: record.version,
      run: record.run,
      ...this.#proof.totals,
      ...(record.version === PLAN_VERSION && { plansSha256: this.#proof.plansSha256 }),
      ...(deletes !== undefined && { unchanged: this.#unchanged, deletes }),
      // Runs of earlier versions have no base, and an earlier producer may have closed the plan.
      ...(deletes !== undefined && record.guards !== undefined && { base: this.#admission.base }),
    };
    await this.#createSame(runKeys(record.run).closed, toJsonBytes(closedRecordSchema.parse(closed)));
    await proveClosed(store, closed);
    return closed;
  }

  /** The documents, each id once, those in the base marked as such, subject to the limit on rejects. */
  async *#admitted(): AsyncGenerator<AdmittedItem> {
    const { items, maxRejects, signal } = this.#params;
    const examples: Reject[] = [];
    let rejects = 0;
    const cleaned = { documents: 0, characters: 0 };
    for await (const item of items) {
      signal?.throwIfAborted();
      if (item.kind === "document" && item.replaced !== undefined) {
        cleaned.documents++;
        cleaned.characters += item.replaced;
      }
      const admitted = item.kind === "document" ? this.#admit(item) : item;
      if (admitted.kind === "reject") {
        rejects++;
        if (admitted.reject.id !== null) this.#admission.keep(admitted.reject.id);
        this.#observe({ kind: "rejects", reason: admitted.reject.reason, count: 1 });
        if (examples.length < SHOWN_REJECTS) examples.push(admitted.reject);
        if (maxRejects !== null && rejects > maxRejects) throw tooManyRejects(examples, maxRejects);
      }
      yield admitted;
    }
    if (cleaned.documents > 0) this.#params.onCleaned?.(cleaned);
  }

  #admit(item: ReadItem & { kind: "document" }): AdmittedItem {
    const content = item.content ?? contentHash(item.document);
    const { id, origin } = item.document;
    const admission = this.#admission.admit(id, content, origin);
    if (admission === "duplicate") return duplicate(item, this.#admission.firstOf(id));
    const { document, rows } = item;
    if (admission === "unchanged") return { kind: "unchanged", document, content };
    return { kind: "document", document, content, ...(rows !== undefined && { rows }) };
  }

  /**
   * Reads past the windows planned before, proves that they match, and queues missing jobs. Windows are found by
   * name: planning continues at the first missing one, and rewrites those after it, identical to the byte.
   */
  async #replay(before: ClosedRecord | null): Promise<void> {
    const { store, queue, record } = this.#params;
    const done = await listData(store, record.run);
    const windows = before?.windows ?? Number.POSITIVE_INFINITY;
    for (let index = 0; index < windows; index++) {
      const found = await readWindow(store, record.run, index);
      if (found === null) return;
      const missing = found.plan.shards.filter(({ shard }) => !done.has(runKeys(record.run).data(shard)));
      const lost = await findLost(store, { plan: found.plan, needsStaged: missing.length > 0 });
      if (lost.length > 0) await this.#cutAgain(found, lost);
      else await this.#readPast(found.plan);
      await queue.enqueue({ jobs: missing.map((shard) => jobOf(record.run, shard)) });
      this.#count(found);
      this.#replayed++;
    }
  }

  async #readPast(plan: WindowPlan): Promise<void> {
    const digest = new SourceDigest();
    for await (const item of this.#documentsOf(plan)) digest.add(item);
    if (digest.hex() !== plan.sourceSha256) throw this.#isAnother(plan);
  }

  /** Recreates objects of a planned window that are missing in the store from its documents. */
  async #cutAgain({ plan, bytes }: StoredPlan, lost: readonly string[]): Promise<void> {
    const window = this.#newWindow();
    for await (const batch of tokenise(this.#documentsOf(plan), { chunker: this.#chunker, observe: this.#observe }))
      for (const item of batch) window.add(item);
    const cut = window.cut();
    if (Buffer.compare(toJsonBytes(cut.plan), bytes) !== 0) throw this.#isAnother(plan);
    for (const [key, body] of objectsOf(cut)) if (lost.includes(key)) await this.#createSame(key, body);
  }

  async *#documentsOf(plan: WindowPlan): AsyncGenerator<AdmittedItem> {
    for (let document = 0; document < plan.documents; document++) {
      const next = await this.#source.next();
      if (next.done === true) {
        throw this.#conflict(
          `the corpus ends after ${plan.firstDocument + document} documents; window ${plan.window} of run ${plan.run} was planned to document ${plan.firstDocument + plan.documents}`,
        );
      }
      yield next.value;
    }
  }

  #isAnother({ run, window, firstDocument, documents }: WindowPlan): FleetError {
    return this.#conflict(
      `documents ${firstDocument + 1} to ${firstDocument + documents} of the corpus are not those that window ${window} of run ${run} was planned from`,
    );
  }

  #goesOn(): FleetError {
    const { documents } = this.#proof.totals;
    return this.#conflict(
      `the corpus continues after the ${documents} documents that run ${this.#params.record.run} has planned`,
    );
  }

  /** Plans the rest: while one window is written the next is read, but no further. */
  async #planRest(before: ClosedRecord | null): Promise<void> {
    let window = this.#newWindow();
    const writer = new Background();
    const flush = async (): Promise<void> => {
      await writer.idle();
      if (before !== null && this.#proof.totals.windows === before.windows) throw this.#goesOn();
      const cut = window.cut();
      window = this.#newWindow(cut.plan);
      writer.begin(() => this.#write(cut));
    };
    try {
      for await (const batch of tokenise(this.#source, { chunker: this.#chunker, observe: this.#observe })) {
        writer.assertWell();
        for (const item of batch) {
          window.add(item);
          if (window.isFull) await flush();
        }
      }
      if (window.documents > 0) await flush();
    } finally {
      await writer.idle();
    }
  }

  /** @param before Window that is not counted yet. */
  #newWindow(before?: WindowPlan): Window {
    const index = this.#proof.totals.windows + (before === undefined ? 0 : 1);
    const firstDocument = this.#proof.totals.documents + (before?.documents ?? 0);
    const { record, limitsOf = windowLimits } = this.#params;
    return new Window({ record, index, firstDocument, limits: limitsOf(index) });
  }

  /** Writes the plan after the objects it refers to, and queues it afterwards; waits for room before it writes. */
  async #write(cut: CutWindow): Promise<void> {
    const { plan } = cut;
    const { store, queue, record, signal } = this.#params;
    await this.#params.untilRoom?.({ jobs: plan.shards.length, signal });
    await assertNotCancelled(store, record.run);
    const isFirst = await this.#settle();
    for (const [key, body] of objectsOf(cut)) await this.#createSame(key, body);
    if (isFirst) await assertSettled(store, this.#settled!);
    const bytes = toJsonBytes(plan);
    await this.#createSame(runKeys(record.run).plan(plan.window), bytes);
    await queue.enqueue({ jobs: plan.shards.map((shard) => jobOf(record.run, shard)) });
    const { run, documents, rows, tokens, shards } = plan;
    this.#observe({ kind: "window", run, documents, rows, tokens, shards: shards.length });
    this.#count({ plan, bytes });
  }

  /** Fixes the run's options before anything is written that depends on them. @returns Whether this call did it. */
  async #settle(): Promise<boolean> {
    if (this.#settled !== null) return false;
    this.#settled = await settleRun(this.#params.store, this.#params.record);
    return this.#params.record.unplanned !== undefined;
  }

  #count({ plan, bytes }: StoredPlan): void {
    const fault = this.#proof.add(plan, bytes);
    if (fault !== null) throw this.#conflict(`the plan of ${plan.window} of run ${plan.run} is damaged: ${fault}`);
    this.#unchanged += plan.unchanged ?? 0;
    this.#params.onProgress?.(this.#proof.totals);
  }

  /** Lists the removed rows of the base in the store. */
  async #listGone(): Promise<DeletesFile[]> {
    const { run } = this.#params.record;
    const files: DeletesFile[] = [];
    for await (const rows of this.#admission.gone()) {
      const key = runKeys(run).deletes(files.length);
      const body = encodeDeletes(run, rows);
      await this.#createSame(key, body);
      const sha256 = createHash("sha256").update(body).digest("hex");
      files.push({ key, rows: rows.ids.length, bytes: body.length, sha256 });
    }
    return files;
  }

  async #createSame(key: string, body: Uint8Array): Promise<void> {
    await createSame(this.#params.store, { key, body, cure: NEW_RUN });
  }

  #conflict(message: string): FleetError {
    return new FleetError("run_conflict", message, { cure: NEW_RUN });
  }
}

/** One background task; its error is rethrown to the caller. */
class Background {
  #work = Promise.resolve();
  #fault: { readonly error: unknown } | null = null;

  /** Starts a task; only when idle. */
  begin(work: () => Promise<void>): void {
    this.#work = work().catch((error: unknown) => void (this.#fault = { error }));
  }

  /** @throws The task's error, once it is known. */
  assertWell(): void {
    if (this.#fault !== null) throw this.#fault.error;
  }

  /** Waits for the task's end. @throws Its error. */
  async idle(): Promise<void> {
    await this.#work;
    this.assertWell();
  }
}

function cutterOf(params: ProduceParams): Chunker {
  if ("chunker" in params) return params.chunker;
  return new LocalChunker({ tokenizer: params.tokenizer, options: params.record.options });
}

function duplicate(
  { document }: SourceItem & { kind: "document" },
  first: Origin | null,
): SourceItem & { kind: "reject" } {
  const line = first?.line === undefined ? "" : `:${first.line}`;
  const place = first === null ? "" : `, at ${first.file}${line}`;
  const detail = `a document with this id came before it${place}; the first one is kept`;
  return { kind: "reject", reject: rejectAt(document.origin, "duplicate_id", detail, document.id) };
}

function tooManyRejects(examples: readonly Reject[], limit: number): FleetError {
  const shown = examples.map(
    ({ file, line, reason, detail }) => `${file}${line === undefined ? "" : `:${line}`}: ${reason}, ${detail}`,
  );
  const found =
    limit === 0
      ? "a document was rejected, which --strict does not allow"
      : `${limit + 1} documents were rejected and --max-rejects is ${limit}; the first`;
  return new FleetError("too_many_rejects", `${found}: ${shown.join("; ")}`, {
    cure: "fix the corpus, or omit --strict or raise --max-rejects, and run the same command again to continue",
  });
}
