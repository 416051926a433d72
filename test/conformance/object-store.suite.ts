/** What every object store must do. */
import { randomBytes, randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ObjectInfo, ObjectStore } from "../../src/core/ports.ts";

/** @param open Opens the same store each time, below the given name; another name is another store. */
export function objectStoreSuite(name: string, open: (name: string) => Promise<ObjectStore>): void {
  describe(name, () => {
    const root = randomUUID();
    let store: ObjectStore;
    beforeAll(async () => {
      store = await open(root);
    });
    afterAll(() => store.close());

    const fresh = (): string => `t-${randomUUID()}/object.bin`;

    test("creates once, and the first bytes stay", async () => {
      const key = fresh();
      expect(await store.create({ key, body: Buffer.from("first") })).toBe("created");
      expect(await store.create({ key, body: Buffer.from("second") })).toBe("exists");
      expect(Buffer.from(await store.read({ key })).toString()).toBe("first");
    });

    test("lets one of sixteen racing creators win, whole", async () => {
      const key = fresh();
      const bodies = Array.from({ length: 16 }, () => randomBytes(10_000));
      const outcomes = await Promise.all(bodies.map((body) => store.create({ key, body })));
      expect(outcomes.filter((outcome) => outcome === "created")).toHaveLength(1);
      expect(Buffer.compare(await store.read({ key }), bodies[outcomes.indexOf("created")]!)).toBe(0);
    });

    test("creates beside those who remove the last neighbour", async () => {
      const other = await open(root);
      const folder = `t-${randomUUID()}/a/b`;
      const churn = async (user: ObjectStore): Promise<void> => {
        for (let i = 0; i < 25; i++) {
          const key = `${folder}/${randomUUID()}`;
          expect(await user.create({ key, body: Buffer.from("x") })).toBe("created");
          await user.remove({ key });
        }
      };
      await Promise.all([store, other, store, other].map(churn));
      await other.close();
    });

    test.each([0, 1, 5 * 1024 * 1024])("brings %i bytes back exactly", async (length) => {
      const key = fresh();
      const body = randomBytes(length);
      await store.create({ key, body });
      expect(Buffer.compare(await store.read({ key }), body)).toBe(0);
      expect(await store.stat({ key })).toMatchObject({ key, bytes: length });
    });

    test("keeps bytes of its own, whatever becomes of those it was given or gave", async () => {
      const key = fresh();
      const body = Buffer.from("whole");
      await store.create({ key, body });
      body.fill(0);
      (await store.read({ key })).fill(0);
      expect(Buffer.from(await store.read({ key })).toString()).toBe("whole");
    });

    test("reads ranges, and refuses one beyond the end", async () => {
      const key = fresh();
      await store.create({ key, body: Buffer.from("0123456789") });
      const range = async (start: number, end: number) =>
        Buffer.from(await store.read({ key, range: { start, end } })).toString();
      expect(await range(0, 1)).toBe("0");
      expect(await range(9, 10)).toBe("9");
      expect(await range(3, 7)).toBe("3456");
      await expect(range(8, 12)).rejects.toMatchObject({ code: "object_corrupt" });
      await expect(range(10, 11)).rejects.toMatchObject({ code: "object_corrupt" });
      await expect(range(5, 5)).rejects.toMatchObject({ code: "store_refused" });
      // What is read counts, not what is there.
      expect(await store.read({ key, range: { start: 2, end: 4 }, maxBytes: 2 })).toHaveLength(2);
      await expect(store.read({ key, range: { start: 2, end: 5 }, maxBytes: 2 })).rejects.toMatchObject({
        code: "object_corrupt",
      });
      await expect(store.read({ key: fresh(), range: { start: 0, end: 1 } })).rejects.toMatchObject({
        code: "object_missing",
      });
    });

    test("says what is missing, and what is larger than allowed", async () => {
      const key = fresh();
      await expect(store.read({ key })).rejects.toMatchObject({ code: "object_missing" });
      expect(await store.stat({ key })).toBeNull();
      await store.create({ key, body: Buffer.alloc(100) });
      await expect(store.read({ key, maxBytes: 99 })).rejects.toMatchObject({ code: "object_corrupt" });
      expect(await store.read({ key, maxBytes: 100 })).toHaveLength(100);
    });

    test("lists by prefix in order of key", async () => {
      const folder = `l-${randomUUID()}/`;
      const keys = ["b/2", "a", "b-1", "b/10", "c.d"].map((each) => folder + each);
      await Promise.all(keys.map((key) => store.create({ key, body: Buffer.from(key) })));
      const list = async (prefix: string): Promise<string[]> => {
        const found: string[] = [];
        for await (const { key } of store.list({ prefix })) found.push(key);
        return found;
      };
      expect(await list(folder)).toEqual(keys.toSorted());
      expect(await list(`${folder}b/`)).toEqual([`${folder}b/10`, `${folder}b/2`]);
      expect(await list(`${folder}nothing/`)).toEqual([]);
      // The beginning of a name is a prefix too, and a whole name is one of itself.
      expect(await list(`${folder}b`)).toEqual([`${folder}b-1`, `${folder}b/10`, `${folder}b/2`]);
      expect(await list(`${folder}a`)).toEqual([`${folder}a`]);
      expect(await list(`${folder}a/`)).toEqual([]);
    });

    test("lists the size of each object, and no longer what was removed", async () => {
      const folder = `s-${randomUUID()}/`;
      for (const bytes of [0, 1, 1000]) await store.create({ key: `${folder}${bytes}`, body: Buffer.alloc(bytes) });
      await store.remove({ key: `${folder}1` });
      const found: ObjectInfo[] = [];
      for await (const info of store.list({ prefix: folder })) found.push(info);
      expect(found).toMatchObject([
        { key: `${folder}0`, bytes: 0 },
        { key: `${folder}1000`, bytes: 1000 },
      ]);
    });

    test.each(["../x", "/x", "a//b", "a/./b", "a/../../b", "a\\b", "a\0b", ""])(
      "refuses the forged key %j",
      async (key) => {
        await expect(store.create({ key, body: Buffer.from("x") })).rejects.toMatchObject({ code: "store_refused" });
        await expect(store.read({ key })).rejects.toMatchObject({ code: "store_refused" });
        await expect(store.replace({ key, body: Buffer.from("x") })).rejects.toMatchObject({ code: "store_refused" });
        await expect(store.readVersion({ key })).rejects.toMatchObject({ code: "store_refused" });
        await expect(store.stat({ key })).rejects.toMatchObject({ code: "store_refused" });
        await expect(store.remove({ key })).rejects.toMatchObject({ code: "store_refused" });
      },
    );

    test("replaces, and removes what is there or not", async () => {
      const key = fresh();
      expect(await store.replace({ key, body: Buffer.from("one") })).toBe("replaced");
      expect(await store.replace({ key, body: Buffer.from("two") })).toBe("replaced");
      expect(Buffer.from(await store.read({ key })).toString()).toBe("two");
      await store.remove({ key });
      await store.remove({ key });
      expect(await store.stat({ key })).toBeNull();
      expect(await store.create({ key, body: Buffer.from("again") })).toBe("created");
    });

    test("says when an object was last written, in a listing as by itself", async () => {
      const folder = `m-${randomUUID()}/`;
      const key = `${folder}a`;
      const written = async (): Promise<number> => {
        for await (const info of store.list({ prefix: folder })) {
          const alone = (await store.stat({ key }))!.modifiedAtMs;
          // HTTP dates have whole seconds, listings milliseconds.
          expect(Math.abs(alone - info.modifiedAtMs)).toBeLessThan(1000);
          return info.modifiedAtMs;
        }
        throw new Error("nothing is listed");
      };
      await store.replace({ key, body: Buffer.from("one") });
      const first = await written();
      expect(Math.abs(first - Date.now())).toBeLessThan(60_000);
      await store.replace({ key, body: Buffer.from("two") });
      expect(await written()).toBeGreaterThanOrEqual(first);
    });

    test("replaces only the version that was named, or only what is not there", async () => {
      const key = fresh();
      const put = (text: string, ifVersion: string | null) =>
        store.replace({ key, body: Buffer.from(text), ifVersion });
      const now = async () => {
        const found = await store.readVersion({ key });
        return found === null ? null : { text: Buffer.from(found.body).toString(), version: found.version };
      };
      expect(await now()).toBeNull();
      expect(await put("none", "0123456789abcdef0123456789abcdef")).toBe("changed");
      expect(await now()).toBeNull();
      expect(await put("one", null)).toBe("replaced");
      expect(await put("other", null)).toBe("changed");
      const one = (await now())!;
      expect(one.text).toBe("one");
      expect(await put("two", one.version)).toBe("replaced");
      expect(await put("three", one.version)).toBe("changed");
      const two = (await now())!;
      expect(two.text).toBe("two");
      expect(two.version).not.toBe(one.version);
      expect((await now())!.version).toBe(two.version);
      await store.remove({ key });
      expect(await put("gone", two.version)).toBe("changed");
      expect(await store.stat({ key })).toBeNull();
      expect(await put("again", null)).toBe("replaced");
    });

    test("reads no version of an object larger than allowed", async () => {
      const key = fresh();
      await store.create({ key, body: Buffer.alloc(100) });
      await expect(store.readVersion({ key, maxBytes: 99 })).rejects.toMatchObject({ code: "object_corrupt" });
      expect((await store.readVersion({ key, maxBytes: 100 }))?.body).toHaveLength(100);
    });

    test.each(["of one version", "of nothing"])("lets one of sixteen racing replacements %s win, whole", async (of) => {
      const key = fresh();
      const other = await open(root);
      if (of === "of one version") await store.create({ key, body: Buffer.from("zero") });
      const ifVersion = (await store.readVersion({ key }))?.version ?? null;
      const bodies = Array.from({ length: 16 }, () => randomBytes(10_000));
      const outcomes = await Promise.all(
        bodies.map((body, index) => (index % 2 === 0 ? store : other).replace({ key, body, ifVersion })),
      );
      expect(outcomes.filter((outcome) => outcome === "replaced")).toHaveLength(1);
      expect(Buffer.compare(await store.read({ key }), bodies[outcomes.indexOf("replaced")]!)).toBe(0);
      await other.close();
    });

    test("loses no count of several who read, add and replace until it holds", async () => {
      const key = fresh();
      const other = await open(root);
      await store.create({ key, body: Buffer.from("0") });
      const add = async (user: ObjectStore): Promise<void> => {
        for (;;) {
          const { body, version } = (await user.readVersion({ key }))!;
          const next = Buffer.from(String(Number(Buffer.from(body).toString()) + 1));
          if ((await user.replace({ key, body: next, ifVersion: version })) === "replaced") return;
        }
      };
      await Promise.all(Array.from({ length: 8 }, (_, index) => add(index % 2 === 0 ? store : other)));
      expect(Buffer.from(await store.read({ key })).toString()).toBe("8");
      await other.close();
    });

    test("keeps stores of other names apart, and closes more than once", async () => {
      const other = await open(randomUUID());
      const key = fresh();
      await store.create({ key, body: Buffer.from("mine") });
      expect(await other.stat({ key })).toBeNull();
      await other.close();
      await other.close();
    });
  });
}
