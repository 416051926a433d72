/** mini and the generated 6-layer model at every precision: how fast on this CPU, and how near to PyTorch. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { measurePeak } from "../../models/onnx/measure-peak.ts";
import { encoderFlops, fullRows, gridOf } from "../../models/quality/measure-speed.ts";
import type { HeadParity } from "../../models/quality/parity.ts";
import { CPU } from "../../src/core/device-name.ts";
import { ThreadEmbedder } from "../../models/onnx/thread-embedder.ts";
import { openModel } from "../../models/registry/open-model.ts";
import { findModel } from "../../models/registry/registry.ts";
import { ALL_HEADS, type Precision, precisionSchema } from "../../src/core/contracts.ts";
import { lineChart } from "../../src/telemetry/chart.ts";
import { alternate, type Bench, median, percent, type Table, whole } from "./bench.ts";

const MODELS = ["mini", "tiny"] as const;
const PRECISIONS = precisionSchema.options;
/** A cell is measured for so long, in at least `MIN_ROUNDS` rounds of all precisions. */
const CELL_SECONDS = 8;
const MIN_ROUNDS = 3;
const MAX_ROUNDS = 40;
/** Both as seen from `dist/test/bench`. */
const CLI = fileURLToPath(new URL("../../src/cli/main.js", import.meta.url));
const REFERENCES = fileURLToPath(new URL("../../../test/fixtures/reference", import.meta.url));

interface Cell {
  readonly batch: number;
  readonly length: number;
  readonly rounds: number;
  readonly p50Ms: Readonly<Record<Precision, number>>;
  readonly longestMs: Readonly<Record<Precision, number>>;
  /** Of the fp32 graph's arithmetic at its median, to one large fp32 product in the same rounds. */
  readonly fp32PeakShare: number;
  /** Median of the rounds' ratios: what else the machine does falls on both alike. */
  readonly overFp32: Readonly<Record<Precision, number>>;
}

interface Measured {
  readonly model: string;
  readonly cells: readonly Cell[];
  readonly parities: readonly { readonly precision: Precision; readonly heads: readonly HeadParity[] }[];
}

