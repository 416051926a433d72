/** The shape of the house: which room may import which, and how long a file may be. */
import { readdir, readFile } from "node:fs/promises";
import { join, posix } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));
const MAX_LINES = 400;

/** What each folder may import besides itself: everything points downwards in this list's order. */
const ALLOWED: Record<string, readonly string[]> = {
  "src/core": [],
  "src/arrow": ["src/core"],
  "src/disk": ["src/core"],
  "src/adapters": ["src/core"],
  "src/telemetry": ["src/core"],
  models: ["src/core"],
  "src/run": ["src/core", "src/arrow", "src/disk"],
  "src/results": ["src/core", "src/arrow", "src/run", "models"],
  producers: ["src/core", "src/arrow", "src/disk", "src/adapters", "src/run", "models"],
  workers: ["src/core", "src/arrow", "src/disk", "src/run", "models"],
  "src/report": ["src/core", "src/arrow", "src/run"],
  "src/control": ["src/core", "src/telemetry", "src/run"],
  // Composes the others for the command line and for library users alike.
  "src/fleet": [
    "src/core",
    "src/arrow",
    "src/disk",
    "src/adapters",
    "src/telemetry",
    "models",
    "src/run",
    "src/results",
    "producers",
    "workers",
    "src/report",
    "src/control",
  ],
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

test("no file imports itself by way of others", async () => {
  const imports = new Map<string, string[]>();
  for (const file of (await Promise.all(["src", "producers", "workers", "models"].map(sourcesOf))).flat())
    imports.set(file, importsOf(file, await readFile(join(root, file), "utf8")));
  const finished = new Set<string>();
  const visit = (file: string, path: readonly string[]): void => {
    expect(path, "a circle of imports").not.toContain(file);
    if (finished.has(file)) return;
    for (const imported of imports.get(file) ?? []) visit(imported, [...path, file]);
    finished.add(file);
  };
  for (const file of imports.keys()) visit(file, []);
});

test("a file's name says one thing", async () => {
  const files = (await Promise.all(["src", "producers", "workers", "models"].map(sourcesOf))).flat();
  const names = files.filter((file) => !file.startsWith("src/cli/commands/")).map((file) => posix.basename(file));
  expect(names.filter((name, i) => names.indexOf(name) !== i)).toEqual([]);
});

/** The command line reads the environment; a child process is given the rest of it; S3 servers have variables of AWS's. */
const READ_ENVIRONMENT = [
  "src/core/child-environment.ts",
  "src/adapters/s3/s3-client.ts",
  "models/onnx/no-telemetry.ts",
];

test("only the command line reads the environment and knows commander", async () => {
  const files = (await Promise.all(["src", "producers", "workers", "models"].map(sourcesOf))).flat();
  const library = files.filter((file) => !file.startsWith("src/cli/"));
  expect(library.length).toBeGreaterThan(100);
  for (const file of library) {
    const text = await readFile(join(root, file), "utf8");
    expect(text, file).not.toMatch(/from "commander"|from "[./]+\/cli\//);
    if (!READ_ENVIRONMENT.includes(file))
      expect(text, file).not.toMatch(/process\.env|\benv\b[^"]*= process;|loadEnvFile/);
  }
});

test("a process is started with an environment that was chosen for it", async () => {
  const files = (await Promise.all(["src", "producers", "workers", "models"].map(sourcesOf))).flat();
  const starting = /(?<![.\w])(?:spawn|spawnSync|fork|exec|execFile|execSync|execFileSync)\(/g;
  let started = 0;
  for (const file of files) {
    const text = await readFile(join(root, file), "utf8");
    if (!text.includes('"node:child_process"')) continue;
    for (const { index } of text.matchAll(starting)) {
      started++;
      // Its options, which end with the statement.
      expect(text.slice(index, text.indexOf(";\n", index)), file).toMatch(/\benv\b/);
    }
  }
  expect(started).toBeGreaterThan(4);
});

test("only models/onnx imports its runtime, and only the choice of an engine imports models/onnx", async () => {
  const files = (await Promise.all(["src", "producers", "workers", "models"].map(sourcesOf))).flat();
  const others = files.filter((file) => !file.startsWith("models/onnx/"));
  expect(others.length).toBeGreaterThan(200);
  for (const file of others) {
    const text = await readFile(join(root, file), "utf8");
    expect(text, file).not.toContain("onnxruntime-node");
    if (file === "models/choose-engine.ts") continue;
    const imported = importsOf(file, text).filter((path) => path.startsWith("models/onnx/"));
    expect(imported, file).toEqual([]);
  }
});

/** Folders that only one file outside of them may import: what opens their ports. */
const BEHIND_A_DOOR: Record<string, string> = { "src/adapters/redis": "src/adapters/open-queue.ts" };

test.each(Object.entries(BEHIND_A_DOOR))("%s is imported by %s alone", async (folder, door) => {
  const files = (await Promise.all(["src", "producers", "workers", "models"].map(sourcesOf))).flat();
  const importers: string[] = [];
  for (const file of files.filter((name) => !name.startsWith(`${folder}/`))) {
    const imports = importsOf(file, await readFile(join(root, file), "utf8"));
    if (imports.some((path) => path.startsWith(`${folder}/`))) importers.push(file);
  }
  expect(importers).toEqual([door]);
});

test("only adapters, and control's view of raw queues, import the queue's libraries", async () => {
  const files = (await Promise.all(["src", "producers", "workers", "models"].map(sourcesOf))).flat();
  const importers: string[] = [];
  for (const file of files.filter((name) => !name.startsWith("src/adapters/")))
    if (/from "(?:bullmq|ioredis)"/.test(await readFile(join(root, file), "utf8"))) importers.push(file);
  expect(importers).toEqual(["src/control/board.ts"]);
});

test("no file is longer than a reader likes", async () => {
  const files = (await Promise.all(["src", "producers", "workers", "models", "test"].map(sourcesOf))).flat();
  for (const file of files) {
    expect((await readFile(join(root, file), "utf8")).split("\n").length, file).toBeLessThanOrEqual(MAX_LINES + 1);
  }
});
