/** One corpus read by several processes: one makes the plan, two help, and one of those is killed at work. */
import { PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { randomUUID } from "node:crypto";
import { mkdir, readdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Redis } from "ioredis";
import { expect, onTestFinished, test } from "vitest";
import { openStore, type OpenStoreOptions } from "../../src/adapters/open-store.ts";
import { runKeys } from "../../src/core/layout.ts";
import { removeRun } from "../../src/run/collect.ts";
import { cli, startCli, type Started } from "../fixtures/cli.ts";
import { describeS3 } from "../fixtures/describe-s3.ts";
import { makeCorpus } from "../fixtures/made-corpus.ts";
import { startRedis } from "../fixtures/redis-server.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

/** Files of which each is over half of what a part may have, so that three processes have one each and more are left. */
const FILES = 5;
const ROWS = 170;
const IGNORED = "x".repeat(100_000);
/** And small ones, which go with them. */
const NOTES = 40;

/** Where a corpus and what is made of it lie. */
interface Ground {
  readonly corpus: string;
  readonly root: string;
  readonly flags: readonly string[];
  readonly options: OpenStoreOptions;
  readonly env: Readonly<Record<string, string>>;
}

async function writeCorpus(write: (name: string, text: string) => Promise<unknown>): Promise<void> {
  for (let file = 0; file < FILES; file++) {
    const made = makeCorpus({ documents: ROWS, seed: file, maxWords: 40 });
    await write(`${file}.jsonl`, made.replaceAll('{"id":"d', `{"ignored":"${IGNORED}","id":"${file}-`));
  }
  for (let note = 0; note < NOTES; note++) await write(`${note}.md`, `Note ${note}`);
}

async function onFiles(): Promise<Ground> {
  const root = await tempFolder();
  const corpus = join(root, "corpus");
  await mkdir(corpus);
  await writeCorpus((name, text) => writeFile(join(corpus, name), text));
  return { corpus, root, flags: [], options: {}, env: {} };
}

/** Resolves when the process has said so on its log. */
function untilSaid({ child, finished }: Started, words: string): Promise<void> {
  return new Promise((resolve, reject) => {
    child.stderr!.on("data", (chunk: Buffer) => {
      if (chunk.includes(words)) resolve();
    });
    void finished.then(({ stderr }) => reject(new Error(`it ended without having said "${words}": ${stderr}`)));
  });
}

function started(args: readonly string[], env: Ground["env"] = {}): Started {
  const process = startCli([...args, "--log-level", "debug"], env);
  onTestFinished(() => void process.child.kill("SIGKILL"));
  return process;
}

/** What Redis still knows of parts. */
async function partKeys(url: string): Promise<string[]> {
  const client = new Redis(url);
  const keys = await client.keys("*parts*");
  client.disconnect();
  // That a check was made lapses by itself.
  return keys.filter((key) => !key.endsWith(":stalled-check"));
}

/** Everything of the run but its record, which says when it was begun. */
async function planOf(out: string, options: OpenStoreOptions): Promise<Map<string, string>> {
  const store = await openStore(out, options);
  const { prefix, record } = runKeys("r");
  const plan = new Map<string, string>();
  for await (const { key } of store.list({ prefix }))
    if (key !== record) plan.set(key, Buffer.from(await store.read({ key })).toString("base64"));
  await store.close();
  return plan;
}

/** The plan of one process, and every row once. */
async function helpAndKill({ corpus, root, flags, options, env }: Ground): Promise<void> {
  const redis = await startRedis();
  onTestFinished(() => redis.stop());
  const [out, outAlone] = [`${root}/shared`, `${root}/alone`];
  const where = ["--out", out, "--redis", redis.url, ...flags];
  const lock = ["--lock-seconds", "3"];
  const run = ["--run", "r", "--heads", "dense"];

  const lead = started(["enqueue", corpus, ...where, ...lock, ...run, "--distributed"], env);
  // Held still, or it would have done everything before anyone could help.
  await untilSaid(lead, "a part was started");
  lead.child.kill("SIGSTOP");
  const killed = started(["produce", "r", ...where, ...lock], env);
  await untilSaid(killed, "a part was started");
  killed.child.kill("SIGKILL");
  const helper = started(["produce", "r", ...where, ...lock, "--producer-threads", "2", "--json"], env);
  await untilSaid(helper, "a part is made");
  lead.child.kill("SIGCONT");

  const { stderr } = await killed.finished;
  expect(stderr.split("a part was started").length).toBeGreaterThan(stderr.split("a part is made").length);
  const helped = await helper.finished;
  expect(helped.code, helped.stderr).toBe(0);
  expect((JSON.parse(helped.stdout) as { parts: number }).parts).toBeGreaterThan(0);
  const led = await lead.finished;
  expect(led.code, led.stderr).toBe(0);

  expect(await partKeys(redis.url)).toEqual([]);

  const elsewhere = ["--out", outAlone, "--redis", redis.url, ...flags, "--fleet", "alone"];
  const alone = await cli(["enqueue", corpus, ...elsewhere, ...run, "--producer-threads", "2"], env);
  expect(alone.code, alone.stderr).toBe(0);
  const [plan, planAlone] = [await planOf(out, options), await planOf(outAlone, options)];
  expect([...plan.keys()]).toEqual([...planAlone.keys()]);
  for (const [key, bytes] of planAlone) expect(plan.get(key) === bytes, key).toBe(true);

  const worked = await cli(["work", ...where, "--exit-when-done"], env);
  expect(worked.code, worked.stderr).toBe(0);
  const verified = await cli(["verify", out, "r", "--json", ...flags], env);
  const zeros = { missing: 0, duplicates: 0, nonFinite: 0, badNorm: 0, badHash: 0 };
  expect(JSON.parse(verified.stdout)).toMatchObject({ ok: true, rows: FILES * ROWS + NOTES, ...zeros });
}

test("a helper that is killed mid-part changes nothing", async () => {
  await helpAndKill(await onFiles());
}, 240_000);

describeS3("on S3", ({ endpoint, region, bucket, credentials }) => {
  async function onS3(): Promise<Ground> {
    const prefix = `distributed-${randomUUID()}`;
    const s3 = { endpoint, region, credentials };
    const client = new S3Client({ ...s3, forcePathStyle: true });
    await writeCorpus((name, text) =>
      client.send(new PutObjectCommand({ Bucket: bucket, Key: `${prefix}/corpus/${name}`, Body: text })),
    );
    client.destroy();
    const root = `s3://${bucket}/${prefix}`;
    const flags = ["--s3-endpoint", endpoint, "--s3-region", region];
    const env = { AWS_ACCESS_KEY_ID: credentials.accessKeyId, AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey };
    return { corpus: `${root}/corpus`, root, flags, options: { s3 }, env };
  }

  test("a helper that is killed mid-part changes nothing", async () => {
    await helpAndKill(await onS3());
  }, 240_000);
});

test("when the run is cancelled all who share it end, and nothing of its parts is left", async () => {
  const redis = await startRedis();
  onTestFinished(() => redis.stop());
  const { corpus, root } = await onFiles();
  const out = join(root, "out");
  const where = ["--out", out, "--redis", redis.url];
  const lead = started(["enqueue", corpus, ...where, "--run", "r", "--distributed", "--heads", "dense"]);
  await untilSaid(lead, "a part was started");
  lead.child.kill("SIGSTOP");
  const helper = started(["produce", "r", ...where]);
  await untilSaid(helper, "helping to produce the run");
  expect((await cli(["cancel", "r", "--yes", ...where])).code).toBe(0);
  expect(await helper.finished).toMatchObject({ code: 1, stderr: expect.stringContaining("run r was cancelled") });
  lead.child.kill("SIGCONT");
  expect(await lead.finished).toMatchObject({ code: 1, stderr: expect.stringContaining("run r was cancelled") });
  expect(await partKeys(redis.url)).toEqual([]);
  expect(await readdir(join(out, "runs/r/parts")).catch(() => [])).toEqual([]);
});

test("who helps a run of another version, of a corpus that is not to be read here, or removed, is told so", async () => {
  const redis = await startRedis();
  onTestFinished(() => redis.stop());
  const root = await tempFolder();
  const corpus = join(root, "corpus.md");
  await writeFile(corpus, "A note.");
  const where = ["--out", root, "--redis", redis.url];
  const lead = started(["enqueue", corpus, ...where, "--run", "r", "--distributed", "--heads", "dense"]);
  await untilSaid(lead, "others may help");
  lead.child.kill("SIGSTOP");

  const helper = started(["produce", "r", ...where]);
  await untilSaid(helper, "helping to produce the run");
  expect(await cli(["produce", "r", ...where, "--inputs-below", await tempFolder()])).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(
      /run r reads ".*corpus\.md": it is not below .*\n {2}pass the folder .*--inputs-below/,
    ),
  });
  const file = join(root, "runs/r/run.json");
  const record = await readFile(file, "utf8");
  // At once, since the first helper looks at it.
  await writeFile(join(root, "other.json"), record.replace(/"program": "[^"]+"/, '"program": "0.0.0-other"'));
  await rename(join(root, "other.json"), file);
  expect(await cli(["produce", "r", ...where])).toMatchObject({
    code: 1,
    stderr: expect.stringContaining("started with embedfleet 0.0.0-other"),
  });
  const store = await openStore(root);
  await removeRun(store, "r");
  expect(await helper.finished).toMatchObject({ code: 1, stderr: expect.stringContaining("there is no run") });
});

test("who helps a run that is not there is told so", async () => {
  const redis = await startRedis();
  onTestFinished(() => redis.stop());
  const where = ["--out", await tempFolder(), "--redis", redis.url];
  const { code, stderr } = await cli(["produce", "nowhere", ...where]);
  expect({ code, stderr }).toMatchObject({ code: 1, stderr: expect.stringContaining("there is no run") });
});
