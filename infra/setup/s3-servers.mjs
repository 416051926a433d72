/**
 * `npm run test:s3-servers`: the store's conformance suite and the probe at start against several S3 servers, each real
 * and installed by this command into the cache, and a table of what came of it. Names after `--` choose servers.
 *
 * Needs go (versitygw, SeaweedFS, gofakes3), python3 (moto), npm (s3rver) and Ceph's packages (radosgw). A server that
 * cannot be had is said, and the command fails.
 */
import { CreateBucketCommand, S3Client } from "@aws-sdk/client-s3";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { root } from "./prepare.mjs";

// The store's own client says it the same way: which Node.js is needed is said in package.json.
process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED ??= "true";
const cache = join(root, "node_modules", ".cache", "embedfleet", "s3-servers");
const KEYS = { accessKeyId: "embedfleet", secretAccessKey: "embedfleet-secret" };
const START_TIMEOUT_MS = 120_000;

/** `install` returns the program's path; `start` its arguments and environment. */
const SERVERS = {
  radosgw: { version: () => words("radosgw", ["--version"])[2] },
  versitygw: {
    version: () => "1.8.0",
    install: () => goProgram("github.com/versity/versitygw@v1.8.0", "cmd/versitygw"),
    start: ({ port, folder }) => ({
      args: ["--quiet", "--port", `127.0.0.1:${port}`, "posix", folder],
      env: { ROOT_ACCESS_KEY: KEYS.accessKeyId, ROOT_SECRET_KEY: KEYS.secretAccessKey },
    }),
  },
  SeaweedFS: {
    version: () => "2026-11-09 (7506e5f91cd6)",
    install: () => goProgram("github.com/seaweedfs/seaweedfs@v0.0.0-20261109003541-7506e5f91cd6", "weed"),
    start: async ({ port, folder }) => ({
      args: [
        "server",
        "-ip=127.0.0.1",
        `-dir=${folder}`,
        "-volume.max=20",
        "-s3",
        `-s3.port=${port}`,
        `-s3.config=${seaweedKeys(folder)}`,
        ...(await seaweedPorts()),
      ],
    }),
  },
  moto: {
    version: () => "5.2.5",
    install: () => pythonProgram("moto[server,s3]==5.2.5", "moto_server"),
    start: ({ port }) => ({ args: ["-H", "127.0.0.1", "-p", String(port)] }),
  },
  gofakes3: {
    version: () => "1.2.0",
    install: () => goProgram("github.com/johannesboyne/gofakes3@v1.2.0", "cmd/gofakes3"),
    start: ({ port }) => ({ args: ["-backend", "memory", "-host", `127.0.0.1:${port}`] }),
  },
  s3rver: {
    version: () => "3.7.1",
    install: () => npmProgram("s3rver@3.7.1", "s3rver"),
    start: ({ port, folder }) => ({ args: ["-d", folder, "-a", "127.0.0.1", "-p", String(port), "-s"] }),
    // The only key that it knows.
    keys: { accessKeyId: "S3RVER", secretAccessKey: "S3RVER" },
  },
};

const chosen = process.argv.slice(2);
const unknown = chosen.filter((name) => !(name in SERVERS));
if (unknown.length > 0)
  throw new Error(`no server ${unknown.join(", ")}; there are ${Object.keys(SERVERS).join(", ")}`);
mkdirSync(cache, { recursive: true });
execFileSync("npm", ["run", "--silent", "build"], { cwd: root, stdio: "inherit" });
const rows = [];
for (const name of chosen.length > 0 ? chosen : Object.keys(SERVERS)) {
  console.log(`${name} …`);
  rows.push({ name, ...(await tryServer(SERVERS[name])) });
  console.log(`${name}: ${rows.at(-1).verdict}; ${rows.at(-1).why}`);
}
console.log(`\n${tableOf(rows).join("\n")}`);
process.exitCode = rows.every(({ isFine }) => isFine) ? 0 : 1;

async function tryServer(server) {
  let version = "?";
  try {
    version = server.version();
    return { version, ...(await withServer(server, judge)) };
  } catch (error) {
    return { version, verdict: "not tested", why: firstLine(error.message), suite: "–", isFine: false };
  }
}

/** Ceph is started by the tests' own setup. */
async function withServer(server, act) {
  if (server.install === undefined) return act({});
  const program = server.install();
  const folder = mkdtempSync(join(tmpdir(), "embedfleet-s3-server-"));
  const port = await freePort();
  const { args, env } = await server.start({ port, folder });
  const child = spawn(program, args, { cwd: folder, env: { ...process.env, ...env }, stdio: "ignore" });
  const ended = new Promise((resolve) => child.once("close", resolve).once("error", resolve));
  try {
    const endpoint = `http://127.0.0.1:${port}`;
    const keys = server.keys ?? KEYS;
    await untilBucket({ endpoint, keys, child });
    return await act({
      S3_TEST_ENDPOINT: endpoint,
      S3_TEST_BUCKET: "embedfleet-test",
      AWS_ACCESS_KEY_ID: keys.accessKeyId,
      AWS_SECRET_ACCESS_KEY: keys.secretAccessKey,
    });
  } finally {
    child.kill();
    await ended;
    rmSync(folder, { recursive: true, force: true });
  }
}

