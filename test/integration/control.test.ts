/** Control as a process: who may do what, what it shows, and that it heals and seals by itself. */
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, expect, inject, test } from "vitest";
import { cli, startCli } from "../fixtures/cli.ts";
import { startControl, type StartedControl, TOKEN } from "../fixtures/control.ts";
import { makeCorpus } from "../fixtures/made-corpus.ts";

let corpus = "";
let common: string[] = [];
let control: StartedControl;

beforeAll(async () => {
  const folder = await mkdtemp(join(tmpdir(), "embedfleet-control-"));
  corpus = join(folder, "corpus.jsonl");
  await writeFile(corpus, `${makeCorpus({ documents: 80, seed: 9 })}{"id":"no-text"}\n`);
  common = ["--out", `file://${join(folder, "out")}`, "--redis", inject("redisUrl"), "--fleet", randomUUID()];
  control = await startControl(common);
  return async () => {
    expect(await control.stop()).toBe(0);
    await rm(folder, { recursive: true, force: true });
  };
});

test("a planned run is shown, worked, sealed by control, and everything is behind the token", async () => {
  await cli(["enqueue", corpus, ...common, "--run", "seen", "--heads", "dense", "--log-level", "error"]);

  for (const path of ["/api/fleet", "/api/events", "/api/backlog", "/metrics", "/queues/", "/api/runs/seen/rejects"]) {
    expect((await control.call(path, { token: null })).status, path).toBe(401);
    expect((await control.call(path, { token: `${TOKEN}x` })).status, path).toBe(401);
  }
  for (const path of ["/api/runs/seen/cancel", "/api/runs/seen/resume", "/api/schedules/x/trigger"]) {
    expect((await control.call(path, { method: "POST", token: null })).status, path).toBe(401);
  }
  for (const path of ["/", "/main.js", "/style.css", "/healthz"]) {
    const response = await control.call(path, { token: null });
    expect(response.status, path).toBe(200);
    expect(response.headers.get("content-security-policy")).toContain("default-src 'none'");
    expect(response.headers.get("x-content-type-options")).toBe("nosniff");
  }

  const seen = await firstSnapshot(({ runs }) => runOf(runs, "seen")?.state === "embedding");
  const run = runOf(seen.runs, "seen")!;
  expect(run).toMatchObject({ run: "seen", state: "embedding", isActive: true, plannedRows: 80, rejects: 1 });
  expect(run).toMatchObject({ etaSeconds: null, etaUnknownBecause: "no worker is at work" });
  expect(run.waitsFor).toContain("a worker");
  const backlog = (await (await control.call("/api/backlog")).json()) as { jobs: number; tokens: number };
  expect(backlog).toEqual({ jobs: run.plannedShards, tokens: run.plannedTokens });
  const { rejects } = (await (await control.call("/api/runs/seen/rejects")).json()) as {
    rejects: { reason: string }[];
  };
  expect(rejects).toHaveLength(1);
  expect(await (await control.call("/metrics")).text()).toMatch(/embedfleet_queue_tokens\{queue="[^"]+"\} [1-9]/);

  const worker = startCli(["work", ...common, "--threads", "1", "--log-level", "error"]);
  const done = await firstSnapshot(({ runs }) => runOf(runs, "seen")?.state === "sealed");
  expect(runOf(done.runs, "seen")).toMatchObject({ rows: 80, isActive: false });
  worker.child.kill("SIGTERM");
  await worker.finished;
  const refused = await control.call("/api/runs/seen/cancel", { method: "POST" });
  expect(refused.status).toBe(409);
});

test("actions from the dashboard: cancel empties the queue, resume of a cancelled run is refused", async () => {
  await cli(["enqueue", corpus, ...common, "--run", "stop-me", "--heads", "dense", "--log-level", "error"]);
  const cancelled = await control.call("/api/runs/stop-me/cancel", { method: "POST" });
  expect(await cancelled.json()).toMatchObject({ isNew: true, removed: expect.any(Number) });
  const fleet = (await (await control.call("/api/fleet")).json()) as Snapshot;
  expect(runOf(fleet.runs, "stop-me")!.state).toBe("cancelled");
  const resumed = await control.call("/api/runs/stop-me/resume", { method: "POST" });
  expect(resumed.status).toBe(409);
  expect(await resumed.json()).toMatchObject({ error: { code: "run_cancelled" } });
  expect((await control.call("/api/runs/..%2f..%2fetc/resume", { method: "POST" })).status).toBe(400);
});

test("a name that was pointed at this machine is not answered, and the raw queues open with the session's cookie", async () => {
  // fetch does not let a caller choose the Host header, which is why a page cannot either.
  expect(await rawStatus(control.url, "GET /healthz HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")).toBe(
    403,
  );
  const session = await control.call("/api/session", { method: "POST" });
  const cookie = session.headers.get("set-cookie")!;
  expect(cookie).toContain("HttpOnly");
  expect(cookie).toContain("SameSite=Strict");
  expect(cookie).not.toContain(TOKEN);
  const pass = cookie.split(";")[0]!;
  const asPage = { headers: { cookie: pass } };
  expect((await fetch(`${control.url}/queues/`, asPage)).status).toBe(200);
  expect((await fetch(`${control.url}/api/fleet`, asPage)).status).toBe(401);
  expect((await fetch(`${control.url}/api/runs/x/cancel`, { method: "POST", ...asPage })).status).toBe(401);
});

interface Snapshot {
  readonly runs: readonly {
    readonly run: string;
    readonly state: string;
    readonly waitsFor: string | null;
    readonly plannedShards: number;
    readonly plannedTokens: number;
  }[];
}

function runOf(runs: Snapshot["runs"], run: string): Snapshot["runs"][number] | undefined {
  return runs.find((each) => each.run === run);
}

/** Reads the stream of snapshots until one is as wanted. */
async function firstSnapshot(isWanted: (snapshot: Snapshot) => boolean): Promise<Snapshot> {
  const abort = new AbortController();
  const response = await control.call("/api/events", { signal: abort.signal });
  let rest = "";
  for await (const text of response.body!.pipeThrough(new TextDecoderStream())) {
    const messages = (rest + text).split("\n\n");
    rest = messages.pop()!;
    for (const message of messages) {
      const data = /^data: ?(.*)$/m.exec(message)?.[1];
      if (data === undefined) continue;
      const snapshot = JSON.parse(data) as Snapshot;
      if (!isWanted(snapshot)) continue;
      abort.abort();
      return snapshot;
    }
  }
  throw new Error("the stream ended");
}

async function rawStatus(url: string, request: string): Promise<number> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  socket.write(request);
  const [answer] = (await once(socket, "data")) as [Buffer];
  socket.destroy();
  return Number(answer.toString().split(" ")[1]);
}
