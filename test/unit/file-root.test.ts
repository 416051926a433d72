/** A file store whose folder is away, another one, or cannot be made or written. */
import { execFileSync } from "node:child_process";
import { cp, mkdir, readdir, rename, rm, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { FileStore } from "../../src/adapters/file/file-store.ts";
import { openStore } from "../../src/adapters/open-store.ts";
import type { ObjectStore } from "../../src/core/ports.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

const body = Buffer.from("x");
const key = "runs/r/data/a";

async function listed(store: ObjectStore): Promise<string[]> {
  const keys: string[] = [];
  for await (const info of store.list({ prefix: "" })) keys.push(info.key);
  return keys;
}

const CALLS: Readonly<Record<string, (store: ObjectStore) => Promise<unknown>>> = {
  create: (store) => store.create({ key: "runs/r/data/b", body }),
  replace: (store) => store.replace({ key, body }),
  "replace of nothing": (store) => store.replace({ key, body, ifVersion: null }),
  "replace of a version": async (store) => store.replace({ key, body, ifVersion: "v" }),
  read: (store) => store.read({ key }),
  readVersion: (store) => store.readVersion({ key }),
  stat: (store) => store.stat({ key }),
  list: listed,
  remove: (store) => store.remove({ key }),
};

async function madeStore(): Promise<{ root: string; store: ObjectStore }> {
  const root = join(await tempFolder(), "out");
  const maker = await openStore(root);
  await maker.create({ key, body });
  // As a worker opens it, and looks at it.
  const store = await openStore(root, { makeRoot: false });
  expect(await listed(store)).toEqual([key]);
  return { root, store };
}

const isThere = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

describe("a folder that vanishes while a process works on it", () => {
  test.each(Object.keys(CALLS))("is a fault at %s, and not made again", async (name) => {
    const { root, store } = await madeStore();
    await rm(root, { recursive: true });
    const fault = {
      code: "store_unavailable",
      message: expect.stringContaining(root),
      cure: expect.stringMatching(/mount/),
    };
    await expect(CALLS[name]!(store)).rejects.toMatchObject(fault);
    await expect(CALLS[name]!(store)).rejects.toMatchObject(fault);
    expect(await isThere(root)).toBe(false);
  });

  test("is not made again by the process that made it, either", async () => {
    const root = join(await tempFolder(), "out");
    const store = await openStore(root);
    await store.create({ key, body });
    await rm(root, { recursive: true });
    await expect(store.create({ key, body })).rejects.toMatchObject({ code: "store_unavailable" });
    expect(await isThere(root)).toBe(false);
  });

  test.each(Object.keys(CALLS))(
    "and leaves an empty mount point is a fault at %s, and nothing is written there",
    async (name) => {
      const { root, store } = await madeStore();
      await rename(root, `${root}-away`);
      await mkdir(root);
      await expect(CALLS[name]!(store)).rejects.toMatchObject({ code: "store_unavailable" });
      expect(await readdir(root)).toEqual([]);
      // Mounted again.
      await rm(root, { recursive: true });
      await rename(`${root}-away`, root);
      expect(await listed(store)).toEqual([key]);
      expect(await store.create({ key, body })).toBe("exists");
    },
  );

  test("is known again on another device or inode, and a store made in its place is not it", async () => {
    const { root, store } = await madeStore();
    await cp(root, `${root}-moved`, { recursive: true });
    await rename(root, `${root}-away`);
    await rename(`${root}-moved`, root);
    expect(await listed(store)).toEqual([key]);
    await rename(root, `${root}-moved`);
    await (await openStore(root)).create({ key, body });
    await expect(listed(store)).rejects.toMatchObject({
      code: "store_unavailable",
      message: expect.stringMatching(/not the same folder/),
    });
  });
});

describe("a folder that is not there from the start", () => {
  test("is made once by what begins a store, also by several writes at once", async () => {
    const root = join(await tempFolder(), "a", "b", "out");
    const store = await openStore(root);
    const outcomes = await Promise.all(Array.from({ length: 16 }, () => store.create({ key, body })));
    expect(outcomes.filter((outcome) => outcome === "created")).toHaveLength(1);
    expect(await listed(await openStore(root))).toEqual([key]);
  });

  test("is not made by what works on a store, which says what to do", async () => {
    const root = join(await tempFolder(), "out");
    const store = new FileStore(root, { makeRoot: false, waitMs: 1 });
    const fault = {
      code: "store_refused",
      message: expect.stringContaining(root),
      cure: expect.stringMatching(/mount.*enqueue/),
    };
    await expect(store.create({ key, body })).rejects.toMatchObject(fault);
    await expect(store.replace({ key, body })).rejects.toMatchObject(fault);
    expect(await isThere(root)).toBe(false);
    // It is there to be looked at: a store without objects.
    expect(await listed(store)).toEqual([]);
    expect(await store.stat({ key })).toBeNull();
    await (await openStore(root)).create({ key, body });
    expect(await store.create({ key, body })).toBe("exists");
  });

  test.each(["create", "list", "stat"])(
    "because a file lies in its place or above it is refused at %s",
    async (name) => {
      const folder = await tempFolder();
      await writeFile(join(folder, "file"), "");
      for (const path of [join(folder, "file"), join(folder, "file", "out")])
        await expect(CALLS[name]!(await openStore(path))).rejects.toMatchObject({
          code: "store_refused",
          cure: expect.stringMatching(/there is a file in place of a folder/),
        });
    },
  );

  test("because a link leads nowhere is refused", async () => {
    const root = join(await tempFolder(), "out");
    await symlink(`${root}-nowhere`, root);
    await expect(new FileStore(root, { waitMs: 1 }).create({ key, body })).rejects.toMatchObject({
      code: "store_refused",
    });
  });

  test.runIf(process.platform === "linux")("on a file system that makes none is a fault that ends", async () => {
    const code = expect.stringMatching(/store_(?:refused|unavailable)/);
    await expect((await openStore("/proc/none/out")).create({ key, body })).rejects.toMatchObject({ code });
  });
});

const isRoot = process.getuid?.() === 0;
describe.skipIf(!isRoot)("a read-only disk (needs root, to mount it)", () => {
  async function readOnlyDisk(prepare: (path: string) => Promise<void> = async () => {}): Promise<string> {
    const path = await tempFolder();
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "embedfleet-test", path]);
    onTestFinished(() => void execFileSync("umount", ["--lazy", path]));
    await prepare(path);
    execFileSync("mount", ["-o", "remount,ro", path]);
    return path;
  }
  const fault = {
    code: "store_refused",
    message: expect.stringContaining("EROFS"),
    cure: expect.stringMatching(/read-only/),
  };

  test("is named where the store's folder cannot be made", async () => {
    const disk = await readOnlyDisk();
    for (const path of [disk, join(disk, "out"), join(disk, "a", "b", "out")])
      await expect((await openStore(path)).create({ key, body })).rejects.toMatchObject(fault);
  });

  test("is named at each write into a store, which can still be read", async () => {
    const disk = await readOnlyDisk(async (path) => void (await (await openStore(path)).create({ key, body })));
    const store = await openStore(disk);
    for (const name of ["create", "replace", "replace of nothing", "remove"])
      await expect(CALLS[name]!(store), name).rejects.toMatchObject(fault);
    expect(await listed(store)).toEqual([key]);
  });
});

describe.skipIf(!isRoot)("a disk that is unmounted and mounted again (needs root)", () => {
  test("is missed, not replaced by the folder below, and goes on when it is back", async () => {
    const [disk, root] = [await tempFolder(), await tempFolder()];
    execFileSync("mount", ["--bind", disk, root]);
    onTestFinished(() => void execFileSync("umount", ["--lazy", root]));
    const store = await openStore(root);
    await store.create({ key, body });
    execFileSync("umount", [root]);
    for (const [name, call] of Object.entries(CALLS))
      await expect(call(store), name).rejects.toMatchObject({ code: "store_unavailable" });
    expect(await readdir(root)).toEqual([]);
    execFileSync("mount", ["--bind", disk, root]);
    expect(await listed(store)).toEqual([key]);
  });
});
