/**
 * `npm run test:node`: the unit tests and a few runs on the supported versions of Node.js, but not on the major version
 * that runs this. `npm run test:node -- 20.19` runs the versions that are named. Node.js comes from npm's packages with
 * its own program; the command fails when one cannot be installed.
 */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { build, fail, installPackages, requireRedis, root, run } from "./prepare.mjs";

const VERSIONS = ["20.19", "22", "24"];
/** What documentation is generated does not depend on the version. */
const TESTS = ["test/unit", "test/e2e/bad-input.test.ts", "--exclude", "test/unit/docs.test.ts"];

/** @returns The path of that version's `node`. */
function install(version) {
  const cache = process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache");
  const folder = join(cache, "embedfleet", "node", version);
  const name = `node-${process.platform === "win32" ? "win" : process.platform}-${process.arch}`;
  const program = join(folder, "node_modules", name, "bin", "node");
  if (!existsSync(program)) {
    console.log(`installing Node.js ${version}`);
    const words = ["install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error", "--prefix", folder];
    spawnSync("npm", [...words, `${name}@${version}`], { stdio: "inherit" });
  }
  if (!existsSync(program)) fail(`${name}@${version} cannot be installed\n  check the connection to npm's registry`);
  return program;
}

installPackages();
requireRedis();
build();
const vitest = join(root, "node_modules/vitest/vitest.mjs");
const [major] = process.versions.node.split(".");
const named = process.argv.slice(2);
for (const version of named.length > 0 ? named : VERSIONS.filter((each) => each.split(".")[0] !== major)) {
  const program = install(version);
  console.log(`Node.js ${spawnSync(program, ["--version"], { encoding: "utf8" }).stdout.trim()}`);
  // Tests start the command with this program, and shebangs find it first.
  const env = { ...process.env, PATH: `${dirname(program)}:${process.env.PATH}` };
  run(
    program,
    [vitest, "run", "--config", "test/vitest.config.ts", "--project=unit", "--project=contributor", ...TESTS],
    { env },
  );
}
