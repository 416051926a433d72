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
  CONTRACT_VERSION,
  type DeletesFile,
  type Reject,
  type RunRecord,
  type WindowPlan,
} from "../src/core/contracts.ts";
import { rejectAt, type SourceItem } from "../src/core/documents.ts";
import { FleetError } from "../src/core/errors.ts";
import { toJsonBytes } from "../src/core/json.ts";
import { runKeys, windowId } from "../src/core/layout.ts";
import { jobOf, windowLimits } from "../src/core/planning.ts";
import type { JobQueue, ObjectStore, Tokenizer } from "../src/core/ports.ts";
import { type Observe, unobserved } from "../src/core/telemetry.ts";
import { assertNotCancelled } from "../src/run/cancelled.ts";
import { createSame } from "../src/run/create-same.ts";
import { listData, readClosed, readWindows } from "../src/run/read-plan.ts";
import { type Cutter, LocalCutter } from "./cutter.ts";
import { type Ledger, openLedger } from "./ledger.ts";
import type { ReadItem } from "./read-parts.ts";
import { type AdmittedItem, tokenise } from "./tokenise.ts";
import { type CutWindow, SourceDigest, Window } from "./window.ts";

const SHOWN_REJECTS = 3;
const NEW_RUN = "the corpus or the program changed since: use another --run id";

/** What has been planned so far. */
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
  /** Null for no limit. */
  readonly maxRejects: number | null;
  /** Waits until the queue has room for a window's jobs. */
  readonly untilRoom?: (params: Readonly<{ jobs: number; signal?: AbortSignal | undefined }>) => Promise<void>;
  /** Told after every window. */
  readonly onProgress?: (progress: ProduceProgress) => void;
  /** Told of what was tokenised, planned and rejected; nobody by default. */
  readonly observe?: Observe;
  /** Stops between documents; what was planned stays and the next run goes on from there. */
  readonly signal?: AbortSignal;
}

/**
 * What a producer works with. Documents are cut on this thread, or wherever the cutter does it; every cutter makes
 * the same chunks.
 */
export type ProduceParams = CommonParams & ({ readonly tokenizer: Tokenizer } | { readonly cutter: Cutter });

/**
 * Plans and queues a run's documents window by window, and goes on from the windows that are planned already.
 *
 * @throws FleetError `run_conflict`, `run_cancelled`, `too_many_rejects` and whatever store and queue throw.
 */
export async function produce(params: ProduceParams): Promise<ClosedRecord> {
  const ledger = await openLedger(params);
  try {
    return await new Producer(params, ledger).run();
  } finally {
    ledger.close();
  }
}

class Producer {
  readonly #params: ProduceParams;
  readonly #observe: Observe;
  readonly #ledger: Ledger;
  readonly #source: AsyncGenerator<AdmittedItem>;
  readonly #totals = { windows: 0, documents: 0, rows: 0, tokens: 0, shards: 0, rejects: 0 };
  #unchanged = 0;

  constructor(params: ProduceParams, ledger: Ledger) {
    this.#params = params;
    this.#observe = params.observe ?? unobserved;
    this.#ledger = ledger;
    this.#source = this.#admitted();
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
    await this.#replay();
    if (before === null) await this.#planRest();
    else if ((await this.#source.next()).done !== true) {
      throw this.#conflict(
        `the corpus goes on after the ${this.#totals.documents} documents that run ${record.run} has planned`,
      );
    }
    const closed: ClosedRecord = {
      version: CONTRACT_VERSION,
      run: record.run,
      ...this.#totals,
      ...(record.lineage?.kind === "delta" && { unchanged: this.#unchanged, deletes: await this.#listGone() }),
    };
    await this.#createSame(runKeys(record.run).closed, toJsonBytes(closedRecordSchema.parse(closed)));
    return closed;
  }

  /** The documents, each id once, those that the base holds marked as such, with the limit on rejects. */
  async *#admitted(): AsyncGenerator<AdmittedItem> {
    const { items, maxRejects, signal } = this.#params;
    const examples: Reject[] = [];
    let rejects = 0;
    for await (const item of items) {
      signal?.throwIfAborted();
      const admitted = item.kind === "document" ? this.#admit(item) : item;
      if (admitted.kind === "reject") {
        rejects++;
        this.#observe({ kind: "rejects", reason: admitted.reject.reason, count: 1 });
        if (examples.length < SHOWN_REJECTS) examples.push(admitted.reject);
        if (maxRejects !== null && rejects > maxRejects) throw tooManyRejects(examples, maxRejects);
      }
      yield admitted;
    }
  }

  #admit(item: ReadItem & { kind: "document" }): AdmittedItem {
    const content = item.content ?? contentHash(item.document);
    const admission = this.#ledger.admit(item.document.id, content);
    if (admission === "duplicate") return duplicate(item);
    if (admission === "unchanged") return { kind: "unchanged", document: item.document, content };
    return { ...item, content };
  }

