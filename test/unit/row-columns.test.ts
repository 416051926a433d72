/** Rows as columns hold what was put into them, through growth, and give it back in any order. */
import { createHash } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import { buffersOf, RowBuilder } from "../../producers/chunking/row-columns.ts";
import { DocumentRows } from "../../producers/document-rows.ts";
import { packBatch, unpackBatch } from "../../producers/parts/producer-messages.ts";
import { rejectAt, type SourceItem } from "../../src/core/documents.ts";

const text = fc.string({ unit: fc.constantFrom("a", "é", "灯", "🗼", " "), maxLength: 12 });
const row = fc.record({
  tokenIds: fc.array(
    fc.array(fc.integer({ min: 0, max: 250_001 }), { maxLength: 40 }).map((ids) => Int32Array.from(ids)),
    { maxLength: 3 },
  ),
  charStart: fc.nat(),
  charEnd: fc.nat(),
  text,
});
const kept = fc.option(text, { nil: null });
const document = fc.record({ rows: fc.array(row, { minLength: 1, maxLength: 4 }), kept });
/** Documents by batch, as a chunker gives them. */
const batches = fc.array(fc.array(document, { minLength: 1, maxLength: 5 }), { maxLength: 4 });

test("rows of several batches are gathered in any order, with or without their texts", () => {
  fc.assert(
    fc.property(batches, fc.boolean(), fc.nat(), (given, keepText, turn) => {
      const rows = new DocumentRows();
      const expected: Record<string, unknown>[] = [];
      let textChars = 0;
      for (const [batch, documents] of given.entries()) {
        const builder = new RowBuilder({ rows: 1, tokens: 3, keepText });
        for (const { rows: own } of documents) for (const each of own) builder.add(each);
        const columns = builder.finish();
        expect(buffersOf(columns).map(({ byteLength }) => byteLength)).toContain(columns.tokenIds.byteLength);
        let first = 0;
        for (const [i, { rows: own, kept: value }] of documents.entries()) {
          const id = `d${batch}.${i}`;
          rows.add({ id, kept: [value] }, { columns, first, count: own.length });
          first += own.length;
          own.forEach(({ tokenIds, charStart, charEnd, text }, chunk) => {
            textChars += (keepText ? text.length : 0) + (value?.length ?? 0);
            const hash = createHash("sha256").update(text).digest("hex");
            const ids = tokenIds.flatMap((part) => [...part]);
            expected.push({ id, chunk, charStart, charEnd, hash, ids, text: keepText ? text : null, kept: value });
          });
        }
      }
      expect(rows.rows).toBe(expected.length);
      expect(rows.textChars).toBe(textChars);
      const all = Uint32Array.from(expected.keys());
      const order = Uint32Array.of(
        ...all.subarray(turn % (all.length + 1)),
        ...all.subarray(0, turn % (all.length + 1)),
      );
      const index = rows.index();
      const found = index.gather(order, ["field"]);
      const decoded = Array.from(order, (_, i) => ({
        id: found.ids[i],
        chunk: found.chunks[i],
        charStart: found.charStarts[i],
        charEnd: found.charEnds[i],
        hash: Buffer.from(found.textHashes.subarray(i * 32, (i + 1) * 32)).toString("hex"),
        ids: [...found.tokenIds.subarray(found.offsets[i], found.offsets[i + 1])],
        text: textAt(found.texts, i),
        kept: found.kept[0]!.values[i],
      }));
      expect(decoded).toEqual(Array.from(order, (at) => expected[at]));
      const bytes = expected.map(({ id, text: own, kept: value }) =>
        [id, own, value].reduce<number>((sum, each) => sum + Buffer.byteLength((each as string | null) ?? ""), 0),
      );
      expect([...index.carriedBytes]).toEqual(bytes);
    }),
    { numRuns: 60 },
  );
});

function textAt(texts: ReturnType<ReturnType<DocumentRows["index"]>["gather"]>["texts"], i: number): string | null {
  if (texts === null || !("bytes" in texts)) return null;
  return Buffer.from(texts.bytes.subarray(texts.offsets[i], texts.offsets[i + 1])).toString("utf8");
}

const item = fc.oneof(
  fc
    .record({ id: text, text, file: fc.constantFrom("a", "b"), line: fc.nat({ max: 9 }), fields: fc.nat({ max: 2 }) })
    .map(({ id, text: own, file, line, fields }): SourceItem => {
      const origin = line === 0 ? { file } : { file, line };
      const document = { id, text: own, origin, ...(fields > 0 && { kept: fields === 1 ? [null] : [own] }) };
      return { kind: "document", document, content: createHash("sha256").update(id).digest() };
    }),
  fc.nat().map((line): SourceItem => ({ kind: "reject", reject: rejectAt({ file: "a", line }, "not_json", "x") })),
);

test("a thread's batch is the same after it was packed, copied to another thread and unpacked", () => {
  fc.assert(
    fc.property(fc.array(item, { maxLength: 12 }), fc.boolean(), (items, isLast) => {
      const given = { items, ...(isLast && { end: { lines: 7 } }) };
      const found = unpackBatch(structuredClone(packBatch(given)));
      expect(plain(found)).toEqual(plain(given));
    }),
    { numRuns: 60 },
  );
});

function plain({ items, ...rest }: Parameters<typeof packBatch>[0]): unknown {
  const shown = items.map((each) =>
    each.kind === "reject" ? each : { ...each, content: Buffer.from(each.content!).toString("hex") },
  );
  return { ...rest, items: shown };
}
