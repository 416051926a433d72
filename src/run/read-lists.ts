/** The lists of a run that a later run builds on: its documents, and the rows it deletes. */
import { createHash } from "node:crypto";
import { decodeDeletes, decodeDocumentIndex, type DeletedRows, type DocumentIndex } from "../arrow/document-index.ts";
import {
  type ClosedRecord,
  type Manifest,
  MAX_DATA_FILE_BYTES,
  type Reject,
  type WindowPlan,
} from "../core/contracts.ts";
import { FleetError } from "../core/errors.ts";
import { runKeys } from "../core/layout.ts";
import type { ObjectStore } from "../core/ports.ts";
import { parseRejects, readRejects } from "./inspect-shard.ts";
import { readWindows } from "./read-plan.ts";

/** Names from `runKeys`: of a window, or of an attempt at a shard. */
const REJECTS_NAME = /^w\d{6}(?:-s\d{4}\.[0-9a-f]+)?\.jsonl$/;

/**
 * The document index of a run, window by window.
 * @param closed Null while its corpus is being read.
 * @throws FleetError `plan_invalid`, `object_corrupt`, `object_missing`
 */
export async function* readDocumentIndex(
  store: ObjectStore,
  run: string,
  closed: ClosedRecord | null,
): AsyncGenerator<DocumentIndex> {
  for await (const { window, indexSha256 } of readWindows(store, run, closed)) {
    if (indexSha256 === undefined) continue;
    const bytes = await readSame(store, { key: runKeys(run).documentIndex(window), sha256: indexSha256 });
    yield decodeDocumentIndex(run, bytes);
  }
}

/**
 * Documents that producers refused, for each window that has some; their number is checked against the plan.
 * @throws FleetError `plan_invalid`, `object_corrupt`, `object_missing`
 */
export async function* readWindowRejects(
  store: ObjectStore,
  run: string,
  closed: ClosedRecord | null,
): AsyncGenerator<readonly Reject[]> {
  for await (const plan of readWindows(store, run, closed)) {
    if (plan.rejects > 0) yield await readRejectsOf(store, run, plan);
  }
}

async function readRejectsOf(store: ObjectStore, run: string, plan: WindowPlan): Promise<Reject[]> {
  const key = runKeys(run).windowRejects(plan.window);
  const bytes =
    plan.rejectsSha256 === undefined
      ? await store.read({ key, maxBytes: MAX_DATA_FILE_BYTES })
      : await readSame(store, { key, sha256: plan.rejectsSha256 });
  const rejects = parseRejects(bytes, `${store.url}/${key}`);
  if (rejects.length === plan.rejects) return rejects;
  const found = `${key} has ${rejects.length} rejects where ${plan.rejects} were planned`;
  throw new FleetError("object_corrupt", found);
}

/** Every reject file in the listing, those of losing attempts included, one at a time. Other objects are ignored. */
export async function* listRejects(store: ObjectStore, run: string): AsyncGenerator<readonly Reject[]> {
  const { rejectsPrefix } = runKeys(run);
  for await (const { key } of store.list({ prefix: rejectsPrefix })) {
    if (REJECTS_NAME.test(key.slice(rejectsPrefix.length))) yield await readRejects(store, key);
  }
}

/** Rows that a delta deletes from its base, in parts. @throws FleetError `object_corrupt`, `object_missing` */
export async function* readDeletes(
  store: ObjectStore,
  from: Readonly<{ run: string; deletes?: Manifest["deletes"] | undefined }>,
): AsyncGenerator<Pick<DeletedRows, "ids" | "chunks">> {
  for (const entry of from.deletes ?? []) {
    const rows = decodeDeletes(from.run, await readSame(store, entry));
    if (rows.ids.length !== entry.rows) {
      const found = `${entry.key} lists ${rows.ids.length} rows where ${entry.rows} were recorded`;
      throw new FleetError("object_corrupt", found);
    }
    yield rows;
  }
}

/** The object, if it is the recorded one. @throws FleetError `object_corrupt`, `object_missing` */
export async function readSame(
  store: ObjectStore,
  recorded: Readonly<{ key: string; sha256: string }>,
): Promise<Uint8Array> {
  const { key, sha256 } = recorded;
  const bytes = await store.read({ key, maxBytes: MAX_DATA_FILE_BYTES });
  const found = createHash("sha256").update(bytes).digest("hex");
  if (found === sha256) return bytes;
  throw new FleetError("object_corrupt", `${store.url}/${key} has sha256 ${found}; ${sha256} was recorded`, {
    cure: "it was changed after it was written: run the whole corpus again under another id",
  });
}
