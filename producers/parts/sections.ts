/** Sections of a corpus: parts that any thread or process can read, and items that this process reads at once. */
import type { FilePin } from "../../src/adapters/file/file-source.ts";
import type { SourceItem } from "../../src/core/documents.ts";
import type { ByteRange } from "../../src/core/ports.ts";
import type { Place } from "../sources/objects.ts";
import type { TableFields } from "../sources/partition.ts";

/** A part as plain data. */
export type CorpusPart = ObjectPart | Bundle;

export interface ObjectPart extends WholeObject {
  /** Byte range in which the lines of a JSONL object begin; null for the whole object. */
  readonly range: ByteRange | null;
}

/** Consecutive small whole objects. */
export interface Bundle {
  readonly name: string;
  readonly objects: readonly WholeObject[];
  readonly range: null;
}

export interface WholeObject {
  readonly name: string;
  readonly id: string;
  readonly place: Exclude<Place, { kind: "pipe" }>;
  /**
   * Pin of a file whose parts must all be of one version, wherever they are read; an object in a bucket has its ETag.
   * Null for a file that is read as a whole on this machine, and for a special file.
   */
  readonly pin: FilePin | null;
  /** Values of the partition of a table that the object belongs to. */
  readonly fields?: TableFields;
}

/** A part, or items that this process reads at once: rejects of the listing, and sources that can be read only once. */
export type Section =
  | { readonly kind: "part"; readonly part: CorpusPart }
  | { readonly kind: "items"; readonly items: AsyncIterable<SourceItem> };

/** A section, or a whole object of known size that may be put together with its neighbours. */
export type Bundleable = Section | { readonly kind: "object"; readonly object: WholeObject; readonly bytes: number };
