/** Reads parts of a corpus ahead, on any thread or machine, and joins them in their order. */
import type { SourceItem } from "../../src/core/documents.ts";
import type { FleetError } from "../../src/core/errors.ts";
import type { RowSpan } from "../chunking/row-columns.ts";
import { unreadableAfter } from "../sources/jsonl.ts";
import type { CorpusPart, Section } from "./sections.ts";

/** A document or a reject; a document that has its rows no longer has a text. */
export type ReadItem = SourceItem & { readonly rows?: RowSpan };

export interface PartBatch {
  readonly items: readonly ReadItem[];
  /** Present with the last batch of a range. */
  readonly end?: PartEnd;
}

export interface PartEnd {
  /** Number of lines that were read; the next range's first line has the following number. */
  readonly lines: number;
  /** The error that ended the reading; nothing of the object is read after it. */
  readonly fault?: FleetError;
}

export interface PartReader {
  /** Number of parts to start ahead, so that no reader idles. */
  readonly partsAhead: number;
  /** Starts at once, and reads a bounded number of batches ahead of the consumer. */
  read(part: CorpusPart): PartReading;
}

export interface PartReading {
  readonly batches: AsyncIterable<PartBatch>;
  /** Closes the reading, whether it was read to its end or not. */
  close(): Promise<void>;
}

interface Begun {
  readonly items: AsyncIterable<ReadItem>;
  close(): Promise<void>;
}

/** Yields the same documents and rejects, at the same lines, as a single reader of the whole corpus. */
export async function* readParts(sections: AsyncIterable<Section>, reader: PartReader): AsyncGenerator<ReadItem> {
  const listing = sections[Symbol.asyncIterator]();
  const begun: Begun[] = [];
  const lines = new LineCounter();
  try {
    for (let isListed = false; ;) {
      while (!isListed && begun.length < reader.partsAhead) {
        const next = await listing.next();
        if (next.done === true) isListed = true;
        else begun.push(begin(next.value, reader, lines));
      }
      const first = begun[0];
      if (first === undefined) return;
      yield* first.items;
      await first.close();
      begun.shift();
    }
  } finally {
    for (const { close } of begun) await close();
    await listing.return?.();
  }
}

function begin(section: Section, reader: PartReader, lines: LineCounter): Begun {
  if (section.kind === "items") return { items: section.items, close: async () => {} };
  const reading = reader.read(section.part);
  return { items: lines.placed(section.part, reading.batches), close: () => reading.close() };
}

/** Corrects the line numbers of ranges, which count from the range's own first line. */
class LineCounter {
  #before = 0;
  #isBroken = false;

  async *placed({ name, range }: CorpusPart, batches: AsyncIterable<PartBatch>): AsyncGenerator<ReadItem> {
    if (range?.start === 0) {
      this.#before = 0;
      this.#isBroken = false;
    }
    for await (const { items, end } of batches) {
      if (range === null) yield* items;
      else if (this.#isBroken) return;
      else for (const item of items) yield moved(item, this.#before);
      if (end === undefined) continue;
      this.#before += end.lines;
      if (end.fault === undefined) continue;
      this.#isBroken = true;
      yield unreadableAfter(name, this.#before, end.fault);
    }
  }
}

function moved(item: ReadItem, lines: number): ReadItem {
  if (lines === 0) return item;
  if (item.kind === "reject") return { ...item, reject: { ...item.reject, line: item.reject.line! + lines } };
  const { origin } = item.document;
  return { ...item, document: { ...item.document, origin: { ...origin, line: origin.line! + lines } } };
}
