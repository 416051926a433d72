/**
 * `npm run pictures`: the pictures of docs/img, from a real fleet of separate processes on this machine. Two producers
 * plan two runs, workers go from 1 to 4, to none and to 2, and a third producer waits for room; needs Chromium.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";
import { BROWSER, fail, installPrograms, requireRedis, root } from "./prepare.mjs";

const folder = join(tmpdir(), "embedfleet-pictures");
const images = join(root, "docs/img");
const socket = join(folder, "redis.sock");
const cli = join(root, "dist/src/cli/main.js");
const env = {
  ...process.env,
  REDIS_URL: `unix://${socket}`,
  EMBEDFLEET_OUT: pathToFileURL(join(folder, "store")).href,
  EMBEDFLEET_CACHE: join(folder, "cache"),
  EMBEDFLEET_LOG_LEVEL: "info",
};
const started = [];

function start(command, args) {
  const child = spawn(command, args, { cwd: root, env, stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (said += chunk));
  const process = { child, ended: once(child, "close").then(([code]) => ({ code, said })), said: () => said };
  started.push(process);
  return process;
}

function embedfleet(...args) {
  return start(globalThis.process.execPath, [cli, ...args]);
}

async function done(process) {
  const { code, said } = await process.ended;
  if (code !== 0) throw new Error(said);
  return said;
}

async function startRedis() {
  start("redis-server", ["--port", "0", "--unixsocket", socket, "--dir", folder, "--appendonly", "yes", "--save", ""]);
  for (let tries = 0; tries < 50; tries++) {
    const { code } = await start("redis-cli", ["-s", socket, "ping"]).ended;
    if (code === 0) return;
    await sleep(100);
  }
  throw new Error("redis-server does not answer");
}

async function startControl() {
  const control = embedfleet("control", "--port", "0", "--token", "pictures-of-a-fleet", "--reconcile-seconds", "2");
  for (;;) {
    const url = /"url":"([^"]+)"/.exec(control.said())?.[1];
    if (url !== undefined) return url;
    if (control.child.exitCode !== null) throw new Error(control.said());
    await sleep(100);
  }
}

let workers = [];
async function scaleTo(count) {
  const stopped = workers.splice(count);
  for (const { child } of stopped) child.kill("SIGTERM");
  while (workers.length < count) workers.push(embedfleet("work", "--threads", "1", "--max-held-bytes", "65536"));
  await Promise.all(stopped.map(done));
}

async function rowsOf(run) {
  return Number(/"rows":\s*(\d+)/.exec(await done(embedfleet("status", run, "--json")))?.[1]);
}

async function untilRows(run, rows) {
  while ((await rowsOf(run)) < rows) await sleep(500);
}

async function openBrowser() {
  const flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"];
  return chromium.launch({ executablePath: "/usr/bin/chromium", args: flags });
}

async function takeDashboard(browser, url) {
  for (const colorScheme of ["light", "dark"]) {
    const page = await browser.newPage({ colorScheme, viewport: { width: 1360, height: 900 } });
    await page.goto(`${url}/#token=pictures-of-a-fleet`);
    await page.getByRole("heading", { name: "web" }).first().waitFor();
    await sleep(5000); // a few looks at the fleet, so that its charts have points
    await page.screenshot({ path: join(images, `dashboard-${colorScheme}.png`), fullPage: true });
    await page.close();
  }
}

async function takeReport(browser, run) {
  const file = join(folder, `${run}.html`);
  await done(embedfleet("report", run, "--file", file));
  const page = await browser.newPage({ viewport: { width: 1100, height: 900 } });
  await page.goto(pathToFileURL(file).href);
  await page.screenshot({ path: join(images, "report.png"), fullPage: true });
  const timeline = page.locator("section", { has: page.getByRole("heading", { name: "Workers over time" }) });
  await timeline.screenshot({ path: join(images, "scaled-run.png") });
  await page.close();
}

async function main() {
  await rm(folder, { recursive: true, force: true });
  for (const each of [folder, images]) await mkdir(each, { recursive: true });
  await startRedis();
  const url = await startControl();
  await done(embedfleet("backfill", "add", "docs", "docs", "--cron", "0 2 * * *", "--tz", "Europe/Helsinki"));
  await done(embedfleet("backfill", "add", "notes", "docs", "--cron", "30 4 * * 1-5", "--tz", "America/New_York"));
  const plan = (run, ...inputs) =>
    embedfleet("enqueue", ...inputs, "--run", run, "--heads", "dense", "--max-tokens", "512");
  const producers = [plan("web", "node_modules/*/README.md"), plan("manuals", "node_modules/@*/*/README.md")];
  await Promise.all(producers.map(done));
  plan("waiting", "docs", "--max-backlog", "1");
  await scaleTo(1);
  await untilRows("web", 40);
  await scaleTo(4);
  await sleep(5000);
  const browser = await openBrowser();
  await takeDashboard(browser, url);
  await scaleTo(0);
  await sleep(5000);
  await scaleTo(2);
  for (const run of ["web", "manuals"]) {
    while (!(await done(embedfleet("status", run, "--json"))).includes('"sealed"')) await sleep(1000);
    console.log(await done(embedfleet("verify", env.EMBEDFLEET_OUT, run)));
  }
  await takeReport(browser, "web");
  await browser.close();
}

if (!installPrograms(BROWSER)) fail("the pictures need Chromium: apt-get install chromium");
requireRedis();
try {
  await main();
} finally {
  for (const { child } of started) child.kill("SIGKILL");
  await rm(folder, { recursive: true, force: true });
}
