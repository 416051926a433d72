/** What every `ByteSource` that can be read by ranges does, whatever lies underneath. */
import { createHash } from "node:crypto";
import { describe, expect, onTestFinished, test } from "vitest";
import type { ByteSource } from "../../src/core/ports.ts";

export interface ByteSourceFixture {
  /** Creates or replaces an object. */
  write(name: string, body: Buffer): Promise<void>;
  remove(name: string): Promise<void>;
  /** Opens an object as it is now. */
  open(name: string): Promise<ByteSource>;
}

/** @param bytes More than a few of its blocks. */
export function byteSourceSuite(name: string, bytes: number, setUp: () => Promise<ByteSourceFixture>): void {
  const body = Buffer.concat(
    Array.from({ length: Math.ceil(bytes / 64) }, (_, i) => createHash("sha512").update(String(i)).digest()),
  ).subarray(0, bytes);

  async function opened(content: Buffer): Promise<{ fixture: ByteSourceFixture; source: ByteSource }> {
    const fixture = await setUp();
    await fixture.write("object", content);
    const source = await fixture.open("object");
    onTestFinished(() => source.close());
    return { fixture, source };
  }

  async function readAll(chunks: AsyncIterable<Buffer>): Promise<Buffer> {
    const parts: Buffer[] = [];
    for await (const chunk of chunks) parts.push(chunk);
    return Buffer.concat(parts);
  }

  describe(name, () => {
    test("streams the whole object, or from a byte on, and knows its size", async () => {
      const { source } = await opened(body);
      expect(source.bytes).toBe(body.length);
      expect((await readAll(source.stream())).equals(body)).toBe(true);
      const start = body.length - 12_345;
      expect((await readAll(source.stream({ start }))).equals(body.subarray(start))).toBe(true);
      expect(await readAll(source.stream({ start: body.length }))).toHaveLength(0);
    });

    test("reads exactly a range, each into memory of its own", async () => {
      const { source } = await opened(body.subarray(0, 5000));
      const [first, last] = await Promise.all([
        source.readRange({ start: 0, end: 4 }),
        source.readRange({ start: 4999, end: 5000 }),
      ]);
      expect(first.equals(body.subarray(0, 4))).toBe(true);
      expect(last.equals(body.subarray(4999, 5000))).toBe(true);
      expect(first.buffer.byteLength).toBe(4);
    });

    test("an empty object is a stream of nothing", async () => {
      const { source } = await opened(Buffer.alloc(0));
      expect(source.bytes).toBe(0);
      expect(await readAll(source.stream())).toHaveLength(0);
    });

    test("a reader that stops early may close it", async () => {
      const { source } = await opened(body);
      for await (const chunk of source.stream()) {
        expect(chunk.length).toBeGreaterThan(0);
        break;
      }
    });

    test("an object that is replaced while it is read is found, at its next block and by ranges", async () => {
      const { fixture, source } = await opened(body);
      const chunks = source.stream()[Symbol.asyncIterator]();
      await chunks.next();
      await fixture.write("object", Buffer.from(body.toReversed()));
      await expect(
        (async () => {
          for (let next = await chunks.next(); next.done !== true; next = await chunks.next());
        })(),
      ).rejects.toMatchObject({ code: "source_changed", cure: expect.stringContaining("new run") });
      await expect(source.readRange({ start: 0, end: 4 })).rejects.toMatchObject({ code: "source_changed" });
    });

    test("an object that is gone is missing, and says so where it is first read", async () => {
      const fixture = await setUp();
      await expect(
        (async () => {
          await fixture.write("object", body);
          const source = await fixture.open("object");
          onTestFinished(() => source.close());
          await fixture.remove("object");
          const again = await fixture.open("object");
          await readAll(again.stream());
        })(),
      ).rejects.toMatchObject({ code: "source_missing" });
    });
  });
}