function embedfleet(...args: readonly string[]): string {
  return execFileSync(process.execPath, [CLI, ...args], { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
}

async function measure(model: string, folder: string, maxBatchTokens: number): Promise<Measured> {
  const path = join(folder, model);
  embedfleet("models", "export", `generated:${model}`, "--into", path);
  const cells = await measureSpeed(path, maxBatchTokens);
  const reference = join(REFERENCES, `${model}.json`);
  const checked = JSON.parse(embedfleet("models", "check", path, "--reference", reference, "--json"));
  return { model, cells, parities: (checked as { precisions: Measured["parities"] }).precisions };
}

async function measureSpeed(path: string, maxBatchTokens: number): Promise<Cell[]> {
  const found = findModel(path, { modelsFolder: "" });
  const { manifest } = found;
  const config = JSON.parse(readFileSync(join(path, "config.json"), "utf8")) as Record<string, number>;
  const shape = {
    layers: config["num_hidden_layers"]!,
    hiddenSize: config["hidden_size"]!,
    intermediateSize: config["intermediate_size"]!,
  };
  const threads = availableParallelism();
  const embedders = new Map<Precision, ThreadEmbedder>();
  for (const precision of PRECISIONS)
    embedders.set(precision, await ThreadEmbedder.open({ model: await openModel(found, { precision }), threads }));
  const cells: Cell[] = [];
  for (const { batch, length } of gridOf({ manifest, maxBatchTokens })) {
    const rows = fullRows({ manifest, heads: ALL_HEADS }, batch, length);
    const embed = (precision: Precision) => (): Promise<unknown> => embedders.get(precision)!.embed({ rows });
    const variants = { fp32: embed("fp32"), fp16: embed("fp16"), int8: embed("int8") };
    const flops = batch * encoderFlops(shape, length);
    cells.push(await measureCell({ batch, length, variants, flops, threads }));
  }
  for (const embedder of embedders.values()) await embedder.close();
  return cells;
}

interface CellParams extends Pick<Cell, "batch" | "length"> {
  readonly variants: Readonly<Record<Precision, () => Promise<unknown>>>;
  readonly flops: number;
  readonly threads: number;
}

async function measureCell({ batch, length, variants, flops, threads }: CellParams): Promise<Cell> {
  const first = await alternate(variants, 1);
  const roundSeconds = PRECISIONS.reduce((sum, precision) => sum + first[precision][0]!, 0);
  const rounds = Math.max(MIN_ROUNDS, Math.min(MAX_ROUNDS, Math.floor(CELL_SECONDS / roundSeconds)));
  const peakFlops = await measurePeak({ device: CPU, threads });
  const seconds = await alternate(variants, rounds);
  const each = (make: (values: readonly number[]) => number): Record<Precision, number> => ({
    fp32: make(seconds.fp32),
    fp16: make(seconds.fp16),
    int8: make(seconds.int8),
  });
  const p50Ms = each((values) => median(values) * 1000);
  return {
    batch,
    length,
    rounds,
    p50Ms,
    longestMs: each((values) => Math.max(...values) * 1000),
    fp32PeakShare: (flops * 1000) / p50Ms.fp32 / peakFlops,
    overFp32: each((values) => median(values.map((value, round) => seconds.fp32[round]! / value))),
  };
}

function tokensPerSecond({ batch, length, p50Ms }: Cell, precision: Precision): number {
  return (batch * length * 1000) / p50Ms[precision];
}

function speedTable({ model, cells }: Measured): Table {
  return {
    title: `${model}: full rows, all three heads`,
    columns: [
      "tokens x rows",
      "fp32 p50 ms",
      "longest ms",
      "rows/s",
      "tokens/s",
      "of peak",
      "fp16 / fp32",
      "int8 tokens/s",
      "int8 / fp32",
    ],
    rows: cells.map((cell) => [
      `${cell.length} x ${cell.batch}`,
      cell.p50Ms.fp32.toFixed(1),
      cell.longestMs.fp32.toFixed(1),
      ((cell.batch * 1000) / cell.p50Ms.fp32).toFixed(1),
      whole(tokensPerSecond(cell, "fp32")),
      percent(cell.fp32PeakShare),
      cell.overFp32.fp16.toFixed(2),
      whole(tokensPerSecond(cell, "int8")),
      cell.overFp32.int8.toFixed(2),
    ]),
  };
}

function parityTable({ model, parities }: Measured): Table {
  return {
    title: `${model}: against PyTorch in float32`,
    columns: ["precision, head", "cosine min", "mean", "max error", "top 10"],
    rows: parities.flatMap(({ precision, heads }) =>
      heads.map(({ head, cosineMin, cosineMean, maxAbsError, top10Overlap }) => [
        `${precision}, ${head}`,
        cosineMin.toFixed(6),
        cosineMean.toFixed(6),
        maxAbsError.toExponential(1),
        top10Overlap === null ? "" : percent(top10Overlap),
      ]),
    ),
  };
}

/** Tokens a second by row length, the best batch of each. */
function chartOf({ model, cells }: Measured): string {
  const lengths = [...new Set(cells.map(({ length }) => length))];
  const best = (precision: Precision, length: number): number =>
    Math.max(...cells.filter((cell) => cell.length === length).map((cell) => tokensPerSecond(cell, precision)));
  return lineChart({
    title: `${model} on a CPU: tokens a second`,
    xLabel: "tokens a row",
    yLabel: "tokens a second",
    xScale: "log",
    series: PRECISIONS.map((name) => ({ name, points: lengths.map((length) => [length, best(name, length)]) })),
  });
}

export const bench: Bench = {
  title: "Models on this CPU: how fast at each precision, and how near to PyTorch",
  async run({ size }) {
    const folder = mkdtempSync(join(tmpdir(), "embedfleet-bench-"));
    try {
      const measured: Measured[] = [];
      for (const model of MODELS) measured.push(await measure(model, folder, size === "full" ? 16_384 : 1024));
      return {
        figures: measured,
        tables: [...measured.map(speedTable), ...measured.map(parityTable)],
        charts: Object.fromEntries(measured.map((each) => [`models-${each.model}`, chartOf(each)])),
        notes: [
          "The three precisions run in turn. Ratios are medians over the rounds; of peak: of one large fp32 product.",
        ],
      };
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  },
};
