/** The producer beside the bare native tokeniser, with either allocator, and its memory as the corpus grows. */
import { fork } from "node:child_process";
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { enqueueSettings } from "../../src/fleet/settings.ts";
import { barChart } from "../../src/telemetry/chart.ts";
import { type Bench, median, percent, whole } from "./bench.ts";
import { documents } from "./corpora.ts";
import type { ProducerAnswer, ProducerTask } from "./producer.process.ts";

/** Those of `--producer-threads` here, but more than one. */
const THREADS = Math.max(2, enqueueSettings.shape.producerThreads.parse(undefined));
/** Found by the dynamic linker wherever the distribution put it (Debian: `apt-get install libjemalloc2`). */
const JEMALLOC = "libjemalloc.so.2";

type Allocator = ProducerAnswer["allocator"];

const SUBJECTS = [
  { name: "bare tokeniser", kind: "bare", threads: 1 },
  { name: "bare tokeniser, its results freed", kind: "freed", threads: 1 },
  { name: "producer", kind: "producer", threads: 1 },
  { name: `producer, ${THREADS} threads`, kind: "producer", threads: THREADS },
  { name: "producer, in parts", kind: "parts", threads: 1 },
] as const;

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

async function measure(task: ProducerTask, allocator: Allocator): Promise<ProducerAnswer> {
  const script = fileURLToPath(new URL("./producer.process.js", import.meta.url));
  const env = { ...process.env, ...(allocator === "jemalloc" && { LD_PRELOAD: JEMALLOC }) };
  const child = fork(script, [JSON.stringify(task)], {
    env,
    execArgv: [],
    stdio: ["ignore", "inherit", "ignore", "ipc"],
  });
  const [answer] = (await Promise.race([
    once(child, "message"),
    once(child, "exit").then(([code]) => {
      throw new Error(`the process that measures ended with ${code}`);
    }),
  ])) as [ProducerAnswer];
  return answer;
}

interface Measured {
  readonly subject: (typeof SUBJECTS)[number];
  readonly allocator: Allocator;
  readonly answers: ProducerAnswer[];
}

/** In alternation: each round has all of them once. */
async function compare(file: string, warmUp: string, rounds: number): Promise<Measured[]> {
  const warm = await measure({ kind: "bare", threads: 1, file: warmUp, warmUp: null }, "jemalloc");
  const allocators: Allocator[] = warm.allocator === "jemalloc" ? ["system", "jemalloc"] : ["system"];
  const measured = allocators.flatMap((allocator) =>
    SUBJECTS.map((subject): Measured => ({ subject, allocator, answers: [] })),
  );
  for (let round = 0; round < rounds; round++) {
    for (const { subject, allocator, answers } of measured) {
      const { kind, threads } = subject;
      answers.push(await measure({ kind, threads, file, warmUp }, allocator));
    }
  }
  return measured;
}

/** Of each round, how much of the speed of `base` it had. */
function share(of: Measured, base: Measured): number {
  const speed = ({ tokens, seconds }: ProducerAnswer): number => tokens / seconds;
  return median(of.answers.map((answer, round) => speed(answer) / speed(base.answers[round]!)));
}

function rowsOf(measured: readonly Measured[]): (string | number)[][] {
  return measured.map((each) => {
    const { subject, allocator, answers } = each;
    const own = median(answers.map(({ ownMicros }) => ownMicros ?? NaN));
    const like = measured.find((other) => other.subject.kind === "bare" && other.allocator === allocator)!;
    return [
      subject.name,
      allocator,
      whole(median(answers.map(({ tokens, seconds }) => tokens / seconds))),
      percent(share(each, like)),
      percent(share(each, measured[0]!)),
      own.toFixed(3),
      whole(median(answers.map(({ peakBytes }) => peakBytes / 1e6))),
    ];
  });
}

/** Megabytes, of corpora that are `times` times as large. */
async function memoryOf(folder: string, texts: readonly string[], sizes: readonly number[]): Promise<number[]> {
  const megabytes: number[] = [];
  for (const times of sizes) {
    const file = join(folder, `x${times}.jsonl`);
    await writeCorpus(file, texts, times);
    const { peakBytes } = await measure({ kind: "producer", threads: 1, file, warmUp: null }, "system");
    megabytes.push(peakBytes / 1e6);
    await rm(file);
  }
  return megabytes;
}

export const bench: Bench = {
  title: "Producer: a JSONL file to a staged plan, beside the bare tokeniser",
  async run({ size }) {
    const isFull = size === "full";
    const folder = await mkdtemp(join(tmpdir(), "embedfleet-bench-"));
    try {
      const texts = documents(isFull ? 16_000_000 : 1_000_000);
      const [file, warmUp] = [join(folder, "corpus.jsonl"), join(folder, "warm-up.jsonl")];
      await writeCorpus(file, texts, 1);
      await writeCorpus(warmUp, texts.slice(0, 400), 1);
      const measured = await compare(file, warmUp, isFull ? 5 : 1);
      const sizes = isFull ? [1, 10, 100] : [1, 10];
      const memory = await memoryOf(folder, texts.slice(0, isFull ? texts.length >> 4 : 400), sizes);
      return {
        figures: { measured, threads: THREADS, sizes, memory },
        tables: [
          {
            title: "Speed, reading, cutting, hashing, sorting and staging included",
            columns: ["what", "allocator", "tokens/s", "of bare", "of bare, system", "own thread, µs/token", "peak MB"],
            rows: rowsOf(measured),
          },
          {
            title: "Largest resident memory of a producer",
            columns: ["corpus", "MB"],
            rows: sizes.map((times, i) => [`${times} x`, whole(memory[i]!)]),
          },
        ],
        charts: {
          producer: barChart({
            title: "Seconds for the same corpus (median)",
            xLabel: "seconds",
            bars: measured.map(({ subject, allocator, answers }): [string, number] => [
              `${subject.name} (${allocator})`,
              median(answers.map(({ seconds }) => seconds)),
            ]),
          }),
        },
        notes: [
          `${whole(measured[0]!.answers[0]!.tokens)} tokens, in alternation, each time in a process of its own.`,
          "In parts, the same process makes each part's pieces, writes them, reads them back and plans them.",
          "The bare tokeniser has its texts in memory and gives its results to nobody; in so short a time nothing of them is freed, and the second row is what it does when it has to.",
          ...(measured.length === SUBJECTS.length
            ? [`No ${JEMALLOC} was found, so only the system's allocator was measured.`]
            : []),
        ],
      };
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  },
};
