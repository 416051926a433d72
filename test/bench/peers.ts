/** embedfleet beside what people use instead: the same weights, the same texts, the same cores. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { loadTokenizer } from "../../models/tokenizer/native.ts";
import type { Tokenizer } from "../../src/core/ports.ts";
import { barChart } from "../../src/telemetry/chart.ts";
import { type Bench, type BenchReport, median, percent, type Table, whole } from "./bench.ts";
import { documents, naturalTexts } from "./corpora.ts";
import { peerModel, peersPython, sources } from "./peers/environment.ts";
import { type PeerOutcome, runPeer } from "./peers/run-peer.ts";

const MAX_TOKENS = 8192;
/** Of a long document. */
const LONG_TOKENS = 12_000;
const LIMITS = { seconds: 600, bytes: 12e9 };

interface Peer {
  readonly name: string;
  readonly heads: string;
  readonly command: (file: string) => readonly [string, ...string[]];
}

interface Measured {
  readonly peer: Peer;
  readonly rounds: PeerOutcome[];
  long: PeerOutcome | null;
}

interface Texts {
  readonly paragraphs: readonly string[];
  readonly long: readonly string[];
  readonly tokens: number;
  readonly longTokens: number;
  /** What is left where each is cut at `MAX_TOKENS`. */
  readonly longKept: number;
  readonly corpus: string;
}

async function textsOf(exported: string, isFull: boolean): Promise<Texts> {
  const natural = new Map(naturalTexts());
  const all = natural.get("XQuAD") ?? documents(600_000).filter((text) => text.length > 20 && text.length < 4000);
  const wanted = isFull ? 288 : 48;
  const paragraphs = all.filter((_, i) => i % Math.floor(all.length / wanted) === 0).slice(0, wanted);
  const tokenizer = await loadTokenizer(join(exported, "tokenizer.json"));
  const longest = (natural.get("mixed lengths") ?? [documents(4_000_000).join("\n")]).toSorted(
    (a, b) => b.length - a.length,
  );
  const long = await longTexts(tokenizer, longest.slice(0, 12).join("\n"), isFull ? 11 : 1);
  const lengthsOf = async (texts: readonly string[]): Promise<number[]> =>
    (await tokenizer.encode({ texts })).map(({ ids }) => ids.length + 2);
  const sum = (lengths: readonly number[]): number => lengths.reduce((total, length) => total + length, 0);
  const longLengths = await lengthsOf(long);
  return {
    paragraphs,
    long,
    tokens: sum(await lengthsOf(paragraphs)),
    longTokens: sum(longLengths),
    longKept: sum(longLengths.map((length) => Math.min(length, MAX_TOKENS))),
    corpus: natural.has("XQuAD") ? "paragraphs of XQuAD in 12 languages" : "documents of installed packages",
  };
}

/** Pieces of one text, and the first one again with another end, which only those see who read that far. */
async function longTexts(tokenizer: Tokenizer, source: string, pieces: number): Promise<string[]> {
  const [encoded] = await tokenizer.encode({ texts: [source], startsAbove: 0 });
  const startOf = (piece: number): number => encoded!.starts[piece * LONG_TOKENS]!;
  const texts = Array.from({ length: pieces }, (_, i) => source.slice(startOf(i), startOf(i + 1)).toWellFormed());
  const first = texts[0]!;
  const kept = Math.floor(first.length * 0.9);
  return [first, `${first.slice(0, kept)}${first.slice(0, first.length - kept)}`.toWellFormed(), ...texts.slice(1)];
}

function peersOf(python: string, model: Readonly<{ hub: string; exported: string }>): Peer[] {
  const inPython = (id: string) => (file: string) => [python, join(sources, "encode.py"), id, model.hub, file] as const;
  const script = fileURLToPath(new URL("./peers.process.js", import.meta.url));
  const inNode = (id: string) => (file: string) =>
    [process.execPath, script, id, model.hub, model.exported, file] as const;
  const all = "dense, sparse, ColBERT";
  return [
    { name: "embedfleet", heads: "dense", command: inNode("embedfleet") },
    { name: "sentence-transformers", heads: "dense", command: inPython("sentence-transformers") },
    { name: "Infinity, offline engine", heads: "dense", command: inPython("infinity") },
    { name: "FlagEmbedding", heads: "dense", command: inPython("flagembedding") },
    { name: "fastembed", heads: "dense", command: inPython("fastembed") },
    { name: "transformers.js", heads: "dense", command: inNode("transformers.js") },
    { name: "embedfleet", heads: all, command: inNode("embedfleet-all") },
    { name: "FlagEmbedding", heads: all, command: inPython("flagembedding-all") },
  ];
}

async function measure(peers: readonly Peer[], texts: Texts, rounds: number, folder: string): Promise<Measured[]> {
  const files = { paragraphs: texts.paragraphs, long: texts.long };
  const fileOf = (name: string): string => join(folder, `${name}.json`);
  for (const [name, content] of Object.entries(files)) await writeFile(fileOf(name), JSON.stringify(content));
  const measured = peers.map((peer): Measured => ({ peer, rounds: [], long: null }));
  const run = async ({ peer }: Measured, what: string): Promise<PeerOutcome> => {
    const outcome = await runPeer({ command: peer.command(fileOf(what)), limits: LIMITS });
    const told = outcome.kind === "done" ? `${outcome.seconds.toFixed(1)} s` : outcome.reason;
    console.error(`${what}: ${peer.name} (${peer.heads}): ${told}`);
    return outcome;
  };
  for (let round = 0; round < rounds; round++) {
    for (const each of measured) {
      // One that failed once would fail again.
      if (each.rounds.every(({ kind }) => kind === "done")) each.rounds.push(await run(each, "paragraphs"));
    }
  }
  for (const each of measured) if (each.rounds.at(-1)?.kind === "done") each.long = await run(each, "long");
  return measured;
}

