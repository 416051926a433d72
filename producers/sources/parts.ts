/**
 * A corpus cut into parts that can be read anywhere and at the same time: whole objects, and ranges of large plain
 * JSONL objects. Read in order, the parts are the corpus.
 */
import { type FilePin, openFileSource, pinFile } from "../../src/adapters/file-source.ts";
import type { S3Bucket } from "../../src/adapters/s3-source.ts";
import type { SourceItem } from "../../src/core/documents.ts";
import type { ByteRange, ByteSource } from "../../src/core/ports.ts";
import { isPlain } from "./decode.ts";
import { readJsonlRange } from "./jsonl.ts";
import type { CorpusObject, Listed, Place } from "./objects.ts";
import { readObject, type ReadOptions, sniff } from "./read-object.ts";

/** Read in a moment by one thread; several of them fit into memory. */
export const PART_BYTES = 4 * 1024 * 1024;
/** Enough to tell compression and UTF-16 by. */
const HEAD_BYTES = 4;

/** Plain data. */
export interface CorpusPart {
  readonly name: string;
  readonly id: string;
  readonly place: Exclude<Place, { kind: "pipe" }>;
  /** Lines that begin in these bytes of a JSONL object; null for the whole object. */
  readonly range: ByteRange | null;
  /**
   * Of a file whose parts must all be of one version, wherever they are read; an object in a bucket has its ETag.
   * Null for a file that is read whole, here, and for what is no plain file.
   */
  readonly pin: FilePin | null;
}

/** `items` is what is read here and now: what could not be listed, and what can be read once only. */
export type Section =
  | { readonly kind: "part"; readonly part: CorpusPart }
  | { readonly kind: "items"; readonly items: AsyncIterable<SourceItem> };

export interface CutHow {
  /** Of a range, about; an object of less than two is one part. */
  readonly partBytes?: number;
  /** Whole files too: other processes may find another file under the name, or none. */
  readonly pinsAll?: boolean;
}

export async function* sectionsOf(
  params: Readonly<{ objects: AsyncIterable<Listed>; options: ReadOptions }> & CutHow,
): AsyncGenerator<Section> {
  const { objects, options, partBytes = PART_BYTES, pinsAll = false } = params;
  for await (const listed of objects) {
    if (listed.kind === "reject") yield { kind: "items", items: only(listed) };
    else if (listed.object.place.kind === "pipe") yield { kind: "items", items: readObject(listed.object, options) };
    else yield* partsOf(listed.object, listed.object.place, { options, partBytes, pinsAll });
  }
}

async function* only(item: SourceItem): AsyncGenerator<SourceItem> {
  yield item;
}

async function* partsOf(
  object: CorpusObject,
  place: CorpusPart["place"],
  { options, partBytes, pinsAll }: Readonly<{ options: ReadOptions; partBytes: number; pinsAll: boolean }>,
): AsyncGenerator<Section> {
  const pin = place.kind === "file" ? await pinFile(place.path) : null;
  const whole: CorpusPart = { name: object.name, id: object.id, place, range: null, pin: pinsAll ? pin : null };
  const bytes = place.kind === "s3" ? place.entry.bytes : (pin?.bytes ?? 0);
  if (bytes < 2 * partBytes || !(await isPlainJsonl(object, options))) yield { kind: "part", part: whole };
  else
    for (let start = 0; start < bytes; start += partBytes)
      yield { kind: "part", part: { ...whole, range: { start, end: Math.min(start + partBytes, bytes) }, pin } };
}

/** What cannot be read now is left to whoever reads it, and tells. */
async function isPlainJsonl(object: CorpusObject, options: ReadOptions): Promise<boolean> {
  const source = await object.open().catch(() => null);
  if (source === null) return false;
  try {
    if (!isPlain(await source.readRange({ start: 0, end: HEAD_BYTES }))) return false;
    return (await sniff(source, object.name, options.format)).format === "jsonl";
  } catch {
    return false;
  } finally {
    await source.close();
  }
}

/** Opens parts, wherever they are to be read. */
export type OpenPlace = (part: Pick<CorpusPart, "name" | "place" | "pin">) => Promise<ByteSource>;

export function placeOpener(bucket: (name: string) => Promise<S3Bucket>): OpenPlace {
  return async ({ name, place, pin }) => {
    if (place.kind === "file") return openFileSource({ path: place.path, name, pin: pin ?? undefined });
    return (await bucket(place.bucket)).open(place.entry);
  };
}

/**
 * The part's documents and rejects. Lines of a range are numbered from its own first one, and its faults are
 * thrown; see `readJsonlRange`.
 *
 * @param params.reached Told the last line of a range that was read.
 */
export async function* readPart(
  params: Readonly<{ part: CorpusPart; options: ReadOptions; open: OpenPlace; reached: { line: number } }>,
): AsyncGenerator<SourceItem> {
  const { part, options, open, reached } = params;
  const { name, id, range } = part;
  if (range === null) {
    yield* readObject({ name, id, open: () => open(part) }, options);
    return;
  }
  const source = await open(part);
  try {
    yield* readJsonlRange({ source, range, options, reached });
  } finally {
    await source.close();
  }
}
