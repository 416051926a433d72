/** Reads, tokenises, cuts and hashes one part of a corpus into the store, on the machine that took its job. */
import { contentHash } from "../../src/core/content.ts";
import type { RunRecord } from "../../src/core/contracts.ts";
import { type FleetError, hasCode } from "../../src/core/errors.ts";
import type { PartJob } from "../../src/core/ingest.ts";
import { toJsonBytes } from "../../src/core/json.ts";
import { runKeys } from "../../src/core/layout.ts";
import type { ObjectStore } from "../../src/core/ports.ts";
import type { Observe } from "../../src/core/telemetry.ts";
import { createSame } from "../../src/run/create-same.ts";
import type { Chunker } from "../chunking/chunker.ts";
import { DocumentRows } from "../document-rows.ts";
import { partOf } from "./part-job.ts";
import { encodePiece } from "./part-piece.ts";
import type { PartEnd } from "./read-parts.ts";
import { type OpenPlace, readPart } from "./parts.ts";
import type { CorpusPart } from "./sections.ts";
import { type AdmittedItem, tokenise, type TokenisedItem } from "../tokenise.ts";

/** Limits of a piece, which is held in memory completely: it ends with the item that reaches one. */
const PIECE_TOKENS = 4 * 1024 * 1024;
const PIECE_ITEMS = 65_536;
const PIECE_CHARS = 64 * 1024 * 1024;
const OTHERWISE_READ =
  "this part was read differently before, by another version or from a failing disk: remove the object, and run enqueue again with the same --run id";

export interface PartTools {
  readonly store: ObjectStore;
  readonly record: RunRecord;
  readonly chunker: Chunker;
  readonly open: OpenPlace;
  readonly observe: Observe;
}

/**
 * Stages the part's pieces, each created once and identical on every machine, so a part may be restarted anywhere.
 *
 * @throws FleetError `job_invalid` for a part that is not of the run's corpus, `run_conflict` for existing pieces that
 *   differ; errors of reading and of the store
 */
export async function makePart(job: PartJob, tools: PartTools, signal: AbortSignal): Promise<void> {
  const { store, record } = tools;
  const keys = runKeys(record.run);
  const part = await partOf(job, tools);
  if ((await store.stat({ key: keys.partDone(job.part) })) !== null) return;
  const reached = { line: 0 };
  const outcome: { fault?: FleetError } = {};
  let pieces = 0;
  let filled = { items: [] as TokenisedItem[], rows: new DocumentRows() };
  const put = async (isLast: boolean): Promise<void> => {
    const end: PartEnd | null = isLast && part.range !== null ? { lines: reached.line, ...outcome } : null;
    const piece = { run: record.run, part: job.part, piece: pieces, isLast, ...filled, end };
    filled = { items: [], rows: new DocumentRows() };
    const key = keys.partPiece(job.part, pieces++);
    await createSame(store, { key, body: encodePiece(piece, record.options.keep), cure: OTHERWISE_READ });
  };
  for await (const batch of tokenise(documentsOf(part, tools, reached, outcome), tools)) {
    signal.throwIfAborted();
    for (const item of batch) {
      filled.items.push(item);
      if (item.kind === "document") filled.rows.add(item.document, item.rows);
      if (isFull(filled.items.length, filled.rows)) await put(false);
    }
  }
  await put(true);
  await store.create({ key: keys.partDone(job.part), body: toJsonBytes({ pieces }) });
}

function isFull(items: number, { tokens, textChars }: DocumentRows): boolean {
  return items >= PIECE_ITEMS || tokens >= PIECE_TOKENS || textChars >= PIECE_CHARS;
}

/** An error ends a range and is recorded with it: the process that joins the parts knows the line. */
async function* documentsOf(
  part: CorpusPart,
  tools: PartTools,
  reached: { line: number },
  outcome: { fault?: FleetError },
): AsyncGenerator<AdmittedItem> {
  const { open, record } = tools;
  try {
    for await (const item of readPart({ part, options: record.options, open, reached })) {
      yield item.kind === "reject" ? item : { ...item, content: contentHash(item.document) };
    }
  } catch (error) {
    if (part.range === null || !isOfObject(error)) throw error;
    outcome.fault = error;
  }
}

function isOfObject(error: unknown): error is FleetError {
  return hasCode(error, "source_unreadable") || hasCode(error, "source_missing");
}