async function untilBucket({ endpoint, keys, child }) {
  const client = new S3Client({ endpoint, region: "us-east-1", credentials: keys, forcePathStyle: true });
  const deadline = performance.now() + START_TIMEOUT_MS;
  for (;;) {
    try {
      return await client.send(new CreateBucketCommand({ Bucket: "embedfleet-test" }));
    } catch (error) {
      if (/BucketAlready/.test(error.name)) return undefined;
      if (child.exitCode !== null || performance.now() > deadline)
        throw new Error(`it did not start: ${firstLine(error.message)}`, { cause: error });
      await sleep(500);
    }
  }
}

/** The suite and the probe, by the tests' own report. */
function judge(env) {
  const report = join(mkdtempSync(join(tmpdir(), "embedfleet-s3-report-")), "report.json");
  const files = ["test/conformance/object-store.test.ts", "test/conformance/s3-probe.test.ts"];
  const vitest = ["node_modules/vitest/vitest.mjs", "run", "--config", "test/vitest.config.ts", ...files];
  const how = ["-t", "S3", "--reporter=json", `--outputFile=${report}`];
  const { stderr } = spawnSync(process.execPath, [...vitest, ...how], {
    cwd: root,
    env: { ...process.env, ...env },
    encoding: "utf8",
  });
  if (!existsSync(report)) throw new Error(`the tests did not run: ${firstLine(stderr)}`);
  const tests = JSON.parse(readFileSync(report, "utf8")).testResults.flatMap(
    ({ assertionResults }) => assertionResults,
  );
  rmSync(join(report, ".."), { recursive: true });
  return verdictOf(tests);
}

function verdictOf(tests) {
  const ofS3 = tests.filter(({ ancestorTitles, status }) => ancestorTitles[0] === "S3" && status !== "skipped");
  const probe = ofS3.find(({ title }) => title.startsWith("the probe"));
  if (probe === undefined) throw new Error("there is no server to test with: its packages are not installed");
  const suite = ofS3.filter((each) => each !== probe);
  const failed = suite.filter(({ status }) => status !== "passed").map(({ title }) => title);
  const count = `${suite.length - failed.length} of ${suite.length}`;
  const findings = probe.meta?.probe;
  // It did not come to an end: the store could not be used at all.
  if (findings === undefined)
    return { verdict: "refused", why: firstLine(probe.failureMessages[0]), suite: count, isFine: true };
  const why = findings.map(({ property, detail }) => `${property}: ${detail}`).join("; ");
  if (findings.some(({ isEssential }) => isEssential))
    return { verdict: "refused (`--unsafe-store` takes it)", why, suite: count, isFine: true };
  // Races for one version are lost where the server ignores If-Match, and that is said.
  const unexplained = failed.filter((title) => findings.length === 0 || !/racing replacements|no count/.test(title));
  return {
    verdict: findings.length === 0 ? "accepted" : "accepted, with a warning",
    why:
      [why, ...unexplained.map((title) => `fails: ${title}`)].filter((text) => text !== "").join("; ") ||
      "keeps all promises",
    suite: count,
    isFine: unexplained.length === 0,
  };
}

function tableOf(rows) {
  const cells = rows.map(({ name, version, verdict, why, suite }) => [name, version, verdict, suite, why]);
  return [
    "| server | version | at start | suite | why |",
    "|---|---|---|---|---|",
    ...cells.map((row) => `| ${row.map((cell) => String(cell).replaceAll("|", "\\|")).join(" | ")} |`),
  ];
}

/** The module's own go.mod is the main one there, with its replacements, which `go install` would not take. */
function goProgram(module, packagePath) {
  const program = join(cache, `${packagePath.split("/").at(-1)}-${module.split("@").at(-1)}`);
  if (existsSync(program)) return program;
  const { Dir: folder } = JSON.parse(run("go", ["mod", "download", "-json", module], { cwd: cache }));
  run("nice", ["-n", "19", "go", "build", "-p", "1", "-o", program, `./${packagePath}`], { cwd: folder });
  return program;
}

function pythonProgram(requirement, name) {
  const folder = join(cache, requirement.replaceAll(/[^\w.]/g, "-"));
  const program = join(folder, "bin", name);
  if (existsSync(program)) return program;
  run("python3", ["-m", "venv", folder]);
  run(join(folder, "bin", "pip"), ["install", "--quiet", requirement]);
  return program;
}

function npmProgram(requirement, name) {
  const folder = join(cache, requirement);
  const program = join(folder, "node_modules", ".bin", name);
  if (existsSync(program)) return program;
  mkdirSync(folder, { recursive: true });
  run("npm", ["install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", folder, requirement]);
  return program;
}

function seaweedKeys(folder) {
  const file = join(folder, "identities.json");
  const { accessKeyId: accessKey, secretAccessKey: secretKey } = KEYS;
  const identity = { name: "embedfleet", credentials: [{ accessKey, secretKey }], actions: ["Admin"] };
  writeFileSync(file, JSON.stringify({ identities: [identity] }));
  return file;
}

async function seaweedPorts() {
  const ports = [];
  for (const part of ["master", "volume", "filer"])
    for (const kind of ["port", "port.grpc"]) ports.push(`-${part}.${kind}=${await freePort()}`);
  return [...ports, `-s3.port.grpc=${await freePort()}`];
}

function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer().once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

function run(command, args, options = {}) {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    encoding: "utf8",
    maxBuffer: 1 << 26,
    ...options,
  });
  if (status === 0) return stdout;
  throw new Error(`${command} ${args[0]} failed: ${firstLine(error?.message ?? stderr)}`);
}

function words(command, args) {
  return run(command, args).split(" ");
}

function firstLine(text) {
  return text.trim().split("\n")[0];
}
