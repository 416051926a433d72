/** What the bench of producers measures, each time in a process of its own: memory that others left would count. */
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Tokenizer } from "tokenizers";
import { loadTokenizer } from "../../models/tokenizer/native.ts";
import { LocalChunker } from "../../producers/chunking/chunker.ts";
import { Corpus } from "../../producers/corpus.ts";
import { makePart } from "../../producers/parts/make-part.ts";
import { placeOpener } from "../../producers/parts/parts.ts";
import { ProducerThreads } from "../../producers/parts/producer-threads.ts";
import { SHARED_CUT, SharedReader } from "../../producers/parts/shared-reader.ts";
import { produce, type ProduceParams } from "../../producers/plan-corpus.ts";
import { Buckets } from "../../producers/sources/buckets.ts";
import type { Tokenizer as FleetTokenizer } from "../../src/core/ports.ts";
import { unobserved } from "../../src/core/telemetry.ts";
import { openRun } from "../../src/run/open-run.ts";
import { MemoryParts } from "../fixtures/memory-parts.ts";
import { MemoryQueue } from "../fixtures/memory-queue.ts";
import { openMini } from "../fixtures/mini.ts";
import { runOptions } from "../fixtures/run-options.ts";
import { openStore } from "./fleet.ts";

export interface ProducerTask {
  /**
   * `freed`: the bare tokeniser, and after every call its results are freed. `parts`: the corpus in parts that are made
   * and put together in this process, as `enqueue --distributed` and `produce` do it in several.
   */
  readonly kind: "bare" | "freed" | "producer" | "parts";
  readonly threads: number;
  /** A JSONL file. */
  readonly file: string;
  /** Another, for everything to be loaded and compiled before the clock starts. */
  readonly warmUp: string | null;
}

export interface ProducerAnswer {
  readonly tokens: number;
  readonly seconds: number;
  /** Processor time of the calling thread, µs a token; null where the system does not tell. */
  readonly ownMicros: number | null;
  readonly peakBytes: number;
  readonly allocator: "jemalloc" | "system";
}

const DOCUMENTS_PER_CALL = 512;
const PARTS_AT_ONCE = 2;
/** Smaller than the usual one, so that a corpus of a few megabytes has several. */
const PART_BYTES = 4 * 1024 * 1024;

type Common = Pick<ProduceParams, "store" | "queue" | "record" | "maxRejects">;

/** Makes the parts and puts them together, all in this process. @returns Tokens planned, special tokens included. */
async function produceParts(common: Common, corpus: Corpus, tokenizer: FleetTokenizer): Promise<number> {
  const { store, record } = common;
  const chunker = new LocalChunker({ tokenizer, options: record.options });
  const buckets = new Buckets(undefined);
  const tools = { store, record, chunker, open: placeOpener((name) => buckets.get(name)), observe: unobserved };
  const queue = new MemoryParts();
  await queue.work({ atOnce: PARTS_AT_ONCE, make: (job, signal) => makePart(job, tools, signal) });
  const reader = new SharedReader({ store, queue, run: record.run, pollIntervalMs: 5 });
  const items = corpus.items(reader, { ...SHARED_CUT, partBytes: PART_BYTES });
  const { tokens } = await produce({ ...common, chunker, items });
  await queue.close();
  return tokens;
}

/** @returns Tokens planned, special tokens included. */
async function produceFile(file: string, threads: number, inParts: boolean): Promise<number> {
  const folder = await mkdtemp(join(tmpdir(), "embedfleet-bench-"));
  const model = await openMini();
  const options = runOptions({ model: model.ref, maxTokens: 8192, maxDocumentBytes: 1 << 26 });
  const corpus = new Corpus({ inputs: [file], ...options });
  try {
    const store = await openStore(folder);
    const { record } = await openRun(store, { run: "bench", inputs: [file], options, since: undefined });
    const common = { store, queue: new MemoryQueue(), record, maxRejects: null };
    if (inParts) return await produceParts(common, corpus, await loadTokenizer(model.tokenizerPath));
    if (threads === 1) {
      const tokenizer = await loadTokenizer(model.tokenizerPath);
      return (await produce({ ...common, tokenizer, items: corpus.items() })).tokens;
    }
    const chunker = await ProducerThreads.open({
      threads,
      setup: { model, cutting: options, reading: options, s3: undefined },
    });
    try {
      return (await produce({ ...common, chunker, items: corpus.items(chunker) })).tokens;
    } finally {
      await chunker.close();
    }
  } finally {
    await corpus.close();
    await rm(folder, { recursive: true, force: true });
  }
}

/** Texts that lie in memory, through the library, and nothing done with what it gives. */
async function tokenise(native: Tokenizer, texts: readonly string[], afterCall: () => void): Promise<number> {
  let tokens = 0;
  for (let at = 0; at < texts.length; at += DOCUMENTS_PER_CALL) {
    const encodings = await native.encodeBatch(texts.slice(at, at + DOCUMENTS_PER_CALL), { addSpecialTokens: false });
    for (const encoding of encodings) tokens += encoding.getLength();
    afterCall();
  }
  return tokens;
}

function textsOf(file: string): string[] {
  const lines = readFileSync(file, "utf8").trimEnd().split("\n");
  return lines.map((line) => (JSON.parse(line) as { text: string }).text);
}

/** What the calling thread has computed, in milliseconds. */
function ownThreadMs(): number | null {
  const path = `/proc/self/task/${process.pid}/stat`;
  if (!existsSync(path)) return null;
  const [user, system] = readFileSync(path, "latin1").split(") ")[1]!.split(" ").slice(11, 13);
  return (Number(user) + Number(system)) * 10;
}

/** Where the system tells it; `resourceUsage` counts what the parent held when it started this process. */
function peakBytes(): number {
  if (!existsSync("/proc/self/status")) return process.resourceUsage().maxRSS * 1024;
  return Number(/VmHWM:\s+(\d+)/.exec(readFileSync("/proc/self/status", "latin1"))![1]) * 1024;
}

function allocator(): ProducerAnswer["allocator"] {
  const maps = "/proc/self/maps";
  return existsSync(maps) && readFileSync(maps, "latin1").includes("jemalloc") ? "jemalloc" : "system";
}

async function prepare({ kind, file, warmUp, threads }: ProducerTask): Promise<() => Promise<number>> {
  if (kind === "producer" || kind === "parts") {
    if (warmUp !== null) await produceFile(warmUp, threads, kind === "parts");
    return () => produceFile(file, threads, kind === "parts");
  }
  const native = Tokenizer.fromFile((await openMini()).tokenizerPath);
  native.disableTruncation();
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as (options: { type: "minor" }) => void;
  const afterCall = kind === "freed" ? (): void => collect({ type: "minor" }) : (): void => {};
  if (warmUp !== null) await tokenise(native, textsOf(warmUp), afterCall);
  const texts = textsOf(file);
  return () => tokenise(native, texts, afterCall);
}

const measure = await prepare(JSON.parse(process.argv[2]!) as ProducerTask);
const ownBefore = ownThreadMs();
const startedMs = performance.now();
const tokens = await measure();
const seconds = (performance.now() - startedMs) / 1000;
const ownMicros = ownBefore === null ? null : ((ownThreadMs()! - ownBefore) * 1000) / tokens;
const answer: ProducerAnswer = { tokens, seconds, ownMicros, peakBytes: peakBytes(), allocator: allocator() };
process.send!(answer, () => process.disconnect());
