/** The lists of a run that a later run builds on: its documents, and the rows it takes away. */
import { createHash } from "node:crypto";
import { decodeDeletes, decodeDocumentIndex, type DeletedRows, type DocumentIndex } from "../arrow/document-index.ts";
import { type Manifest, MAX_DATA_FILE_BYTES } from "../core/contracts.ts";
import { FleetError } from "../core/errors.ts";
import { runKeys } from "../core/layout.ts";
import type { ObjectStore } from "../core/ports.ts";
import { readWindows } from "./read-plan.ts";

/** What a run knows of the documents it planned, window by window. @throws FleetError `object_corrupt` */
export async function* readDocumentIndex(store: ObjectStore, run: string): AsyncGenerator<DocumentIndex> {
  for await (const { window, indexSha256 } of readWindows(store, run)) {
    if (indexSha256 === undefined) continue;
    const bytes = await readSame(store, { key: runKeys(run).documentIndex(window), sha256: indexSha256 });
    yield decodeDocumentIndex(run, bytes);
  }
}

/** Rows that a delta takes away from what it builds on, in parts. @throws FleetError `object_corrupt`, `object_missing` */
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

/** The object, when it is the one that was recorded. @throws FleetError `object_corrupt`, `object_missing` */
export async function readSame(
  store: ObjectStore,
  recorded: Readonly<{ key: string; sha256: string }>,
): Promise<Uint8Array> {
  const { key, sha256 } = recorded;
  const bytes = await store.read({ key, maxBytes: MAX_DATA_FILE_BYTES });
  const found = createHash("sha256").update(bytes).digest("hex");
  if (found === sha256) return bytes;
  throw new FleetError("object_corrupt", `${store.url}/${key} has sha256 ${found}; ${sha256} was recorded of it`, {
    cure: "it was changed after it was written: run the corpus once more in full, under another id",
  });
}
