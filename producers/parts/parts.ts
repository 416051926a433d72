/**
 * Cuts a corpus into parts that can be read anywhere and concurrently: whole objects, several small ones together,
 * and ranges of large plain JSONL objects. Read in order, the parts are the corpus.
 */
import { whyOutside } from "../../src/adapters/allowed-inputs.ts";
import { openFileSource, pinFile } from "../../src/adapters/file/file-source.ts";
import type { S3Bucket } from "../../src/adapters/s3/s3-source.ts";
import type { SourceItem } from "../../src/core/documents.ts";
import { FleetError } from "../../src/core/errors.ts";
import type { ByteSource } from "../../src/core/ports.ts";
import { bundled, readBundle } from "./bundle.ts";
import type { Bundleable, CorpusPart, Section, WholeObject } from "./sections.ts";
import { isPlain } from "../sources/decode.ts";
import { readJsonlRange } from "../sources/jsonl.ts";
import type { CorpusObject, Listed } from "../sources/objects.ts";
import { inPartition, readObject, type ReadOptions, sniff } from "../sources/read-object.ts";

/** Size of a part that one thread reads in a moment and of which several fit into memory. */
export const PART_BYTES = 4 * 1024 * 1024;
/** Enough bytes to detect compression and UTF-16. */
const HEAD_BYTES = 4;

export interface CutHow {
  /** Approximate size of a range, in bytes; an object smaller than two ranges is one part. */
  readonly partBytes?: number;
  /** Maximum number of small objects, of `partBytes` together at most, in one part; by default each is its own. */
  readonly partObjects?: number;
  /**
   * Whether whole files are pinned, too: other processes may find another file under the name, or none. Files that
   * cannot be pinned are read here and now.
   */
  readonly pinsAll?: boolean;
}

export async function* sectionsOf(
  params: Readonly<{ objects: AsyncIterable<Listed>; options: ReadOptions }> & CutHow,
): AsyncGenerator<Section> {
  const { objects, options, partBytes = PART_BYTES, partObjects = 1, pinsAll = false } = params;
  const sections = unbundled(objects, { options, partBytes, pinsAll });
  yield* bundled(sections, { bytes: partBytes, objects: partObjects });
}

interface PartsHow {
  readonly options: ReadOptions;
  readonly partBytes: number;
  readonly pinsAll: boolean;
}

async function* unbundled(objects: AsyncIterable<Listed>, how: PartsHow): AsyncGenerator<Bundleable> {
  for await (const listed of objects) {
    if (listed.kind === "reject") yield { kind: "items", items: only(listed) };
    else if (listed.object.place.kind === "pipe")
      yield { kind: "items", items: readObject(listed.object, how.options) };
    else yield* partsOf(listed.object, listed.object.place, how);
  }
}

async function* only(item: SourceItem): AsyncGenerator<SourceItem> {
  yield item;
}

async function* partsOf(
  object: CorpusObject,
  place: WholeObject["place"],
  { options, partBytes, pinsAll }: PartsHow,
): AsyncGenerator<Bundleable> {
  const pin = place.kind === "file" ? await pinFile(place.path) : null;
  const { name, id, fields } = object;
  const whole: WholeObject = { name, id, place, pin: pinsAll ? pin : null, ...(fields && { fields }) };
  const bytes = place.kind === "s3" ? place.entry.bytes : pin?.bytes;
  // A special or missing file may have changed by the time it is read, and on other machines.
  if (bytes === undefined && pinsAll) yield { kind: "items", items: readObject(object, options) };
  else if (bytes === undefined) yield { kind: "part", part: { ...whole, range: null } };
  else if (bytes < 2 * partBytes || !(await isPlainJsonl(object, options)))
    yield { kind: "object", object: whole, bytes };
  else
    for (let start = 0; start < bytes; start += partBytes)
      yield { kind: "part", part: { ...whole, range: { start, end: Math.min(start + partBytes, bytes) }, pin } };
}

/** True for a plain JSONL object whose ids do not depend on line numbers, which ranges do not know. An unreadable one is reported later, by the reader of its part. */
async function isPlainJsonl(object: CorpusObject, options: ReadOptions): Promise<boolean> {
  if (options.generateId === "row") return false;
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

/** Opens a part's object at its place. */
export type OpenPlace = (part: Pick<WholeObject, "name" | "place" | "pin">) => Promise<ByteSource>;

/**
 * @param filesBelow Folders that files must be below, with links resolved; empty for anywhere.
 * @throws FleetError `source_refused` for a file elsewhere
 */
export function placeOpener(
  bucket: (name: string) => Promise<S3Bucket>,
  filesBelow: readonly string[] = [],
): OpenPlace {
  return async ({ name, place, pin }) => {
    if (place.kind === "file") {
      const why = filesBelow.length === 0 ? null : await whyOutside(place.path, filesBelow);
      if (why !== null)
        throw new FleetError("source_refused", `${name} may not be read: ${why}`, {
          cure: "pass the folder that its symbolic link leads to with --inputs-below, if this machine may read it",
        });
      return openFileSource({ path: place.path, name, pin: pin ?? undefined });
    }
    return (await bucket(place.bucket)).open(place.entry);
  };
}

/**
 * The part's documents and rejects. Lines of a range are numbered from its own first one, and its errors are
 * thrown; see `readJsonlRange`.
 *
 * @param params.reached Called with the last line of a range that was read.
 */
export async function* readPart(
  params: Readonly<{ part: CorpusPart; options: ReadOptions; open: OpenPlace; reached: { line: number } }>,
): AsyncGenerator<SourceItem> {
  const { part, options, open, reached } = params;
  const read = (object: WholeObject): AsyncGenerator<SourceItem> =>
    readObject({ ...object, open: () => open(object) }, options);
  if ("objects" in part) yield* readBundle(part.objects, read);
  else if (part.range === null) yield* read(part);
  else {
    const source = await open(part);
    try {
      yield* readJsonlRange({ source, range: part.range, options: inPartition(part, options), reached });
    } finally {
      await source.close();
    }
  }
}
