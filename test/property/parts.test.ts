/**
 * However a file is cut into ranges, its lines come once each, in order, and are called what they are called in the whole;
 * and however small objects are put together, each comes once and in order.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import { type PartReading, readParts } from "../../producers/parts/read-parts.ts";
import { batchPart } from "../../producers/parts/batch-part.ts";
import { readJsonl } from "../../producers/sources/jsonl.ts";
import { wholeLines } from "../../producers/sources/lines.ts";
import { bundled, readBundle } from "../../producers/parts/bundle.ts";
import type { Bundleable } from "../../producers/parts/sections.ts";
import type { CorpusPart, Section, WholeObject } from "../../producers/parts/sections.ts";
import type { SourceItem } from "../../src/core/documents.ts";
import { FleetError } from "../../src/core/errors.ts";
import type { ByteRange, ByteSource } from "../../src/core/ports.ts";
import { brief, collect, READ_OPTIONS } from "../fixtures/sources.ts";

const line = fc.oneof(
  fc.nat({ max: 9 }).map((n) => JSON.stringify({ id: `d${n}`, text: "text 日本 😀 é".repeat(n) })),
  fc.constantFrom("", " ", "{}", "no json", '{"id":"x"}', "\uFEFF{}", "é", "\r"),
);
const content = fc
  .tuple(
    fc.array(fc.tuple(line, fc.constantFrom("\n", "\r\n")), { maxLength: 12 }),
    fc.option(line, { nil: "" }),
    fc.constantFrom("", "\uFEFF"),
  )
  .map(([lines, last, mark]) => Buffer.from(mark + lines.map((parts) => parts.join("")).join("") + last));
const file = content.chain((bytes) =>
  fc.record({
    bytes: fc.constant(bytes),
    cuts: fc.uniqueArray(fc.integer({ min: 1, max: Math.max(1, bytes.length - 1) }), { maxLength: 8 }),
    blocks: fc.record({ body: fc.integer({ min: 1, max: 40 }), tail: fc.integer({ min: 1, max: 9 }) }),
  }),
);

/** @param faultAt Reading that byte, or one after it, fails. */
function sourceOf(bytes: Buffer, faultAt = Infinity): ByteSource {
  const readRange = async ({ start, end }: ByteRange): Promise<Buffer> => {
    if (end > faultAt) throw new FleetError("source_unreadable", "a bad sector");
    return Buffer.from(bytes.subarray(start, end));
  };
  return {
    name: "corpus.jsonl",
    bytes: bytes.length,
    readRange,
    async *stream() {
      for (let at = 0; at < bytes.length; at++) yield await readRange({ start: at, end: at + 1 });
    },
    close: async () => {},
  };
}

function rangesOf(bytes: Buffer, cuts: readonly number[]): ByteRange[] {
  const edges = [0, ...cuts.filter((cut) => cut < bytes.length).toSorted((a, b) => a - b), bytes.length];
  return edges.slice(1).map((end, i) => ({ start: edges[i]!, end }));
}

function readingOf(part: CorpusPart, source: ByteSource): PartReading {
  const batches = batchPart({ part, options: { ...READ_OPTIONS, format: "jsonl" }, open: async () => source });
  return { batches, close: async () => {} };
}

async function* sections(ranges: readonly ByteRange[]): AsyncGenerator<Section> {
  for (const range of ranges) {
    const part: CorpusPart = { name: "corpus.jsonl", id: "", place: { kind: "file", path: "" }, range, pin: null };
    yield { kind: "part", part };
  }
}

test("the bytes of all ranges together are the file, cut between lines", async () => {
  await fc.assert(
    fc.asyncProperty(file, async ({ bytes, cuts, blocks }) => {
      const source = sourceOf(bytes);
      const parts: Buffer[] = [];
      for (const range of rangesOf(bytes, cuts)) {
        parts.push(Buffer.concat(await collect(wholeLines(source, range, blocks))));
      }
      expect(Buffer.concat(parts)).toEqual(bytes);
      const filled = parts.filter(({ length }) => length > 0);
      for (const part of filled.slice(0, -1)) expect(part.at(-1)).toBe(10);
      const begun = rangesOf(bytes, cuts).map(({ start, end }) => begins(bytes, start, end));
      expect(parts.map((part) => part.length > 0)).toEqual(begun);
    }),
  );
});

/** Whether a line begins there: at the beginning, or after a newline. */
function begins(bytes: Buffer, start: number, end: number): boolean {
  for (let at = start; at < end; at++) if (at === 0 || bytes[at - 1] === 10) return true;
  return false;
}

test("documents and rejects of the ranges are those of the whole file, at the same lines", async () => {
  await fc.assert(
    fc.asyncProperty(file, async ({ bytes, cuts }) => {
      const reader = {
        partsAhead: 2,
        read: (part: CorpusPart) => readingOf(part, sourceOf(bytes)),
      };
      const items = await collect(readParts(sections(rangesOf(bytes, cuts)), reader));
      const whole = await collect(readJsonl(sourceOf(bytes), READ_OPTIONS));
      expect(items.map(withoutContent)).toEqual(whole);
    }),
  );
});

