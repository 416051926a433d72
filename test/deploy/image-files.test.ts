/** Every command starts from exactly the files that a Dockerfile copies into its image. */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));
const execute = promisify(execFile);

/** What the final stage copies, by its path in the image; the build stage has the repository's own layout. */
async function copiedFiles(dockerfile: string): Promise<string[]> {
  const text = await readFile(join(root, "infra/docker", dockerfile), "utf8");
  const lastStage = text.slice(text.lastIndexOf("\nFROM ")).split("\n");
  const copies = lastStage.filter((line) => line.startsWith("COPY ") && !line.includes("--from=node"));
  return copies.flatMap((line) => {
    const words = line.split(/\s+/).slice(1);
    return words
      .filter((word) => !word.startsWith("--"))
      .slice(0, -1)
      .map((path) => path.replace("/app/", ""));
  });
}

test("both images have the same files", async () => {
  expect(await copiedFiles("Dockerfile.cuda")).toEqual(await copiedFiles("Dockerfile"));
});

describe("from the files of an image", () => {
  let app = "";
  beforeAll(async () => {
    app = await mkdtemp(join(tmpdir(), "embedfleet-image-"));
    for (const path of await copiedFiles("Dockerfile")) {
      await mkdir(dirname(join(app, path)), { recursive: true });
      // The packages are the repository's; everything of ours is a copy, so that nothing beside it can be found.
      if (path === "node_modules") await symlink(join(root, path), join(app, path));
      else await cp(join(root, path), join(app, path), { recursive: true });
    }
    await rm(join(app, "dist/test"), { recursive: true, force: true });
    await mkdir(join(app, "data"));
    await writeFile(
      join(app, "data/corpus.jsonl"),
      '{"id":"a","text":"a lighthouse"}\n{"id":"b","text":"a harbour"}\n',
    );
  });
  afterAll(() => rm(app, { recursive: true, force: true }));

  const main = (): string => join(app, "dist/src/cli/main.js");
  const environment = (): NodeJS.ProcessEnv => ({ PATH: process.env["PATH"], HOME: join(app, "home") });

  async function embedfleet(...args: string[]): Promise<string> {
    const options = { cwd: join(app, "data"), env: environment() };
    return (await execute(process.execPath, [main(), ...args], options)).stdout;
  }

  test("a run, from the corpus to what is read of it", async () => {
    const made = await embedfleet("run", "corpus.jsonl", "--out", "out", "--run", "r", "--json");
    expect(JSON.parse(made)).toMatchObject({ state: "sealed", rows: 2 });
    expect(await embedfleet("verify", "out", "r")).toContain("ok");
    expect(await embedfleet("search", "out", "lighthouse")).toMatch(/^[\d.]+ {2}a/);
    expect(await embedfleet("status", "r", "--out", "out")).toContain("sealed");
    await embedfleet("report", "r", "--out", "out", "--file", "report.html");
    expect(await readFile(join(app, "data/report.html"), "utf8")).toContain("</html>");
    await embedfleet("export", "out", "r", "--to", "jsonl", "--dest", "exported");
    // ONNX Runtime would keep its telemetry there.
    expect(await readdir(join(app, "home/.cache"))).toEqual(["embedfleet"]);
    expect(JSON.parse(await embedfleet("models", "list", "--json"))).toContainEqual(
      expect.objectContaining({ id: "mini" }),
    );
  });

  test("control serves its dashboard", async () => {
    const args = ["control", "--out", "out-control", "--redis", inject("redisUrl"), "--port", "0"];
    const fleet = ["--fleet", `image-${process.pid}`];
    const child = spawn(process.execPath, [main(), ...args, ...fleet, "--allow-volatile-redis"], {
      cwd: join(app, "data"),
      env: environment(),
    });
    try {
      let said = "";
      child.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
      let url: string | undefined;
      while (url === undefined) {
        const [chunk] = (await Promise.race([
          once(child.stdout, "data"),
          once(child, "exit").then(() => Promise.reject(new Error(`control ended:\n${said}`))),
        ])) as [Buffer];
        url = /http:\/\/[\d.:]+/.exec(chunk.toString())?.[0];
      }
      for (const [path, text] of [
        ["/", "<title>"],
        ["/main.js", "import"],
        ["/style.css", "{"],
      ] as const) {
        const answer = await fetch(url + path);
        expect(answer.status, path).toBe(200);
        expect(await answer.text()).toContain(text);
      }
    } finally {
      child.kill("SIGKILL");
    }
  });
});