  /** Reads past the windows planned before, proves that they are the same, and queues what they lack. */
  async #replay(): Promise<void> {
    const { store, queue, record } = this.#params;
    const done = await listData(store, record.run);
    for await (const plan of readWindows(store, record.run)) {
      await this.#readPast(plan);
      const missing = plan.shards.filter(({ shard }) => !done.has(runKeys(record.run).data(shard)));
      await queue.enqueue({ jobs: missing.map((shard) => jobOf(record.run, shard)) });
      this.#count(plan);
    }
  }

  async #readPast(plan: WindowPlan): Promise<void> {
    const digest = new SourceDigest();
    if (plan.window !== windowId(this.#totals.windows)) {
      throw this.#conflict(
        `the plan of run ${plan.run} has ${plan.window} where ${windowId(this.#totals.windows)} was expected`,
      );
    }
    for (let document = 0; document < plan.documents; document++) {
      const next = await this.#source.next();
      if (next.done === true) {
        throw this.#conflict(
          `the corpus ends after ${plan.firstDocument + document} documents; window ${plan.window} of run ${plan.run} was planned to document ${plan.firstDocument + plan.documents}`,
        );
      }
      digest.add(next.value);
    }
    if (digest.hex() !== plan.sourceSha256) {
      throw this.#conflict(
        `documents ${plan.firstDocument + 1} to ${plan.firstDocument + plan.documents} of the corpus are not those that window ${plan.window} of run ${plan.run} was planned from`,
      );
    }
  }

  /** While one window is written the next is read, and no further. */
  async #planRest(): Promise<void> {
    const cutter = cutterOf(this.#params);
    let window = this.#newWindow();
    const writer = new Background();
    const flush = async (): Promise<void> => {
      await writer.idle();
      const cut = window.cut();
      window = this.#newWindow(cut.plan);
      writer.begin(() => this.#write(cut));
    };
    try {
      for await (const item of tokenise(this.#source, { cutter, observe: this.#observe })) {
        writer.assertWell();
        if (item.kind === "reject") window.addReject(item);
        else if (item.kind === "unchanged") window.addUnchanged(item);
        else window.addDocument(item, item.chunks);
        if (window.isFull) await flush();
      }
      if (window.documents > 0) await flush();
    } finally {
      await writer.idle();
    }
  }

  /** @param before Not counted yet. */
  #newWindow(before?: WindowPlan): Window {
    const index = this.#totals.windows + (before === undefined ? 0 : 1);
    const firstDocument = this.#totals.documents + (before?.documents ?? 0);
    return new Window({ record: this.#params.record, index, firstDocument, limits: windowLimits(index) });
  }

  /** The plan is written after what it points at, and queued after it is written: nothing of it while there is no room. */
  async #write({ plan, staged, index, rejectLines }: CutWindow): Promise<void> {
    const { store, queue, record, signal } = this.#params;
    const keys = runKeys(record.run);
    await this.#params.untilRoom?.({ jobs: plan.shards.length, signal });
    await assertNotCancelled(store, record.run);
    await this.#createSame(keys.staged(plan.window), staged);
    await this.#createSame(keys.documentIndex(plan.window), index);
    if (rejectLines !== null) await this.#createSame(keys.windowRejects(plan.window), rejectLines);
    await this.#createSame(keys.plan(plan.window), toJsonBytes(plan));
    await queue.enqueue({ jobs: plan.shards.map((shard) => jobOf(record.run, shard)) });
    const { run, documents, rows, tokens, shards } = plan;
    this.#observe({ kind: "window", run, documents, rows, tokens, shards: shards.length });
    this.#count(plan);
  }

  #count(plan: WindowPlan): void {
    this.#totals.windows++;
    this.#totals.documents += plan.documents;
    this.#totals.rows += plan.rows;
    this.#totals.tokens += plan.tokens;
    this.#totals.shards += plan.shards.length;
    this.#totals.rejects += plan.rejects;
    this.#unchanged += plan.unchanged ?? 0;
    this.#params.onProgress?.(this.#totals);
  }

  /** Writes down which rows of the base are no more. */
  async #listGone(): Promise<DeletesFile[]> {
    const { run } = this.#params.record;
    const files: DeletesFile[] = [];
    for await (const rows of this.#ledger.gone()) {
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

/** One piece of work beside the caller's own; its fault is the caller's. */
class Background {
  #work = Promise.resolve();
  #fault: { readonly error: unknown } | null = null;

  /** Only when idle. */
  begin(work: () => Promise<void>): void {
    this.#work = work().catch((error: unknown) => void (this.#fault = { error }));
  }

  /** @throws the work's fault, as soon as it is known */
  assertWell(): void {
    if (this.#fault !== null) throw this.#fault.error;
  }

  /** Waits for the work's end. @throws its fault */
  async idle(): Promise<void> {
    await this.#work;
    this.assertWell();
  }
}

function cutterOf(params: ProduceParams): Cutter {
  if ("cutter" in params) return params.cutter;
  return new LocalCutter({ tokenizer: params.tokenizer, options: params.record.options });
}

function duplicate({ document }: SourceItem & { kind: "document" }): SourceItem & { kind: "reject" } {
  const detail = "a document with this id came before it; the first one is kept";
  return { kind: "reject", reject: rejectAt(document.origin, "duplicate_id", detail, document.id) };
}

function tooManyRejects(examples: readonly Reject[], limit: number): FleetError {
  const shown = examples.map(
    ({ file, line, reason, detail }) => `${file}${line === undefined ? "" : `:${line}`}: ${reason}, ${detail}`,
  );
  const found =
    limit === 0
      ? "a document was rejected and none may be (--strict)"
      : `${limit + 1} documents were rejected and --max-rejects is ${limit}; the first`;
  return new FleetError("too_many_rejects", `${found}: ${shown.join("; ")}`, {
    cure: "mend the corpus, or leave --strict out or raise --max-rejects, and run the same command again to continue",
  });
}
