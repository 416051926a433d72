/** Every command against a Redis that takes connections and never answers, and a worker whose Redis falls silent. */
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { expect, onTestFinished, test } from "vitest";
import { cli, startCli } from "../fixtures/cli.ts";
import { makeCorpus } from "../fixtures/made-corpus.ts";
import { startRedis } from "../fixtures/redis-server.ts";
import { TcpProxy } from "../fixtures/tcp-proxy.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

test("every command ends, with what was tried; a worker whose Redis falls silent says so, and is unhealthy", async () => {
  const folder = await tempFolder();
  const corpus = join(folder, "corpus.jsonl");
  await writeFile(corpus, makeCorpus({ documents: 5, seed: 6, maxWords: 20 }));
  const redis = await startRedis();
  onTestFinished(() => redis.stop());
  const mute = createServer(() => {});
  mute.listen(0, "127.0.0.1");
  onTestFinished(() => void mute.close());
  await once(mute, "listening");
  const proxy = await TcpProxy.start(redis.port);
  onTestFinished(() => proxy.close());
  const common = ["--out", join(folder, "out"), "--log-level", "warn"];
  const enqueued = await cli(["enqueue", corpus, ...common, "--run", "r", "--redis", redis.url]);
  expect(enqueued.code, enqueued.stderr).toBe(0);

  const locks = ["--lock-seconds", "3", "--threads", "1", "--metrics-port", "0", "--log-level", "info"];
  const worker = startCli(["work", ...common, ...locks, "--redis", proxy.url]);
  onTestFinished(() => void worker.child.kill("SIGKILL"));
  const lines = createInterface({ input: worker.child.stderr! })[Symbol.asyncIterator]();
  const logged = async (message: string): Promise<Record<string, unknown>> => {
    for (;;) {
      const { value, done } = await lines.next();
      if (done === true) throw new Error(`the worker ended without ${message}`);
      const fields = JSON.parse(value) as Record<string, unknown>;
      if (String(fields["msg"]).includes(message)) return fields;
    }
  };
  const { url } = await logged("metrics are served");
  const health = async (): Promise<unknown> =>
    (await fetch(String(url).replace("/metrics", "/healthz"))).json().catch(() => null);
  await logged("the run is sealed");
  expect(await health()).toMatchObject({ status: "ok" });
  proxy.swallow();

  const silent = `redis://me:SECRET@127.0.0.1:${(mute.address() as AddressInfo).port}`;
  const commands = [
    ["enqueue", corpus, "--run", "s"],
    ["work", "--threads", "1"],
    ["control", "--port", "0"],
    ["produce", "r"],
    ["status", "r"],
    ["cancel", "r", "--yes"],
  ];
  const ended = await Promise.all(commands.map((command) => cli([...command, ...common], { REDIS_URL: silent })));
  for (const [i, { code, stdout, stderr }] of ended.entries()) {
    expect(code, commands[i]![0]).toBe(1);
    expect(stderr, commands[i]![0]).toContain("did not answer within 10 s: it accepted the connection");
    expect(stdout + stderr).not.toContain("SECRET");
  }

  const { level, silentSeconds } = await logged("Redis does not answer");
  expect(level).toBe(40);
  expect(silentSeconds).toBeGreaterThanOrEqual(5);
  await expect.poll(health, { timeout: 30_000 }).toMatchObject({ status: "Redis does not answer" });
  proxy.pass();
  await logged("Redis answers again");
  expect(await health()).toMatchObject({ status: "ok", redisSilentSeconds: 0 });
  worker.child.kill("SIGTERM");
  expect((await worker.finished).code).toBe(0);
});
