/** The shape of the house: which room may import which, and how long a file may be. */
import { readdir, readFile } from "node:fs/promises";
import { join, posix } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));
const MAX_LINES = 400;

/** What each room may import besides itself. */
const ALLOWED: Record<string, readonly string[]> = {
  "src/core": [],
  "src/arrow": ["src/core"],
  "src/adapters": ["src/core"],
  "src/telemetry": ["src/core"],
  "src/run": ["src/core", "src/arrow", "src/adapters"],
  "src/report": ["src/core", "src/arrow", "src/run"],
  "src/control": ["src/core", "src/adapters", "src/run", "src/telemetry"],
  // Composes the rooms for the command line and for library users alike; src/config.ts has the defaults.
  "src/fleet": [
    "src/core",
    "src/arrow",
    "src/adapters",
    "src/run",
    "src/telemetry",
    "src/config.ts",
    "models",
    "producers",
    "workers",
  ],
  models: ["src/core"],
  producers: ["src/core", "src/arrow", "src/adapters", "src/run", "models"],
  workers: ["src/core", "src/arrow", "src/adapters", "src/run", "models"],
};

async function sourcesOf(room: string): Promise<string[]> {
  const entries = await readdir(join(root, room), { recursive: true });
  return entries.filter((name) => name.endsWith(".ts")).map((name) => posix.join(room, name));
}

function roomOf(path: string): string {
  const [first = "", second = ""] = path.split("/");
  return first === "src" ? `src/${second}` : first;
}

function importsOf(file: string, text: string): string[] {
  return [...text.matchAll(/from "(\.[^"]+)"/g)].map((match) => posix.join(posix.dirname(file), match[1]!));
}

test.each(Object.keys(ALLOWED))("%s imports only what it may", async (room) => {
  const files = await sourcesOf(room);
  expect(files.length).toBeGreaterThan(0);
  for (const file of files) {
    const text = await readFile(join(root, file), "utf8");
    const forbidden = importsOf(file, text).filter(
      (path) => roomOf(path) !== room && !ALLOWED[room]!.includes(roomOf(path)),
    );
    expect(forbidden, file).toEqual([]);
  }
});

test("only models imports the runtime", async () => {
  const files = (await Promise.all(["src", "producers", "workers"].map(sourcesOf))).flat();
  expect(files.length).toBeGreaterThan(30);
  for (const file of files) expect(await readFile(join(root, file), "utf8"), file).not.toContain("onnxruntime-node");
});

test("no file is longer than a reader likes", async () => {
  const files = (await Promise.all(["src", "producers", "workers", "models", "test"].map(sourcesOf))).flat();
  for (const file of files) {
    expect((await readFile(join(root, file), "utf8")).split("\n").length, file).toBeLessThanOrEqual(MAX_LINES + 1);
  }
});
