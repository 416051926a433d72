import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, test, vi } from "vitest";
import { IdSet } from "../../src/disk/id-set.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

afterEach(() => vi.unstubAllEnvs());

describe.each([
  ["in memory", undefined],
  ["on disk from the first growth", 0],
  ["moving to disk on the way", 256 * 1024],
])("a set %s", (_, memoryBytes) => {
  test("knows exactly the ids it was given", () => {
    const set = new IdSet(memoryBytes === undefined ? {} : { memoryBytes });
    const ids = Array.from({ length: 50_000 }, (__, i) => `document-${i}`);
    expect(ids.filter((id) => !set.add(id))).toEqual([]);
    expect(ids.filter((id) => set.add(id))).toEqual([]);
    expect(set.size).toBe(ids.length);
    expect(set.add("another")).toBe(true);
    set.close();
  });
});

test.each([
  ["in memory", 32 * 1024 * 1024],
  ["on disk", 0],
])("answers like a Set, with repeats among new ids: %s", (_, memoryBytes) => {
  const set = new IdSet({ memoryBytes });
  const plain = new Set<string>();
  // Squares modulo a prime meet each id several times, early and late.
  const ids = Array.from({ length: 30_000 }, (__, i) => `id-${(i * i) % 12_007}`);
  const wrong = ids.filter((id) => {
    const isNew = !plain.has(id);
    plain.add(id);
    return set.add(id) !== isNew;
  });
  expect(wrong).toEqual([]);
  expect(set.size).toBe(plain.size);
  set.close();
});

test("ids that look alike are told apart", () => {
  const set = new IdSet();
  const ids = ["", "a", "A", "a ", "á", "a\u0301", "1", "01", "x".repeat(1024), `${"x".repeat(1023)}y`];
  expect(ids.map((id) => set.add(id))).toEqual(ids.map(() => true));
  set.close();
});

test("its file is gone after close, which may be called twice", async () => {
  const folder = join(await tempFolder(), "tmp");
  mkdirSync(folder);
  vi.stubEnv("TMPDIR", folder);
  const set = new IdSet({ memoryBytes: 0 });
  for (let i = 0; i < 5000; i++) set.add(String(i));
  expect(readdirSync(folder)).toHaveLength(1);
  set.close();
  set.close();
  expect(readdirSync(folder)).toEqual([]);
});

test("a temporary folder that cannot be written is a clear error", () => {
  vi.stubEnv("TMPDIR", "/nowhere/at/all");
  const set = new IdSet({ memoryBytes: 0 });
  const fill = (): void => {
    for (let i = 0; i < 5000; i++) set.add(String(i));
  };
  expect(fill).toThrow(expect.objectContaining({ code: "store_refused", cure: expect.stringContaining("TMPDIR") }));
});
