/** The producer beside the bare native tokeniser, and its memory as the corpus grows. */
import { fork } from "node:child_process";
import { once } from "node:events";
import { createWriteStream, existsSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Tokenizer } from "tokenizers";
import { OPTIONS } from "../../src/config.ts";
import { barChart } from "../../src/telemetry/chart.ts";
import { openMini } from "../fixtures/mini.ts";
import { alternate, type Bench, median, percent, whole } from "./bench.ts";
import { documents } from "./corpora.ts";
import { produceFile } from "./producer.process.ts";

const DOCUMENTS_PER_CALL = 512;
/** Those of `--producer-threads` here, but more than one. */
const THREADS = Math.max(2, OPTIONS.producerThreads().defaultValue as number);

async function writeCorpus(file: string, texts: readonly string[], times: number): Promise<void> {
  const stream = createWriteStream(file);
  for (let copy = 0; copy < times; copy++) {
    for (const [i, text] of texts.entries()) {
      if (!stream.write(`${JSON.stringify({ id: `${copy}-${i}`, text })}\n`)) await once(stream, "drain");
    }
  }
  stream.end();
  await once(stream, "close");
}

/** Texts that lie in memory, through the library, and nothing done with what it gives. */
async function tokeniseBare(native: Tokenizer, texts: readonly string[]): Promise<number> {
  let tokens = 0;
  for (let at = 0; at < texts.length; at += DOCUMENTS_PER_CALL) {
    const encodings = await native.encodeBatch(texts.slice(at, at + DOCUMENTS_PER_CALL), { addSpecialTokens: false });
    for (const encoding of encodings) tokens += encoding.getLength();
  }
  return tokens;
}

/** What the calling thread has computed, in milliseconds; null where the system does not tell. */
function ownThreadMs(): number | null {
  const path = `/proc/self/task/${process.pid}/stat`;
  if (!existsSync(path)) return null;
  const [user, system] = readFileSync(path, "latin1").split(") ")[1]!.split(" ").slice(11, 13);
  return (Number(user) + Number(system)) * 10;
}

/** Microseconds of this thread for each token that `produceTokens` plans. */
async function ownMicros(produceTokens: () => Promise<number>): Promise<number> {
  const before = ownThreadMs();
  const tokens = await produceTokens();
  return before === null ? NaN : ((ownThreadMs()! - before) * 1000) / tokens;
}

async function peakMegabytes(file: string): Promise<number> {
  const child = fork(fileURLToPath(new URL("./producer.process.js", import.meta.url)), [file]);
  const [bytes] = (await once(child, "message")) as [number];
  return bytes / 1e6;
}

export const bench: Bench = {
  title: "Producer: a JSONL file to a staged plan, beside the bare tokeniser",
  async run({ size }) {
    const isFull = size === "full";
    const folder = await mkdtemp(join(tmpdir(), "embedfleet-bench-"));
    try {
      const texts = documents(isFull ? 16_000_000 : 1_000_000);
      const file = join(folder, "corpus.jsonl");
      await writeCorpus(file, texts, 1);
      const native = Tokenizer.fromFile((await openMini()).tokenizerPath);
      native.disableTruncation();
      let tokens = 0;
      let planned = 0;
      const own: number[] = [];
      const ownOfThreads: number[] = [];
      const seconds = await alternate(
        {
          bare: async () => (tokens = await tokeniseBare(native, texts)),
          producer: async () => own.push(await ownMicros(async () => (planned = await produceFile(file)))),
          threads: async () => ownOfThreads.push(await ownMicros(() => produceFile(file, THREADS))),
        },
        isFull ? 3 : 2,
      );
      const ratios = seconds.bare.map((bare, i) => bare / seconds.producer[i]!);
      const threadRatios = seconds.bare.map((bare, i) => bare / seconds.threads[i]!);
      const memory: [times: number, megabytes: number][] = [];
      for (const times of isFull ? [1, 10, 100] : [1, 10]) {
        const larger = join(folder, `x${times}.jsonl`);
        await writeCorpus(larger, texts.slice(0, isFull ? texts.length >> 4 : 400), times);
        memory.push([times, await peakMegabytes(larger)]);
        await rm(larger);
      }
      return {
        figures: {
          tokens,
          planned,
          seconds,
          ratio: median(ratios),
          threads: THREADS,
          threadRatio: median(threadRatios),
          own,
          ownOfThreads,
          memory,
        },
        tables: [
          {
            title: "Speed, reading, cutting, hashing, sorting and staging included",
            columns: ["measure", "median"],
            rows: [
              ["producer / bare tokeniser, one thread", percent(median(ratios))],
              [`producer / bare tokeniser, ${THREADS} threads`, percent(median(threadRatios))],
              ["the producer's own thread, µs a token, one thread", median(own).toFixed(3)],
              [`the producer's own thread, µs a token, ${THREADS} threads`, median(ownOfThreads).toFixed(3)],
              ["tokens of the corpus", whole(tokens)],
            ],
          },
          {
            title: "Largest resident memory of a producer",
            columns: ["corpus", "MB"],
            rows: memory.map(([times, megabytes]) => [`${times} x`, whole(megabytes)]),
          },
        ],
        charts: {
          producer: barChart({
            title: "Seconds for the same corpus (median)",
            xLabel: "seconds",
            bars: [
              ["bare tokeniser", median(seconds.bare)],
              ["producer", median(seconds.producer)],
              [`producer, ${THREADS} threads`, median(seconds.threads)],
            ],
          }),
        },
        notes: ["In alternation. The bare tokeniser has its texts in memory and gives its results to nobody."],
      };
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  },
};
