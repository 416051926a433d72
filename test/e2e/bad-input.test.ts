/** What people get when they type or feed something wrong. */
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { startRedis } from "../fixtures/redis-server.ts";
import { cli, cliInProcess } from "../fixtures/cli.ts";

let folder = "";
let good = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "embedfleet-bad-"));
  good = join(folder, "good.jsonl");
  await writeFile(good, '{"id":"a","text":"one lighthouse"}\n');
});
afterAll(() => rm(folder, { recursive: true, force: true }));

test("bad lines are rejected with their place and reason, and the good ones arrive", async () => {
  const corpus = join(folder, "mixed.jsonl");
  const lines = [
    '{"id":"a","text":"first"}',
    "not json",
    '{"text":"no id"}',
    '{"id":"b"}',
    '{"id":"c","text":"  "}',
    '{"id":"a","text":"again"}',
    '{"id":"d","text":"x\\u0000y"}',
    '{"id":"e","text":"\\ud800"}',
    '{"id":"f","text":"last"}',
  ];
  await writeFile(corpus, lines.join("\n"));
  const done = await cli([
    "run",
    corpus,
    "--out",
    join(folder, "rejects"),
    "--run",
    "r",
    "--max-rejects",
    "100%",
    "--clean",
    "none",
    "--json",
    "--log-level",
    "silent",
  ]);
  expect(done.code).toBe(0);
  expect(JSON.parse(done.stdout)).toMatchObject({ documents: 9, rows: 2, rejects: 7 });
  const rejects = (await readFile(join(folder, "rejects/runs/r/rejects/w000000.jsonl"), "utf8")).trim().split("\n");
  expect(rejects.map((line) => JSON.parse(line)).map(({ line, reason }) => [line, reason])).toEqual([
    [2, "not_json"],
    [3, "no_id"],
    [4, "no_text"],
    [5, "empty_text"],
    [6, "duplicate_id"],
    [7, "nul_character"],
    [8, "lone_surrogate"],
  ]);
  const verified = await cli(["verify", join(folder, "rejects"), "--json"]);
  expect(JSON.parse(verified.stdout)).toMatchObject({ ok: true, rows: 2, rejects: 7 });
});

test("a corpus of which most is rejected is held: exit 1, the reasons, what to do, and no latest run", async () => {
  const corpus = join(folder, "renamed.jsonl");
  const out = join(folder, "held");
  await writeFile(corpus, '{"id":"a","body":"x"}\n{"id":"b","body":"y"}\nno json\n');
  const done = await cli(["run", corpus, "--out", out, "--run", "q", "--log-level", "silent"]);
  expect(done.code).toBe(1);
  expect(done.stderr).toContain("run q is held and not sealed: 3 of 3 documents were rejected");
  expect(done.stderr).toContain("2 no_text, for example ");
  expect(done.stderr).toContain(
    "renamed.jsonl:1: the field text is missing; a string is needed; the record has id, body",
  );
  expect(done.stderr).toContain("1 not_json, for example ");
  expect(done.stderr).toContain("embedfleet seal q --accept");
  expect(existsSync(join(out, "latest.json"))).toBe(false);
  const accepted = await cli(["seal", "q", "--accept", "--out", out, "--log-level", "silent"]);
  expect(accepted).toMatchObject({ code: 0, stdout: expect.stringContaining("q (sealed)") as string });
});

test("--max-rejects stops early and names the first ones", async () => {
  const corpus = join(folder, "rotten.jsonl");
  await writeFile(corpus, "x\ny\nz\n");
  const done = await cli(["run", corpus, "--out", join(folder, "stop"), "--max-rejects", "1", "--log-level", "silent"]);
  expect(done.code).toBe(1);
  expect(done.stderr).toMatch(
    /2 documents were rejected and --max-rejects is 1; the first: .*rotten\.jsonl:1: not_json/,
  );
});

test("standard input is a corpus", async () => {
  const done = await cli(
    ["run", "-", "--out", join(folder, "stdin"), "--json", "--log-level", "silent"],
    {},
    '{"id":1,"text":"from a pipe"}\n',
  );
  expect(JSON.parse(done.stdout)).toMatchObject({ rows: 1, state: "sealed" });
});

test("a usage error ends the process with 2", async () => {
  const done = await cli(["fly"]);
  expect(done.stderr).toMatch(/unknown command/);
  expect(done.code).toBe(2);
});