function withoutContent(item: SourceItem): SourceItem {
  return item.kind === "document" ? { kind: item.kind, document: item.document } : item;
}

test("after a fault nothing of the file is read, and the reject names the line", async () => {
  const bytes = Buffer.from('{"id":"a","text":"x"}\n'.repeat(9));
  const reader = {
    partsAhead: 3,
    // Only the second range is damaged.
    read: (part: CorpusPart) => readingOf(part, sourceOf(bytes, part.range!.start === 66 ? 100 : Infinity)),
  };
  const items = await collect(readParts(sections(rangesOf(bytes, [66, 132])), reader));
  expect(items.map(brief)).toEqual(["a=x", "a=x", "a=x", "4:unreadable"]);
  expect(items.at(-1)).toMatchObject({ reject: { detail: "after line 3: a bad sector" } });
});

/** A whole object of so many bytes, or null for what cannot be put together with others. */
const sizes = fc.array(fc.option(fc.integer({ min: 0, max: 12 }), { nil: null, freq: 6 }), { maxLength: 60 });
const limits = fc.record({ bytes: fc.integer({ min: 1, max: 30 }), objects: fc.integer({ min: 1, max: 9 }) });

function wholeObject(name: string): WholeObject {
  return { name, id: name, place: { kind: "file", path: name }, pin: null };
}

test("small objects are put together within limits, each once and in order", async () => {
  await fc.assert(
    fc.asyncProperty(sizes, limits, async (objects, most) => {
      const given = (async function* (): AsyncGenerator<Bundleable> {
        for (const [index, bytes] of objects.entries()) {
          const object = wholeObject(String(index));
          if (bytes === null) yield { kind: "part", part: { ...object, range: { start: 0, end: 1 } } };
          else yield { kind: "object", object, bytes };
        }
      })();
      const parts = (await collect(bundled(given, most))).map((section) => {
        if (section.kind !== "part") throw new Error("no items were given");
        return section.part;
      });
      const members = parts.map((part) => ("objects" in part ? part.objects : [part]).map(({ name }) => Number(name)));
      expect(members.flat()).toEqual(objects.map((_, index) => index));
      const bytesOf = (names: readonly number[]): number => names.reduce((sum, name) => sum + (objects[name] ?? 0), 0);
      for (const names of members) {
        expect(names.length).toBeLessThanOrEqual(most.objects);
        if (names.length === 1) continue;
        expect(bytesOf(names)).toBeLessThanOrEqual(most.bytes);
        expect(names.every((name) => objects[name] !== null)).toBe(true);
      }
      // Nothing that would have fitted was left for the next.
      for (const [i, names] of members.slice(1).entries()) {
        const before = members[i]!;
        if ([...before, ...names].some((name) => objects[name] === null) || before.length === most.objects) continue;
        expect(bytesOf(before) + objects[names[0]!]!).toBeGreaterThan(most.bytes);
      }
    }),
  );
});

/** What the objects hold, and after how many items one of them fails. */
const holdings = fc.array(fc.nat({ max: 4 }), { minLength: 1, maxLength: 30 });

test("what a bundle's objects hold comes in their order, and a fault after all that was before it", async () => {
  await fc.assert(
    fc.asyncProperty(holdings, fc.option(fc.nat({ max: 29 }), { nil: null }), async (counts, faultAt) => {
      const open = new Set<string>();
      let most = 0;
      const read = async function* ({ name }: WholeObject): AsyncGenerator<SourceItem> {
        open.add(name);
        most = Math.max(most, open.size);
        try {
          for (let item = 0; item < counts[Number(name)]!; item++) {
            // The later ones answer sooner.
            for (let turn = Number(name); turn < counts.length; turn++) await Promise.resolve();
            const document = { id: `${name}.${item}`, text: "", origin: { file: name } };
            yield { kind: "document", document };
          }
          if (Number(name) === faultAt) throw new FleetError("source_changed", name);
        } finally {
          open.delete(name);
        }
      };
      const objects = counts.map((_, index) => wholeObject(String(index)));
      const ids: string[] = [];
      let fault: unknown = null;
      try {
        for await (const item of readBundle(objects, read)) if (item.kind === "document") ids.push(item.document.id);
      } catch (error) {
        fault = error;
      }
      const isBroken = faultAt !== null && faultAt < counts.length;
      const readable = isBroken ? counts.slice(0, faultAt + 1) : counts;
      const expected = readable.flatMap((count, name) => Array.from({ length: count }, (_, item) => `${name}.${item}`));
      expect(ids).toEqual(expected);
      expect(fault === null).toBe(!isBroken);
      expect(open.size).toBe(0);
      expect(most).toBeLessThanOrEqual(8);
    }),
  );
});
