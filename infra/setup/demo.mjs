/** `npm run demo`: from a fresh clone to a searched index of a real corpus. */
import { spawnSync } from "node:child_process";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { build, installPackages, requireRedis, root, run } from "./prepare.mjs";

installPackages();
requireRedis();
build();

const cli = join(root, "dist/src/cli/main.js");
const folder = join(root, "out", "demo");
const out = pathToFileURL(folder).href;
rmSync(folder, { recursive: true, force: true });

/** The Markdown of the installed packages, and paragraphs in twelve languages written for the project. */
const corpus = ["node_modules/**/*.{md,markdown,txt}", "test/fixtures/corpus/multilingual.jsonl"];

function say(title, args) {
  console.log(`\n# ${title}\n$ embedfleet ${args.map((arg) => (/[ ()*]/.test(arg) ? `"${arg}"` : arg)).join(" ")}`);
  run(process.execPath, [cli, ...args]);
}

say("Embed", [
  "run",
  ...corpus,
  "--out",
  out,
  "--run",
  "demo",
  "--heads",
  "dense,sparse",
  "--max-tokens",
  "1024",
  "--log-level",
  "warn",
]);
say("Verify", ["verify", out, "demo", "--log-level", "error"]);
for (const query of [
  "Redis sentinel failover and reconnection",
  "a lighthouse keeper on a rocky island",
  "灯塔",
  "منارة",
]) {
  say("Search", ["search", out, query, "--top", "3", "--log-level", "error"]);
}
const files = spawnSync("ls", ["-lh", join(folder, "runs/demo/data")], { encoding: "utf8" })
  .stdout.split("\n")
  .slice(1, 6)
  .join("\n");
console.log(`\nThe first files, readable by pyarrow, Polars and LanceDB:\n${files}`);
