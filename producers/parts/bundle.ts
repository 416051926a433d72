/** Bundles consecutive small objects of a corpus into one part: alone, each would cost as much as a large one. */
import type { SourceItem } from "../../src/core/documents.ts";
import type { Bundleable, CorpusPart, Section, WholeObject } from "./sections.ts";

/** Objects whose first request is in flight at the same time; only the first one is read further. */
const OBJECTS_AT_ONCE = 8;

export interface BundleLimits {
  /** Maximum total bytes of the objects; a single object may exceed it. */
  readonly bytes: number;
  readonly objects: number;
}

/** Every object once, in the same order. */
export async function* bundled(sections: AsyncIterable<Bundleable>, limits: BundleLimits): AsyncGenerator<Section> {
  let objects: WholeObject[] = [];
  let bytes = 0;
  const taken = (): Section => {
    const part = together(objects);
    objects = [];
    bytes = 0;
    return { kind: "part", part };
  };
  for await (const section of sections) {
    const fits = section.kind === "object" && bytes + section.bytes <= limits.bytes;
    if (!fits && objects.length > 0) yield taken();
    if (section.kind !== "object") yield section;
    else {
      objects.push(section.object);
      bytes += section.bytes;
      if (objects.length >= limits.objects) yield taken();
    }
  }
  if (objects.length > 0) yield taken();
}

function together(objects: readonly WholeObject[]): CorpusPart {
  const [first, ...others] = objects;
  if (others.length === 0) return { ...first!, range: null };
  return { name: `${first!.name} and ${others.length} more`, objects, range: null };
}

/**
 * The items that `read` yields for each object, in the objects' order. Of an object that is started and not yet read,
 * only the first item is held.
 */
export async function* readBundle<Each>(
  objects: readonly Each[],
  read: (object: Each) => AsyncGenerator<SourceItem>,
): AsyncGenerator<SourceItem> {
  const begun: { reading: AsyncGenerator<SourceItem>; first: Promise<IteratorResult<SourceItem>> }[] = [];
  try {
    for (let next = 0; next < objects.length || begun.length > 0;) {
      while (next < objects.length && begun.length < OBJECTS_AT_ONCE) begun.push(begin(read(objects[next++]!)));
      const { reading, first } = begun[0]!;
      for (let item = await first; item.done !== true; item = await reading.next()) yield item.value;
      begun.shift();
    }
  } finally {
    await Promise.all(begun.map(({ reading }) => reading.return(undefined)));
  }
}

function begin(reading: AsyncGenerator<SourceItem>): {
  reading: AsyncGenerator<SourceItem>;
  first: Promise<IteratorResult<SourceItem>>;
} {
  const first = reading.next();
  // Awaited in its turn; until then, or if reading stops, an error must not count as unhandled.
  first.catch(() => {});
  return { reading, first };
}
