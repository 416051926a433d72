/** One of the peers that run in Node, in a process of its own; it says the same as `peers/encode.py`. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { dirname } from "node:path";
import { chooseEngine } from "../../models/choose-engine.ts";
import { openEmbedder } from "../../models/resilience/open-embedder.ts";
import { openTokenizer } from "../../models/tokenizer/open-tokenizer.ts";
import { openModel } from "../../models/registry/open-model.ts";
import { findModel } from "../../models/registry/registry.ts";
import { CostCache } from "../../src/disk/cost-cache.ts";
import type { Head } from "../../src/core/contracts.ts";
import type { SourceItem } from "../../src/core/documents.ts";
import type { Embedder } from "../../src/core/ports.ts";
import { DEFAULT_PACKING } from "../../src/core/packing.ts";
import { sealRun } from "../../src/run/seal.ts";
import { sealedRows } from "../../src/run/sealed-rows.ts";
import { costOf } from "../../workers/probe-cost.ts";
import { runOptions } from "../fixtures/run-options.ts";
import { drain, log, openGround, openStore, plan } from "./fleet.ts";

interface Result {
  /** Rows, where the documents are cut. */
  readonly vectors: number;
  /** Of the first two texts' first rows. */
  readonly first: readonly number[];
  readonly second: readonly number[];
}
interface Peer {
  readonly version: string;
  encode(texts: readonly string[]): Promise<Result>;
  /** Ends what it has started. */
  close?(): Promise<void>;
}

const MAX_TOKENS = 8192;
/** transformers.js sends what it is given through the model at once; the others take this many. */
const BATCH = 32;
const THREADS = availableParallelism();
/** Linux only. */
const OOM_SCORE = "/proc/self/oom_score_adj";

async function transformersJs(model: string): Promise<Peer> {
  const { env, pipeline } = await import("@huggingface/transformers");
  env.allowRemoteModels = false;
  env.localModelPath = dirname(model);
  const extract = await pipeline("feature-extraction", model.slice(dirname(model).length + 1), { dtype: "fp32" });
  return {
    version: env.version,
    encode: async (texts) => {
      const vectors: number[][] = [];
      for (let at = 0; at < texts.length; at += BATCH) {
        const found = await extract(texts.slice(at, at + BATCH), { pooling: "cls", normalize: true });
        vectors.push(...(found.tolist() as number[][]));
      }
      return { vectors: vectors.length, first: vectors[0]!, second: vectors[1]! };
    },
  };
}

/** From texts in memory to a sealed run on disk, every file read back: more than the others are asked for. */
async function embedfleet(path: string, heads: Head[]): Promise<Peer> {
  const model = await openModel(findModel(path, { modelsFolder: "" }), { precision: "fp32" });
  const { manifest, ref } = model;
  const { dim, architecture } = manifest;
  const tokenizer = await openTokenizer(model, "passage");
  const { embedder: opened, maxBatchTokens } = await openEmbedder({
    engine: chooseEngine("onnx"),
    model,
    threads: THREADS,
    log,
  });
  // A worker closes its sandbox, which is the same here, and the session is for all runs.
  const embedder: Embedder = {
    device: opened.device,
    paddedLength: (longest) => opened.paddedLength(longest),
    embed: (params) => opened.embed(params),
    close: async () => {},
  };
  const ground = await openGround();
  const cost = await costOf({
    embedder,
    dim,
    heads,
    maxTokens: architecture.maxTokens,
    vocabSize: architecture.vocabSize,
    maxBatchTokens: maxBatchTokens(),
    budgetMs: 1000,
    cache: new CostCache(`${ground.folder}/cache`),
    key: { modelSha256: ref.sha256, precision: "fp32", device: embedder.device, threads: THREADS },
    log,
  });
  const redisUrl = ground.redis.url;
  const options = runOptions({
    model: ref,
    heads,
    maxTokens: MAX_TOKENS,
    chunkTokens: MAX_TOKENS,
    maxDocumentBytes: 2 ** 24,
  });
  const packing = { ...DEFAULT_PACKING, cost, paddedLength: (longest: number) => embedder.paddedLength(longest) };
  const { version } = createRequire(import.meta.url)("../../../package.json") as { version: string };
  let runs = 0;
  return {
    version,
    encode: async (texts) => {
      const run = `peers-${runs++}`;
      const store = await openStore(`${ground.folder}/${run}`);
      await plan({ store, redisUrl, run, options, tokenizer, items: itemsOf(texts) });
      await drain({ store, redisUrl, options, embedder, packing, vocabSize: tokenizer.vocabSize });
      const sealed = await sealRun({ store, run, keepStaging: false });
      if (sealed.kind !== "sealed") throw new Error(`the run is ${sealed.kind}`);
      const found = new Map<string, readonly number[]>();
      for await (const { rows } of sealedRows(store, sealed.manifest)) {
        for (const [row, id] of rows.ids.entries()) {
          if ((id === "d0" || id === "d1") && rows.chunks[row] === 0)
            found.set(id, Array.from(rows.dense!.subarray(row * dim, (row + 1) * dim)));
        }
      }
      return { vectors: sealed.manifest.totals.rows, first: found.get("d0")!, second: found.get("d1")! };
    },
    close: () => ground.close(),
  };
}

async function* itemsOf(texts: readonly string[]): AsyncGenerator<SourceItem> {
  for (const [i, text] of texts.entries())
    yield { kind: "document", document: { id: `d${i}`, text, origin: { file: "bench", line: i + 1 } } };
}

const PEERS: Readonly<Record<string, (folders: Readonly<{ hub: string; exported: string }>) => Promise<Peer>>> = {
  "transformers.js": ({ hub }) => transformersJs(hub),
  embedfleet: ({ exported }) => embedfleet(exported, ["dense"]),
  "embedfleet-all": ({ exported }) => embedfleet(exported, ["dense", "sparse", "colbert"]),
};

const [name, hub, exported, file] = process.argv.slice(2) as [string, string, string, string];
// Where memory runs out, let it be this process that ends.
if (existsSync(OOM_SCORE)) writeFileSync(OOM_SCORE, "1000");
const texts = JSON.parse(readFileSync(file, "utf8")) as string[];
const { version, encode, close } = await PEERS[name]!({ hub, exported });
await encode(["One short text", "to warm up with."]);
console.log(JSON.stringify({ version }));
const startedMs = performance.now();
const result = await encode(texts);
const seconds = (performance.now() - startedMs) / 1000;
await close?.();
process.stdout.write(`${JSON.stringify({ seconds, ...result })}\n`, () => process.exit());
