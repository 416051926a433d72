/**
 * Brings a fresh clone to where the commands work, and does nothing on one that is there already.
 * Plain JavaScript with nothing imported but Node's own modules: it runs before `npm ci`.
 */
import { spawnSync } from "node:child_process";
import { existsSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("../..", import.meta.url));

/** Runs a command and ends this process, with its exit code, when it fails. */
export function run(command, args, options = {}) {
  const result = spawnSync(command, args, { cwd: root, stdio: "inherit", ...options });
  if (result.error) fail(`${command} could not be started: ${result.error.message}`);
  if (result.status !== 0) process.exit(result.status ?? 1);
}

export function fail(message) {
  console.error(`error: ${message}`);
  process.exit(1);
}

/** Installs the packages of the lock file when they are not those on disk. */
export function installPackages() {
  const marker = `${root}/node_modules/.package-lock.json`;
  if (existsSync(marker) && statSync(marker).mtimeMs >= statSync(`${root}/package-lock.json`).mtimeMs) return;
  console.log("installing the npm packages");
  // The runtime for CPUs is inside onnxruntime-node's package; its script would fetch the GPU providers.
  const env = { ...process.env, ONNXRUNTIME_NODE_INSTALL: "skip" };
  run("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], { env });
}

/** LanceDB, which has packages of its own; see infra/lancedb/README.md. */
export function installLanceDb() {
  installApart("LanceDB", "infra/lancedb");
}

/** TypeDoc, which has packages of its own; see infra/typedoc/README.md. */
export function installTypeDoc() {
  installApart("TypeDoc", "infra/typedoc");
}

function installApart(name, path) {
  const folder = `${root}/${path}`;
  const marker = `${folder}/node_modules/.package-lock.json`;
  if (existsSync(marker) && statSync(marker).mtimeMs >= statSync(`${folder}/package-lock.json`).mtimeMs) return;
  console.log(`installing ${name}`);
  run("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", "--prefix", folder]);
}

export function build() {
  run("npm", ["run", "--silent", "build"]);
}

function isInstalled(program) {
  return spawnSync("sh", ["-c", `command -v ${program}`], { stdio: "ignore" }).status === 0;
}

function canInstall() {
  return isInstalled("apt-get") && process.getuid?.() === 0;
}

/**
 * Installs Debian packages for the programs that are missing.
 * @param {{ programs: string[], packages: string[] }} wanted
 * @returns {boolean} Whether they are all there now.
 */
export function installPrograms({ programs, packages }) {
  const missing = programs.filter((program) => !isInstalled(program));
  if (missing.length === 0) return true;
  if (!canInstall()) return false;
  console.log(`installing ${packages.join(" ")}`);
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const quiet = { env, stdio: ["ignore", "ignore", "inherit"] };
  // Freshly installed servers must not start by themselves and take their default ports.
  const install = [
    "-c",
    'apt-get update -qq && RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "$@"',
    "sh",
    ...packages,
  ];
  spawnSync("sh", install, { cwd: root, ...quiet });
  return missing.every(isInstalled);
}

export const REDIS = { programs: ["redis-server"], packages: ["redis-server"] };
/** Certificates for the tests of TLS. */
export const OPENSSL = { programs: ["openssl"], packages: ["openssl"] };
/** A real S3 server for the tests, from Debian's packages. */
export const S3_SERVER = {
  programs: ["radosgw", "ceph-mon", "ceph-osd", "ceph"],
  packages: ["radosgw", "ceph-mon", "ceph-osd", "ceph-common"],
};

/** What checks alert rules and the compose file. */
export const DEPLOY_TOOLS = { programs: ["promtool", "docker-compose"], packages: ["prometheus", "docker-compose"] };

/** A browser for the dashboard's tests, with a font, or its pictures would have no text. */
export const BROWSER = { programs: ["chromium"], packages: ["chromium", "fonts-dejavu-core"] };

export function requireRedis() {
  if (installPrograms(REDIS)) return;
  fail(
    "redis-server is not installed and this user cannot install it\n  Debian and Ubuntu: sudo apt-get install redis-server",
  );
}

/** Python with numpy and onnx, to rebuild the embedded model. */
export function installModelTools() {
  const works = () => spawnSync("/usr/bin/python3", ["-c", "import numpy, onnx"], { stdio: "ignore" }).status === 0;
  if (works()) return true;
  if (canInstall())
    installPrograms({ programs: ["embedfleet-needs-python-modules"], packages: ["python3-numpy", "python3-onnx"] });
  return works();
}

/** To render the chart anew: built from source, minutes, so only in CI and only where a Go toolchain is at hand. */
export function installHelm() {
  if (process.env.CI === undefined || isInstalled("helm") || !isInstalled("go")) return;
  const tools = join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "embedfleet", "tools");
  if (existsSync(join(tools, "helm"))) return;
  console.log("installing helm");
  const env = { ...process.env, GOBIN: tools, GOFLAGS: "-mod=mod" };
  spawnSync("go", ["install", "helm.sh/helm/v3/cmd/helm@v3.19.0"], { env, stdio: "ignore", timeout: 600_000 });
}
