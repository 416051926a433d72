/** The lock of an object in a file store, when its holder was killed or frozen. */
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { makeEmpty } from "../../src/adapters/file/file-io.ts";
import { publishLocked, takeLock } from "../../src/adapters/file/file-lock.ts";
import { openStore } from "../../src/adapters/open-store.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

const key = "state.json";

test("a killed holder's lock is taken over after seconds, by one of many, and a frozen one comes too late", async () => {
  const root = await tempFolder();
  const stores = await Promise.all(Array.from({ length: 4 }, () => openStore(root)));
  await stores[0]!.create({ key, body: Buffer.from("0") });
  const ifVersion = (await stores[0]!.readVersion({ key }))!.version;
  const temps = join(root, ".tmp");
  const frozen = await takeLock({ folder: temps, key, make: (path) => writeFile(path, "frozen", { flag: "wx" }) });
  const startedAt = performance.now();
  const bodies = Array.from({ length: 16 }, (_, index) => Buffer.from(String(index + 1)));
  const outcomes = await Promise.all(
    bodies.map((body, index) => stores[index % stores.length]!.replace({ key, body, ifVersion })),
  );
  expect(performance.now() - startedAt).toBeGreaterThan(4000);
  expect(outcomes.filter((outcome) => outcome === "replaced")).toHaveLength(1);
  const winner = bodies[outcomes.indexOf("replaced")]!.toString();
  expect(await readFile(join(root, key), "utf8")).toBe(winner);
  // It wakes up and believes that it still holds the lock.
  expect(await publishLocked(frozen, join(root, key))).toBe(false);
  expect(await readFile(join(root, key), "utf8")).toBe(winner);
  expect(await readdir(temps)).toEqual(["store-id"]);
});

test("locks of one object are held one at a time, and those of others at the same time", async () => {
  const folder = join(await tempFolder(), ".tmp");
  await mkdir(folder);
  const first = await takeLock({ folder, key, make: makeEmpty });
  const other = await takeLock({ folder, key: "other.json", make: makeEmpty });
  let isHeld = false;
  const second = takeLock({ folder, key, make: makeEmpty }).then((lock) => ((isHeld = true), lock));
  expect(await publishLocked(other, join(folder, "other"))).toBe(true);
  expect(isHeld).toBe(false);
  expect(await publishLocked(first, join(folder, "first"))).toBe(true);
  expect((await second).path).toBe(first.path);
});