function speedOf({ rounds }: Measured, tokens: number): number | null {
  const seconds = rounds.map((outcome) => (outcome.kind === "done" ? outcome.seconds : null));
  return seconds.includes(null) ? null : tokens / median(seconds as number[]);
}

function gigabytes(outcomes: readonly PeerOutcome[]): string {
  return `${(Math.max(...outcomes.map(({ peakBytes }) => peakBytes)) / 1e9).toFixed(2)} GB`;
}

function cosine(a: readonly number[], b: readonly number[]): number {
  const dot = (x: readonly number[], y: readonly number[]): number =>
    x.reduce((sum, value, i) => sum + value * y[i]!, 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}

function speedTable(measured: readonly Measured[], texts: Texts): Table {
  const reference = measured.find(({ peer }) => peer.name === "FlagEmbedding")?.rounds.at(-1);
  return {
    title: `${texts.paragraphs.length} ${texts.corpus}, ${whole(texts.tokens)} tokens`,
    columns: ["", "version", "heads", "tokens/s", "embedfleet is", "peak memory", "cosine to FlagEmbedding"],
    rows: measured.map((each) => {
      const { peer, rounds } = each;
      const last = rounds.at(-1)!;
      if (last.kind === "failed")
        return [peer.name, "", peer.heads, `failed: ${last.reason}`, "", gigabytes(rounds), ""];
      const speed = speedOf(each, texts.tokens)!;
      const ours = measured.find(({ peer: { name, heads } }) => name === "embedfleet" && heads === peer.heads)!;
      const ratio = (speedOf(ours, texts.tokens) ?? Number.NaN) / speed;
      const near = reference?.kind === "done" ? cosine(last.first, reference.first).toFixed(6) : "";
      return [peer.name, last.version, peer.heads, whole(speed), `${ratio.toFixed(2)} x`, gigabytes(rounds), near];
    }),
  };
}

function longTable(measured: readonly Measured[], texts: Texts): Table {
  const { long, longTokens, longKept } = texts;
  return {
    title: `${long.length} documents beyond ${whole(MAX_TOKENS)} tokens, ${whole(longTokens)} tokens`,
    columns: ["", "heads", "outcome", "tokens embedded", "seconds", "peak memory"],
    rows: measured.map(({ peer, long: outcome }) => {
      if (outcome === null) return [peer.name, peer.heads, "not tried: it failed before", "", "", ""];
      if (outcome.kind === "failed") return [peer.name, peer.heads, outcome.reason, "0", "", gigabytes([outcome])];
      const { first, second, vectors } = outcome;
      const isCut = vectors === long.length && cosine(first, second) > 0.99999;
      const fate = isCut ? `cut off at ${whole(MAX_TOKENS)}` : `whole, in ${vectors} vectors`;
      const share = percent(isCut ? longKept / longTokens : 1);
      return [peer.name, peer.heads, fate, share, outcome.seconds.toFixed(1), gigabytes([outcome])];
    }),
  };
}

function withoutVectors(outcome: PeerOutcome): unknown {
  return { ...outcome, first: undefined, second: undefined };
}

function report(measured: readonly Measured[], texts: Texts): BenchReport {
  const nameOf = ({ name, heads }: Peer): string => (heads === "dense" ? name : `${name}, all heads`);
  const { paragraphs, long, ...counts } = texts;
  return {
    figures: {
      texts: { ...counts, paragraphs: paragraphs.length, long: long.length },
      peers: measured.map(({ peer: { name, heads }, rounds, long: outcome }) => ({
        name,
        heads,
        rounds: rounds.map(withoutVectors),
        long: outcome && withoutVectors(outcome),
      })),
    },
    tables: [speedTable(measured, texts), longTable(measured, texts)],
    charts: {
      peers: barChart({
        title: "The same model, texts and cores",
        xLabel: "tokens a second",
        bars: measured.map((each) => [nameOf(each.peer), speedOf(each, texts.tokens) ?? 0]),
      }),
    },
    notes: [
      `${Math.max(...measured.map(({ rounds }) => rounds.length))} rounds in alternation, each in a separate process, loaded and warm before the clock starts; figures are the median, and the largest memory of the process and its children. The model has 6 layers of width 384, 8,192 positions and made-up weights, in float32. Batches have 32 texts, the default of most libraries and faster here than the 256 of FlagEmbedding and fastembed; the length limit is 8,192 for all. FlagEmbedding embeds its first batch twice, to find out whether it fits. embedfleet's time runs from texts in memory to a sealed run on disk, including its Redis and reading every file back.`,
    ],
  };
}

export const bench: Bench = {
  title: "Peers: the same model, texts and cores",
  async run({ size }) {
    const isFull = size === "full";
    const python = peersPython();
    const model = peerModel(python);
    const folder = await mkdtemp(join(tmpdir(), "embedfleet-bench-"));
    try {
      const texts = await textsOf(model.exported, isFull);
      return report(await measure(peersOf(python, model), texts, isFull ? 3 : 2, folder), texts);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  },
};
