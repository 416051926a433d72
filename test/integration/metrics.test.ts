/** Metrics of real processes: scraped while a worker works, pushed when a producer ends. */
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { expect, inject, onTestFinished, test } from "vitest";
import { startCli } from "../fixtures/cli.ts";
import { makeCorpus } from "../fixtures/made-corpus.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

interface Pushed {
  readonly method: string;
  readonly path: string;
  readonly body: string;
}

/** Takes what a Pushgateway would. */
async function startGateway(): Promise<{ url: string; pushed: Promise<Pushed> }> {
  let receive: (pushed: Pushed) => void;
  const pushed = new Promise<Pushed>((resolve) => (receive = resolve));
  const server = createServer((request, response) => {
    void bodyOf(request).then((body) => {
      receive({ method: request.method!, path: request.url!, body });
      response.end();
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => void server.close());
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, pushed };
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  let body = "";
  for await (const chunk of request) body += String(chunk);
  return body;
}

async function logged(stream: NodeJS.ReadableStream, message: string): Promise<Record<string, unknown>> {
  let seen = "";
  for (;;) {
    const line = seen.split("\n").find((line) => line.includes(message) && line.endsWith("}"));
    if (line !== undefined) return JSON.parse(line) as Record<string, unknown>;
    seen += String((await once(stream, "data"))[0]);
  }
}

test("a producer pushes its figures when it ends; a worker's are scraped, with its health", async () => {
  const folder = await tempFolder();
  const corpus = join(folder, "corpus.jsonl");
  await writeFile(corpus, makeCorpus({ documents: 60, seed: 5 }));
  const gateway = await startGateway();
  const common = ["--out", `file://${join(folder, "out")}`, "--redis", inject("redisUrl"), "--fleet", randomUUID()];

  const enqueued = await startCli(["enqueue", corpus, ...common, "--run", "m", "--metrics-push", gateway.url]).finished;
  expect(enqueued.code).toBe(0);
  const { method, path, body } = await gateway.pushed;
  expect(method).toBe("PUT");
  expect(path).toMatch(/^\/metrics\/job\/embedfleet_producer\/instance\//);
  expect(body).toContain("embedfleet_planned_rows_total 60");
  expect(body).toMatch(/embedfleet_tokenized_documents_total 60/);
  expect(body).toContain('embedfleet_store_creates_total{object="staged",outcome="created"} 1');

  const worker = startCli(["work", ...common, "--metrics-port", "0", "--threads", "1"]);
  onTestFinished(() => void worker.child.kill("SIGTERM"));
  const { url } = await logged(worker.child.stderr!, "metrics are served");
  expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/metrics$/);
  await logged(worker.child.stderr!, "the run is sealed");
  const text = await (await fetch(String(url))).text();
  expect(text).toContain("embedfleet_rows_total 60");
  expect(text).toMatch(/embedfleet_store_creates_total\{object="data",outcome="created"\} [1-9]/);
  for (const stage of ["pull", "load", "pack", "wait", "infer", "assemble", "encode", "upload", "complete"]) {
    expect(text, stage).toMatch(new RegExp(`embedfleet_stage_seconds_count\\{stage="${stage}"\\} [1-9]`));
  }
  const health = await fetch(String(url).replace("/metrics", "/healthz"));
  expect(await health.json()).toMatchObject({ status: "ok" });
  worker.child.kill("SIGTERM");
  expect((await worker.finished).code).toBe(0);
});

test("a gateway that is not there costs a warning and no failure", async () => {
  const folder = await tempFolder();
  const corpus = join(folder, "corpus.jsonl");
  await writeFile(corpus, makeCorpus({ documents: 2, seed: 6 }));
  const common = ["--out", `file://${join(folder, "out")}`, "--redis", inject("redisUrl"), "--fleet", randomUUID()];
  const { code, stderr } = await startCli(["enqueue", corpus, ...common, "--metrics-push", "http://127.0.0.1:1"])
    .finished;
  expect(code).toBe(0);
  expect(stderr).toContain("the metrics could not be pushed");
});
