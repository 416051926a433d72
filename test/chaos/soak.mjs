/**
 * `npm run test:soak`: two workers for half an hour, one of them killed every 20 seconds, over 200,000 small
 * documents, and again with another run id while there is time. Every run must be sealed and verified, and the
 * workers' memory must not grow. SOAK_MINUTES, SOAK_DOCUMENTS and SOAK_KILL_SECONDS make it shorter.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createWriteStream, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { PrivateRedis } from "../../dist/src/adapters/redis/private-redis.js";

const CLI = fileURLToPath(new URL("../../dist/src/cli/main.js", import.meta.url));
const MINUTES = Number(process.env.SOAK_MINUTES ?? 30);
const DOCUMENTS = Number(process.env.SOAK_DOCUMENTS ?? 200_000);
const KILL_MS = Number(process.env.SOAK_KILL_SECONDS ?? 20) * 1000;
const SAMPLE_MS = 2000;
/** What a later worker may need more than an early one. */
const MAX_GROWTH = 1.15;

const folder = await mkdtemp(join(tmpdir(), "embedfleet-soak-"));
const redis = await PrivateRedis.start();
const common = [
  "--out",
  `file://${folder}/out`,
  "--redis",
  redis.url,
  "--allow-volatile-redis",
  "--log-level",
  "error",
];
const endsAtMs = Date.now() + MINUTES * 60_000;
/** One entry a worker's life: its largest resident memory. */
const lives = [];

async function writeCorpus(path) {
  const file = createWriteStream(path);
  const words =
    "river stone lantern harvest quiet engine glass mountain 灯塔 冰川 منارة маяк winter copper signal".split(" ");
  for (let i = 0; i < DOCUMENTS; i++) {
    const text = Array.from({ length: 5 + ((i * 7919) % 40) }, (_, k) => words[(i * 31 + k * 17) % words.length]).join(
      " ",
    );
    if (!file.write(`${JSON.stringify({ id: `d${i}`, text: `document ${i}: ${text}` })}\n`)) await once(file, "drain");
  }
  file.end();
  await once(file, "close");
}

async function cli(...args) {
  const child = spawn(process.execPath, [CLI, ...args], { stdio: ["ignore", "pipe", "inherit"] });
  let out = "";
  child.stdout.on("data", (chunk) => (out += chunk));
  const [code] = await once(child, "close");
  if (code !== 0) throw new Error(`${args[0]} ended with ${code}`);
  return out;
}

function residentBytes(pid) {
  try {
    return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}

/** A worker that is started again whenever it dies. */
class KeptWorker {
  #child = null;
  #isOver = false;

  start() {
    const args = ["work", ...common, "--threads", "1", "--lock-seconds", "5", "--reconcile-seconds", "2"];
    this.#child = spawn(process.execPath, [CLI, ...args], { stdio: ["ignore", "ignore", "inherit"] });
    const life = { peakBytes: 0 };
    lives.push(life);
    const { pid } = this.#child;
    const sampling = setInterval(() => (life.peakBytes = Math.max(life.peakBytes, residentBytes(pid))), SAMPLE_MS);
    this.#child.once("exit", () => {
      clearInterval(sampling);
      if (!this.#isOver) this.start();
    });
    return this;
  }

  kill() {
    this.#child.kill("SIGKILL");
  }

  async end() {
    this.#isOver = true;
    const ended = once(this.#child, "exit");
    this.kill();
    await ended;
  }
}

async function untilSealed(run) {
  for (;;) {
    const { state } = JSON.parse(await cli("status", run, "--out", `file://${folder}/out`, "--json"));
    if (state === "sealed") return;
    await sleep(SAMPLE_MS);
  }
}

function median(values) {
  return [...values].sort((a, b) => a - b)[values.length >> 1];
}

/** Of lives long enough to have worked, the first third against the last. */
function growth() {
  const peaks = lives.map(({ peakBytes }) => peakBytes).filter((bytes) => bytes > 50e6);
  const third = Math.max(1, Math.floor(peaks.length / 3));
  return { workers: peaks.length, early: median(peaks.slice(0, third)), late: median(peaks.slice(-third)) };
}

const workers = [];
let killing;
const report = { runs: 0, rows: 0, lost: 0, doubled: 0, kills: 0 };
try {
  const corpus = join(folder, "corpus.jsonl");
  await writeCorpus(corpus);
  workers.push(new KeptWorker().start(), new KeptWorker().start());
  killing = setInterval(() => {
    workers[report.kills % 2].kill();
    report.kills++;
  }, KILL_MS);
  do {
    const run = `soak-${report.runs}`;
    await cli("enqueue", corpus, ...common, "--run", run, "--heads", "dense");
    await untilSealed(run);
    const verified = JSON.parse(await cli("verify", `file://${folder}/out`, run, "--json", "--log-level", "error"));
    report.runs++;
    report.rows += verified.rows;
    report.lost += DOCUMENTS - verified.rows + verified.duplicates;
    report.doubled += verified.duplicates;
    console.log(`${run}: ${verified.rows} rows verified, ${report.kills} kills so far`);
    await rm(join(folder, "out", "runs", run, "data"), { recursive: true, force: true });
  } while (Date.now() < endsAtMs);
} finally {
  clearInterval(killing);
  for (const worker of workers) await worker.end();
  await redis.close();
  await rm(folder, { recursive: true, force: true });
}
const { early, late, workers: lived } = growth();
const megabytes = (bytes) => `${Math.round(bytes / 1e6)} MB`;
console.log(JSON.stringify({ ...report, workers: lived }));
console.log(`resident memory of a worker: ${megabytes(early)} at first, ${megabytes(late)} at the end`);
const isSound = report.lost === 0 && report.doubled === 0 && late <= early * MAX_GROWTH;
if (!isSound) process.exitCode = 1;
