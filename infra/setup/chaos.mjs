/** `npm run test:chaos`: the chaos suite in its long form, and a table of what it counted. */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "./prepare.mjs";

const file = join(root, "out", "chaos.jsonl");
rmSync(file, { force: true });
const env = { ...process.env, CHAOS_ROUNDS: process.env.CHAOS_ROUNDS ?? "5", CHAOS_FIGURES: file };
// Besides the processes, the adversaries that act on ports: a store, Redis, a corpus of several machines.
const FILES = ["test/chaos", "store-adversary", "damaged-redis", "hostile-parts"];
const test = ["infra/setup/test.mjs", "all", ...FILES, "--maxWorkers=1", ...process.argv.slice(2)];
const { status } = spawnSync(process.execPath, test, { cwd: root, env, stdio: "inherit" });
if (existsSync(file)) publish(tableOf(readFileSync(file, "utf8")).join("\n"));
process.exitCode = status ?? 1;

/** Into the page, when every test was run and went well; a part of them says nothing of the others. */
function publish(table) {
  console.log(`\n${table}`);
  if (status !== 0 || process.argv.length > 2) return;
  const page = join(root, "docs", "reliability.md");
  const [before, after] = readFileSync(page, "utf8").split(/(?<=<!-- chaos: begin[^\n]*\n)[^]*(?=<!-- chaos: end)/);
  writeFileSync(page, `${before}${table}\n\n${env.CHAOS_ROUNDS} rounds.\n${after}`);
}

function tableOf(lines) {
  const faults = new Map();
  for (const line of lines.trimEnd().split("\n")) {
    const figures = JSON.parse(line);
    faults.set(figures.fault, [...(faults.get(figures.fault) ?? []), figures]);
  }
  return [
    "| fault | times injected | rows | lost | doubled | wrong | time to recover | command |",
    "|---|---|---|---|---|---|---|---|",
    ...[...faults].map(([fault, rounds]) => `| ${[fault, ...cellsOf(rounds)].join(" | ")} |`),
  ];
}

function cellsOf(rounds) {
  const sum = (name) => rounds.reduce((total, round) => total + round[name], 0).toLocaleString("en-US");
  const times = rounds.flatMap(({ recoveredMs }) => recoveredMs).sort((a, b) => a - b);
  const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`;
  const recovery =
    times.length === 0 ? "–" : `${seconds(times[times.length >> 1])} median, ${seconds(times.at(-1))} at most`;
  const command = `\`${rounds[0].command}\``;
  return [sum("injected"), sum("rows"), sum("lost"), sum("doubled"), sum("wrong"), recovery, command];
}
