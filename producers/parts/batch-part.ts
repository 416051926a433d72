/** One part of a corpus as batches, each document with its content's hash. */
import { contentHash } from "../../src/core/content.ts";
import type { SourceItem } from "../../src/core/documents.ts";
import { FleetError } from "../../src/core/errors.ts";
import type { PartBatch } from "./read-parts.ts";
import { type OpenPlace, readPart } from "./parts.ts";
import type { CorpusPart } from "./sections.ts";
import type { ReadOptions } from "../sources/read-object.ts";

const BATCH_ITEMS = 512;
const BATCH_CHARS = 1024 * 1024;

/** @throws Errors of reading, for a whole object; a range ends with its error instead. */
export async function* batchPart(
  params: Readonly<{ part: CorpusPart; options: ReadOptions; open: OpenPlace }>,
): AsyncGenerator<PartBatch> {
  const reached = { line: 0 };
  let items: SourceItem[] = [];
  let chars = 0;
  let fault: FleetError | undefined;
  try {
    for await (const item of readPart({ ...params, reached })) {
      items.push(hashed(item));
      if (item.kind === "document") chars += item.document.text.length;
      if (items.length < BATCH_ITEMS && chars < BATCH_CHARS) continue;
      yield { items };
      items = [];
      chars = 0;
    }
  } catch (error) {
    if (params.part.range === null || !(error instanceof FleetError)) throw error;
    fault = error;
  }
  if (params.part.range === null) yield { items };
  else yield { items, end: { lines: reached.line, ...(fault !== undefined && { fault }) } };
}

function hashed(item: SourceItem): SourceItem {
  return item.kind === "document" ? { ...item, content: contentHash(item.document) } : item;
}