const usage: [string, string[], RegExp][] = [
  ["an unknown flag", ["run", "x.jsonl", "--out", "/tmp/x", "--fast"], /unknown option '--fast'/],
  ["no --out", ["run", "x.jsonl"], /--out <url>' not specified/],
  ["a number that is none", ["run", "x", "--out", "/tmp/x", "--max-tokens", "many"], /whole number/],
  ["an unknown head", ["run", "x", "--out", "/tmp/x", "--heads", "dense,magic"], /some of dense,sparse,colbert/],
  ["a run id with a way out", ["status", "../../etc", "--out", "/tmp/x"], /letters, digits/],
  ["a store that is none", ["status", "--out", "ftp://host/x"], /scheme "ftp"/],
];
test.each(usage)("%s is a usage error", async (_, args, message) => {
  const done = await cliInProcess(args);
  expect(done.stderr).toMatch(message);
  expect(done.code).toBe(2);
});

test("more tokens than the model takes, an overlap that never ends and an unknown format are usage errors", async () => {
  const run = (...flags: string[]) =>
    cliInProcess(["run", good, "--out", join(folder, "never"), "--log-level", "silent", ...flags]);
  expect(await run("--max-tokens", "9000")).toMatchObject({
    code: 2,
    stderr: expect.stringContaining("use at most 8192"),
  });
  expect(await run("--max-tokens", "10", "--overlap", "9")).toMatchObject({
    code: 2,
    stderr: expect.stringContaining("overlap"),
  });
  const odd = join(folder, "corpus.xyz");
  await writeFile(odd, "x");
  expect(await cliInProcess(["run", odd, "--out", join(folder, "never")])).toMatchObject({
    code: 2,
    stderr: expect.stringContaining("--format"),
  });
});

test("what is not there is named with a cure", async () => {
  const run = (...args: string[]) => cliInProcess(["run", ...args, "--log-level", "silent"]);
  expect((await run("missing.jsonl", "--out", join(folder, "never"))).stderr).toMatch(
    /missing\.jsonl cannot be read.*\n {2}check the path/,
  );
  expect((await run(good, "--out", join(folder, "never"), "--model", "gpt")).stderr).toMatch(
    /no model named "gpt"\n {2}choose one of: .*\bmini\b/,
  );
  expect((await run(good, "--out", join(folder, "never"), "--redis", "redis://127.0.0.1:1")).stderr).toMatch(
    /127\.0\.0\.1:1 cannot be used.*\n {2}start it/,
  );
  expect((await run(good, "--out", join(good, "below-a-file"))).stderr).toMatch(/^error: .*below-a-file/);
  expect(
    (await cliInProcess(["enqueue", good, "--out", join(folder, "never"), "--log-level", "silent"])).stderr,
  ).toContain("no Redis server was given");
  expect((await cliInProcess(["status", "nobody", "--out", folder])).stderr).toContain('no run "nobody"');
});

test("a run whose Redis is away is asked of the store alone, or the answer says what is away", async () => {
  const out = join(folder, "asked");
  expect((await cli(["run", good, "--out", out, "--run", "asked", "--log-level", "silent"])).code).toBe(0);
  const away = await cli(["status", "asked", "--out", out, "--redis", "redis://127.0.0.1:1"]);
  expect(away.code).toBe(1);
  expect(away.stderr).toMatch(/127\.0\.0\.1:1 cannot be used.*ECONNREFUSED.*\n {2}start it/);
  expect(away.stderr).not.toContain("    at ");
  expect((await cli(["status", "asked", "--out", out])).stdout).toContain("asked (sealed)");
});

test("a Redis that evicts is refused, and its password stays out of the message", async () => {
  const evicting = await startRedis({ args: ["--maxmemory-policy", "allkeys-lru"] });
  try {
    const url = evicting.url.replace("redis://", "redis://user:s3cret@");
    const done = await cli(["enqueue", good, "--out", join(folder, "never"), "--redis", evicting.url]);
    expect(done.code).toBe(1);
    expect(done.stderr).toMatch(/maxmemory-policy allkeys-lru and may evict/);
    expect((await cli(["enqueue", good, "--out", join(folder, "never"), "--redis", url])).stderr).not.toContain(
      "s3cret",
    );
  } finally {
    await evicting.stop();
  }
});

test("without a redis-server to start, run says how to get one", async () => {
  const done = await cli(["run", good, "--out", join(folder, "never"), "--log-level", "silent"], {
    PATH: "/nonexistent",
  });
  expect(done.code).toBe(1);
  expect(done.stderr).toMatch(/apt-get install redis-server\), or pass --redis/);
});

test("help is there for every command and is no error", async () => {
  for (const command of ["run", "enqueue", "work", "status", "resume", "seal", "verify", "search", "models"]) {
    const done = await cliInProcess([command, "--help"]);
    expect(done.code).toBe(0);
    expect(done.stdout).toContain(`Usage: embedfleet ${command}`);
  }
  expect(inject("redisUrl")).toMatch(/^redis:/);
});

test("a usage error leaves no run behind: the corrected command takes the same id", async () => {
  const corpus = join(folder, "columns.csv");
  const out = join(folder, "corrected");
  await writeFile(corpus, "key,body\na,one lighthouse\n");
  const place = [corpus, "--out", out, "--run", "q", "--log-level", "silent"];
  const wrong = await cli(["run", ...place]);
  expect(wrong.code).not.toBe(0);
  expect(wrong.stderr).toContain("key, body");
  expect(existsSync(join(out, "runs"))).toBe(false);
  const right = await cli(["run", ...place, "--id-field", "key", "--text-field", "body", "--json"]);
  expect(JSON.parse(right.stdout)).toMatchObject({ run: "q", state: "sealed", rows: 1 });
});

test("with --json a fault is one JSON object with code, message and cure", async () => {
  const unknown = await cli(["status", "nobody", "--out", join(folder, "stdin"), "--json", "--log-level", "silent"]);
  expect(unknown.code).toBe(1);
  expect(JSON.parse(unknown.stdout)).toMatchObject({
    error: { code: "run_unknown", message: expect.stringContaining("nobody") as string },
  });
  const usage = await cli(["status", "nobody", "--json", "--nonsense"]);
  expect(usage.code).toBe(2);
  expect(JSON.parse(usage.stdout)).toMatchObject({ error: { code: "bad_usage" } });
});
