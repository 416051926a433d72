/** Control as a process: who may do what, what it shows, and that it heals and seals by itself. */
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { beforeAll, expect, inject, test } from "vitest";
import { cli, startCli } from "../fixtures/cli.ts";
import { startControl, type StartedControl, TOKEN } from "../fixtures/control.ts";
import { makeCorpus } from "../fixtures/made-corpus.ts";

const SECRET_TEXT = "the words that nobody may read";
let corpus = "";
let allowed = "";
let out = "";
let common: string[] = [];
let control: StartedControl;

beforeAll(async () => {
  const folder = await mkdtemp(join(tmpdir(), "embedfleet-control-"));
  corpus = join(folder, "corpus.jsonl");
  await writeFile(corpus, `${makeCorpus({ documents: 80, seed: 9 })}{"id":"no-text"}\n`);
  allowed = join(folder, "allowed");
  out = join(folder, "out");
  await write(join(allowed, "corpus.jsonl"), makeCorpus({ documents: 3, seed: 4 }));
  await write(join(folder, "secret.jsonl"), `{"id":"s","text":"${SECRET_TEXT}"}\n`);
  await write(join(out, "runs/old/run.json"), '{"version":1,"run":"\u001b[2Jold"');
  common = ["--out", `file://${join(folder, "out")}`, "--redis", inject("redisUrl"), "--fleet", randomUUID()];
  control = await startControl([...common, "--schedule-inputs", allowed]);
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
  expect(run).toMatchObject({ etaSeconds: null, etaUnknownBecause: "no worker is active" });
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

test("HEAD is a way of reading: it needs the token, and takes no place of a reader of live updates", async () => {
  for (const path of ["/api/fleet", "/api/events", "/api/backlog", "/metrics", "/queues/", "/api/runs/seen/rejects"])
    expect((await control.call(path, { method: "HEAD", token: null })).status, path).toBe(401);
  for (const method of ["PUT", "PATCH", "DELETE", "OPTIONS"])
    expect((await control.call("/api/fleet", { method, token: null })).status, method).toBe(401);
  expect(await (await control.call("/healthz", { token: null })).json()).toEqual({
    status: "ok",
    blindSeconds: expect.any(Number),
    redisSilentSeconds: expect.any(Number),
  });
  for (let i = 0; i < 120; i++) expect((await control.call("/api/events", { method: "HEAD" })).status).toBe(200);
  await firstSnapshot(() => true);
});

test("a reader of live updates that goes away leaves its place to another", async () => {
  for (let round = 0; round < 4; round++) {
    const aborts = await Promise.all(
      Array.from({ length: 40 }, async () => {
        const abort = new AbortController();
        expect((await control.call("/api/events", { signal: abort.signal })).status).toBe(200);
        return abort;
      }),
    );
    for (const abort of aborts) abort.abort();
    await expect
      .poll(async () => {
        const abort = new AbortController();
        const { status } = await control.call("/api/events", { signal: abort.signal });
        abort.abort();
        return status;
      })
      .toBe(200);
  }
});

test("what is damaged is shown and said once, and costs nothing else", async () => {
  const record = { version: 1, name: "fine", createdAt: "2026-11-24T00:00:00Z", cron: "0 2 * * *", tz: "UTC" };
  const rest = { overlapPolicy: "wait", webhook: null, since: null, inputs: [allowed], options: {} };
  const fine = { ...record, ...rest };
  const schedules = {
    fine,
    torn: "{",
    copied: fine,
    mistimed: { ...fine, name: "mistimed", cron: "99 99 * * *" },
    reaching: { ...fine, name: "reaching", options: { s3Endpoint: "http://127.0.0.1:1" } },
  };
  for (const [name, body] of Object.entries(schedules))
    await write(join(out, `schedules/${name}.json`), typeof body === "string" ? body : JSON.stringify(body));
  await write(join(out, "schedules/fine/state.json"), "{");
  await write(join(out, "schedules/fine/ticks/20269999T999999Z/started.json"), "{");
  await write(join(out, "schedules/fine/ticks/99991231T000000Z/started.json"), "{");
  const listed = await cli(["backfill", "list", ...common.slice(0, 2), "--json"]);
  const views = JSON.parse(listed.stdout) as { name: string; lastState: string | null; problem: string }[];
  expect(views.map(({ name, lastState }) => [name, lastState])).toEqual([
    ["copied", "damaged"],
    ["fine", null],
    ["mistimed", "damaged"],
    ["reaching", "damaged"],
    ["torn", "damaged"],
  ]);
  expect(views[1]!.problem).toContain("state.json does not match its schema");
  expect(views[3]!.problem).toContain("s3Endpoint");
  expect(await cli(["backfill", "remove", "torn", ...common.slice(0, 2)])).toMatchObject({ code: 0 });

  const seen = await firstSnapshot(({ schedules }) => schedules.length === 4);
  expect(seen.damaged).toEqual([{ run: "old", problem: expect.stringContaining("runs/old/run.json") }]);
  expect(seen.problems).toEqual([]);
  const { blindSeconds } = (await (await control.call("/healthz")).json()) as { blindSeconds: number };
  expect(blindSeconds).toBeLessThan(30);
  expect((await control.call("/api/runs/old/resume", { method: "POST" })).status).toBe(409);

  const status = await cli(["status", ...common.slice(0, 2)]);
  expect(status.code).toBe(0);
  expect(status.stdout).toMatch(/^old +damaged +file:.*run\.json does not match its schema/m);
  expect(status.stdout).toMatch(/^seen +sealed/m);
  expect(status.stdout).not.toContain("\u001b");
});

test("who can write a schedule into the store reads nothing with it that control was not started with", async () => {
  const made = { createdAt: new Date().toISOString(), cron: "0 2 * * *", tz: "UTC", overlapPolicy: "wait" };
  const of = (name: string, input: string): string =>
    JSON.stringify({
      version: 1,
      name,
      ...made,
      webhook: null,
      since: null,
      inputs: [input],
      options: { keepText: true, heads: ["dense"] },
    });
  await write(join(out, "schedules/forged.json"), of("forged", join(allowed, "../secret.jsonl")));
  await write(join(out, "schedules/within.json"), of("within", allowed));
  expect((await control.call("/api/schedules/forged/trigger", { method: "POST" })).status).toBe(409);
  const trigger = async (name: string): Promise<string> =>
    (JSON.parse((await cli(["backfill", "trigger", name, ...common, "--json"])).stdout) as { run: string }).run;
  const [run, within] = [await trigger("forged"), await trigger("within")];
  await expect.poll(() => existsSync(join(out, "runs", within, "plan/closed.json")), { timeout: 60_000 }).toBe(true);
  const failed = join(out, "schedules/forged/ticks", run.slice("forged-".length), "failed.json");
  await expect.poll(() => existsSync(failed), { timeout: 60_000 }).toBe(true);
  expect(existsSync(join(out, "runs", run))).toBe(false);
  const { stdout } = await cli(["backfill", "list", ...common.slice(0, 2), "--json"]);
  const view = (JSON.parse(stdout) as { name: string }[]).find(({ name }) => name === "forged");
  expect(view).toMatchObject({
    problem: expect.stringMatching(/^failed: refused: the schedule may not read ".*secret.jsonl".*--schedule-inputs/),
  });
  for (const file of await readdir(out, { recursive: true, withFileTypes: true }))
    if (file.isFile()) expect(await readFile(join(file.parentPath, file.name), "utf8")).not.toContain(SECRET_TEXT);
});

async function write(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, text);
}

interface Snapshot {
  readonly schedules: readonly { readonly name: string }[];
  readonly damaged: readonly { readonly run: string; readonly problem: string }[];
  readonly problems: readonly string[];
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
