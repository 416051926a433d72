/** Installing the package behind a closed network, where ONNX Runtime's feed of libraries for GPUs cannot be reached. */
import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));
/** Two installations, each of 140 packages. */
const INSTALL_MS = 900_000;

/** The proxy that ONNX Runtime's script uses, and npm does not: it notes every request and refuses it. */
const asked: string[] = [];
const feed = createServer().on("connect", ({ url = "" }, socket) => {
  asked.push(url);
  socket.end("HTTP/1.1 503 Closed\r\n\r\n");
});
let folder = "";
let tarball = "";

beforeAll(async () => {
  feed.listen(0, "127.0.0.1");
  await once(feed, "listening");
  folder = await mkdtemp(join(tmpdir(), "embedfleet-install-"));
  const pack = ["pack", "--ignore-scripts", "--json", "--pack-destination", folder];
  const [packed] = JSON.parse((await promisify(execFile)("npm", pack, { cwd: root })).stdout) as [{ filename: string }];
  tarball = join(folder, packed.filename);
});
afterAll(async () => {
  feed.close();
  await rm(folder, { recursive: true, force: true });
});

/** In an empty folder, with no setting of npm, ONNX Runtime or embedfleet but the closed feed. */
async function inFolder(name: string, command: string, args: readonly string[]): Promise<string> {
  const cwd = join(folder, name);
  await mkdir(cwd, { recursive: true });
  const kept = Object.entries(process.env).filter(([key]) => !/^(?:npm_|ONNXRUNTIME_|EMBEDFLEET_)/i.test(key));
  const proxy = `http://127.0.0.1:${(feed.address() as AddressInfo).port}`;
  const env = { ...Object.fromEntries(kept), GLOBAL_AGENT_HTTP_PROXY: proxy, npm_config_ignore_scripts: "false" };
  return (await promisify(execFile)(command, args, { cwd, env })).stdout;
}

test(
  "npm install needs no feed, the command runs, and the libraries for GPUs are a step of their own",
  async () => {
    await inFolder("project", "npm", ["install", "--prefer-offline", "--no-audit", "--no-fund", tarball]);
    expect(asked).toEqual([]);

    await writeFile(join(folder, "project/corpus.jsonl"), '{"id":"a","text":"a lighthouse"}\n');
    const npx = (...args: string[]): Promise<string> => inFolder("project", "npx", ["embedfleet", ...args]);
    const made = await npx("run", "corpus.jsonl", "--out", "out", "--json", "--log-level", "silent");
    expect(JSON.parse(made)).toMatchObject({ state: "sealed", rows: 1 });

    if (process.platform !== "linux" || process.arch !== "x64") return;
    const library = "libonnxruntime_providers_cuda.so";
    expect(JSON.parse(await npx("doctor", "--json"))).toMatchObject({
      devices: ["cpu"],
      gpuLibraries: { installed: [], missing: expect.arrayContaining([library]) as string[] },
    });
    await expect(npx("doctor", "--install-gpu")).rejects.toMatchObject({
      code: 1,
      stderr: expect.stringMatching(new RegExp(`libraries for GPUs are not installed\n.*copy ${library}`)) as string,
    });
    expect(asked.length).toBeGreaterThan(0);
  },
  INSTALL_MS,
);

test(
  "npx runs the command from the tarball in an empty folder",
  async () => {
    const before = asked.length;
    const npx = ["--yes", "--prefer-offline", "--package", tarball, "embedfleet"];
    expect(await inFolder("empty", "npx", [...npx, "--version"])).toMatch(/^\d+\.\d+\.\d+\n$/);
    expect(await inFolder("empty", "npx", [...npx, "--help"])).toContain("Usage: embedfleet");
    expect(asked).toHaveLength(before);
  },
  INSTALL_MS,
);
