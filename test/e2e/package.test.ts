/** What npm would publish, unpacked into an empty project: as a library, typed, and as a command. */
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { publint } from "publint";
import { formatMessage } from "publint/utils";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startRedis } from "../fixtures/redis-server.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const execute = promisify(execFile);
let project = "";
let tarball = "";

beforeAll(async () => {
  project = await mkdtemp(join(tmpdir(), "embedfleet-package-"));
  const pack = ["pack", "--ignore-scripts", "--json", "--pack-destination", project];
  const [packed] = JSON.parse((await execute("npm", pack, { cwd: root })).stdout) as [{ filename: string }];
  tarball = join(project, packed.filename);
  await mkdir(join(project, "node_modules/embedfleet"), { recursive: true });
  await execute("tar", ["-xzf", tarball, "--strip-components=1", "-C", join(project, "node_modules/embedfleet")]);
  await linkDependencies();
  await writeFile(join(project, "package.json"), '{"name":"consumer","private":true,"type":"module"}');
  await writeFile(join(project, "corpus.jsonl"), '{"id":"a","text":"a lighthouse"}\n{"id":"b","text":"a harbour"}\n');
});
afterAll(() => rm(project, { recursive: true, force: true }));

/** As an installation would, and no more: what only the repository's development needs is not there. */
async function linkDependencies(): Promise<void> {
  const { packages } = JSON.parse(await readFile(join(root, "package-lock.json"), "utf8")) as {
    packages: Record<string, { dev?: boolean }>;
  };
  const isTopmost = (path: string): boolean => /^node_modules\/(?:@[^/]+\/)?[^/]+$/.test(path);
  const needed = Object.entries(packages).filter(([path, { dev }]) => isTopmost(path) && dev !== true);
  // The consumer's own, for `process`.
  for (const path of [...needed.map(([path]) => path), "node_modules/@types/node"]) {
    const link = join(project, path);
    await mkdir(dirname(link), { recursive: true });
    await symlink(join(root, path), link).catch(ignoreExisting);
  }
}

function ignoreExisting(error: NodeJS.ErrnoException): void {
  if (error.code !== "EEXIST") throw error;
}

/** In the project, with nothing of this process's settings but its caches. */
async function node(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<string> {
  const all = { ...process.env, XDG_CACHE_HOME: join(project, "cache"), ...env };
  return (await execute(process.execPath, args, { cwd: project, env: all })).stdout;
}

function command(...args: string[]): Promise<string> {
  return node([join(project, "node_modules/embedfleet/dist/src/cli/main.js"), ...args]);
}

test("publint finds nothing to say", async () => {
  const bytes = await readFile(tarball);
  const pack = { tarball: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) };
  const { messages, pkg } = await publint({ pack, level: "warning", strict: true });
  expect(messages.map((message) => formatMessage(message, pkg, { color: false }))).toEqual([]);
});

test("the README's program is typed, runs, and ends verified", async () => {
  const readme = await readFile(join(project, "node_modules/embedfleet/README.md"), "utf8");
  const program = /```ts\n(import .*?)```/s.exec(readme)![1]!;
  await writeFile(join(project, "main.ts"), program);
  const compilerOptions = {
    target: "es2023",
    module: "nodenext",
    strict: true,
    exactOptionalPropertyTypes: true,
    types: ["node"],
    skipLibCheck: true,
    outDir: "built",
  };
  await writeFile(join(project, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["main.ts"] }));
  await node([join(root, "node_modules/typescript/bin/tsc"), "-p", "tsconfig.json"]);
  const redis = await startRedis();
  try {
    const said = await node(["built/main.js"], { REDIS_URL: redis.url });
    expect(said).toBe("2 documents, 2 rows, sealed, verified\n");
  } finally {
    await redis.stop();
  }
});

test("the parts below are apart, and each record has a JSON Schema", async () => {
  const program = `
    import * as stable from "embedfleet";
    import { FleetWorker, runRecordSchema } from "embedfleet/unstable";
    import schema from "embedfleet/schemas/run-record.json" with { type: "json" };
    const names = Object.keys(stable).filter((name) => /Schema$|^[A-Z_]+$/.test(name));
    console.log(typeof FleetWorker, typeof runRecordSchema.parse, schema.title, names.length);`;
  await writeFile(join(project, "parts.mjs"), program);
  expect(await node(["parts.mjs"])).toBe("function function runs/<run>/run.json 0\n");
});

test("a wrong type is refused by the compiler", async () => {
  const program = 'import { startWorker } from "embedfleet";\nawait startWorker({ out: "x", redis: 1 });\n';
  await writeFile(join(project, "wrong.ts"), program);
  const options = ["--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "--target", "es2023"];
  const args = [join(root, "node_modules/typescript/bin/tsc"), "--ignoreConfig", ...options, "wrong.ts"];
  await expect(node(args)).rejects.toMatchObject({
    stdout: expect.stringContaining("Type 'number' is not assignable to type 'string'") as string,
  });
});

test("the command runs from the package", async () => {
  expect(await command("--help")).toContain("Usage: embedfleet");
  const models = JSON.parse(await command("models", "list", "--json")) as { id: string }[];
  expect(models.map(({ id }) => id)).toEqual(expect.arrayContaining(["mini", "bge-m3"]));
  const made = await command("run", "corpus.jsonl", "--out", "out/run", "--json", "--log-level", "silent");
  expect(JSON.parse(made)).toMatchObject({ state: "sealed", documents: 2, rows: 2 });
});

test("files that are read and not imported came along", async () => {
  const files = [
    "dist/src/control/dashboard/index.html",
    "dist/src/control/dashboard/main.js",
    "models/export/requirements.txt",
  ];
  for (const file of [...files, "models/manifests/bge-m3.json", "infra/lancedb/package-lock.json"])
    expect((await readFile(join(project, "node_modules/embedfleet", file))).length, file).toBeGreaterThan(0);
  const folders = await readdir(join(project, "node_modules/embedfleet"));
  expect(folders).not.toContain("test");
});
