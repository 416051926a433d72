/** One corpus read by several processes: one makes the plan, two help, and one of those is killed at work. */
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { Redis } from "ioredis";
import { expect, onTestFinished, test } from "vitest";
import { cli, startCli, type Started } from "../fixtures/cli.ts";
import { makeCorpus } from "../fixtures/made-corpus.ts";
import { startRedis } from "../fixtures/redis-server.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

/** Small files, of which a thousand are a part: each of three processes has one, and more are left. */
const FILES = 4500;
const FILES_AT_ONCE = 50;
/** And one of rows among them. */
const ROWS = 500;

async function writeCorpus(folder: string): Promise<void> {
  await mkdir(folder);
  await writeFile(join(folder, "2000.jsonl"), makeCorpus({ documents: ROWS, seed: 1, maxWords: 40 }));
  for (let first = 0; first < FILES; first += FILES_AT_ONCE)
    await Promise.all(
      Array.from({ length: FILES_AT_ONCE }, (_, i) => writeFile(join(folder, `${first + i}.md`), `Note ${first + i}`)),
    );
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

function started(args: readonly string[]): Started {
  const process = startCli([...args, "--log-level", "debug"]);
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

async function planOf(out: string): Promise<Map<string, string>> {
  const root = join(out, "runs/r");
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const plan = files.filter((file) => !file.endsWith("/run.json")).toSorted();
  return new Map(
    await Promise.all(
      plan.map(async (file): Promise<[string, string]> => [relative(root, file), await readFile(file, "base64")]),
    ),
  );
}

test("a helper that is killed mid-part changes nothing: the plan of one process, and every row once", async () => {
  const redis = await startRedis();
  onTestFinished(() => redis.stop());
  const root = await tempFolder();
  const corpus = join(root, "corpus");
  await writeCorpus(corpus);
  const [out, outAlone] = [join(root, "shared"), join(root, "alone")];
  const where = ["--out", out, "--redis", redis.url];
  const lock = ["--lock-seconds", "3"];

  const lead = started(["enqueue", corpus, ...where, ...lock, "--run", "r", "--distributed", "--heads", "dense"]);
  // Held still, or it would have done everything before anyone could help.
  await untilSaid(lead, "a part is begun");
  lead.child.kill("SIGSTOP");
  const killed = started(["produce", "r", ...where, ...lock]);
  await untilSaid(killed, "a part is begun");
  killed.child.kill("SIGKILL");
  const helper = started(["produce", "r", ...where, ...lock, "--producer-threads", "2", "--json"]);
  await untilSaid(helper, "a part is made");
  lead.child.kill("SIGCONT");

  const { stderr } = await killed.finished;
  expect(stderr.split("a part is begun").length).toBeGreaterThan(stderr.split("a part is made").length);
  const helped = await helper.finished;
  expect(helped.code, helped.stderr).toBe(0);
  expect((JSON.parse(helped.stdout) as { parts: number }).parts).toBeGreaterThan(0);
  const led = await lead.finished;
  expect(led.code, led.stderr).toBe(0);

  expect(await partKeys(redis.url)).toEqual([]);

  const alone = await cli([
    "enqueue",
    corpus,
    "--out",
    outAlone,
    "--redis",
    redis.url,
    "--fleet",
    "alone",
    "--run",
    "r",
    "--heads",
    "dense",
  ]);
  expect(alone.code, alone.stderr).toBe(0);
  const [plan, planAlone] = [await planOf(out), await planOf(outAlone)];
  expect([...plan.keys()]).toEqual([...planAlone.keys()]);
  for (const [file, bytes] of planAlone) expect(plan.get(file) === bytes, file).toBe(true);

  const worked = await cli(["work", ...where, "--exit-when-done"]);
  expect(worked.code, worked.stderr).toBe(0);
  const verified = await cli(["verify", out, "r", "--json"]);
  const report = { ok: true, rows: FILES + ROWS, missing: 0, duplicates: 0 };
  expect(JSON.parse(verified.stdout)).toMatchObject(report);
});

test("when the run is cancelled all who share it end, and nothing of its parts is left", async () => {
  const redis = await startRedis();
  onTestFinished(() => redis.stop());
  const root = await tempFolder();
  const corpus = join(root, "corpus");
  await writeCorpus(corpus);
  const out = join(root, "out");
  const where = ["--out", out, "--redis", redis.url];
  const lead = started(["enqueue", corpus, ...where, "--run", "r", "--distributed", "--heads", "dense"]);
  await untilSaid(lead, "a part is begun");
  lead.child.kill("SIGSTOP");
  const helper = started(["produce", "r", ...where]);
  await untilSaid(helper, "parts of the corpus are taken");
  expect((await cli(["cancel", "r", ...where])).code).toBe(0);
  expect(await helper.finished).toMatchObject({ code: 1, stderr: expect.stringContaining("run r was cancelled") });
  lead.child.kill("SIGCONT");
  expect(await lead.finished).toMatchObject({ code: 1, stderr: expect.stringContaining("run r was cancelled") });
  expect(await partKeys(redis.url)).toEqual([]);
  expect(await readdir(join(out, "runs/r/parts")).catch(() => [])).toEqual([]);
});

test("who helps a run that is not there is told so", async () => {
  const redis = await startRedis();
  onTestFinished(() => redis.stop());
  const where = ["--out", await tempFolder(), "--redis", redis.url];
  const { code, stderr } = await cli(["produce", "nowhere", ...where]);
  expect({ code, stderr }).toMatchObject({ code: 1, stderr: expect.stringContaining("there is no run") });
});
