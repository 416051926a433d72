/** Worker processes are told by their parent what to do, and not a second time by its environment. */
import { randomUUID } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { createServer, type AddressInfo } from "node:net";
import { join } from "node:path";
import { expect, inject, test } from "vitest";
import { cli, startCli } from "../fixtures/cli.ts";
import { makeCorpus } from "../fixtures/made-corpus.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function childrenOf(pid: number): Promise<number[]> {
  return (await readFile(`/proc/${pid}/task/${pid}/children`, "utf8")).split(" ").filter(Boolean).map(Number);
}

test("run serves its metrics on the port of the variable, and its workers leave it alone", async () => {
  const folder = await tempFolder();
  const corpus = join(folder, "corpus.jsonl");
  await writeFile(corpus, makeCorpus({ documents: 20, seed: 5, maxWords: 20 }));
  const env = {
    EMBEDFLEET_METRICS_PORT: String(await freePort()),
    EMBEDFLEET_OUT: join(folder, "out"),
    EMBEDFLEET_WORKERS: "2",
    EMBEDFLEET_THREADS: "1",
    EMBEDFLEET_HEADS: "dense",
    EMBEDFLEET_TOKEN: "a token of this test",
    EMBEDFLEET_JSON: "true",
  };
  const { code, stdout, stderr } = await cli(["run", corpus], env);
  expect(code, stderr).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ state: "sealed", rows: 20 });
});

test("work with EMBEDFLEET_WORKERS starts so many, which start none and know no variable of it", async () => {
  const env = {
    EMBEDFLEET_WORKERS: "2",
    EMBEDFLEET_METRICS_PORT: "0",
    EMBEDFLEET_OUT: await tempFolder(),
    EMBEDFLEET_FLEET: randomUUID(),
    EMBEDFLEET_THREADS: "1",
    EMBEDFLEET_JSON: "true",
    REDIS_URL: inject("redisUrl"),
  };
  const { child, finished } = startCli(["work"], env);
  await new Promise<void>((resolve) => {
    let said = "";
    child.stderr!.on("data", (chunk: Buffer) => {
      said += chunk.toString();
      if (said.split("the worker is ready").length > 2) resolve();
    });
    child.once("exit", resolve);
  });
  const workers = await childrenOf(child.pid!);
  expect(workers).toHaveLength(2);
  for (const pid of workers) {
    expect(await childrenOf(pid)).toEqual([]);
    expect(await readFile(`/proc/${pid}/environ`, "utf8")).not.toContain("EMBEDFLEET_");
    expect(await readFile(`/proc/${pid}/cmdline`, "utf8")).not.toContain(env.REDIS_URL);
  }
  child.kill("SIGTERM");
  const { code, stdout, stderr } = await finished;
  expect(code, stderr).toBe(0);
  expect(stdout.match(/"worker":/g)).toHaveLength(2);
});
