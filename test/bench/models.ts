/** `models bench` and `models check` on mini and on the generated 6-layer model, at every precision: docs/models.md. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { bestByLength, type Cell } from "../../models/bench-model.ts";
import type { HeadParity } from "../../models/check.ts";
import { type Precision, precisionSchema } from "../../src/core/contracts.ts";
import { lineChart } from "../../src/telemetry/chart.ts";
import { type Bench, percent, type Table, whole } from "./bench.ts";

const MODELS = ["mini", "tiny"] as const;
const PRECISIONS = precisionSchema.options;
/** Both as seen from `dist/test/bench`. */
const CLI = fileURLToPath(new URL("../../src/cli/main.js", import.meta.url));
const REFERENCES = fileURLToPath(new URL("../../../test/fixtures/reference", import.meta.url));

interface TimedCell extends Cell {
  readonly flopsPerSecond: number;
}

interface Speed {
  readonly precision: Precision;
  readonly peakFlops: number;
  readonly cells: readonly TimedCell[];
}

interface Parity {
  readonly precision: Precision;
  readonly heads: readonly HeadParity[];
}

interface Measured {
  readonly model: string;
  readonly speeds: readonly Speed[];
  readonly parities: readonly Parity[];
}

function embedfleet(...args: readonly string[]): string {
  return execFileSync(process.execPath, [CLI, ...args], { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
}

/** A process for each precision, so that each one's memory is its own. */
function measure(model: string, folder: string, size: "small" | "full"): Measured {
  const path = join(folder, model);
  embedfleet("models", "export", `generated:${model}`, "--into", path);
  const flags = ["--device", "cpu", "--json", ...(size === "full" ? [] : ["--max-batch-tokens", "1024"])];
  const rounds = Array.from({ length: size === "full" ? 2 : 1 }, () =>
    PRECISIONS.map((precision) => speedOf(embedfleet("models", "bench", path, "--precision", precision, ...flags))),
  );
  const speeds = PRECISIONS.map((_, i) => rounds.map((round) => round[i]!).reduce(bestOf));
  const reference = join(REFERENCES, `${model}.json`);
  const checked = JSON.parse(embedfleet("models", "check", path, "--reference", reference, "--json"));
  return { model, speeds, parities: (checked as { precisions: Parity[] }).precisions };
}

/** @param printed By `models bench --json` for one precision and device. */
function speedOf(printed: string): Speed {
  const [figures] = (JSON.parse(printed) as { figures: (Omit<Speed, "cells"> & { cells: Cell[] })[] }).figures;
  const { peakFlops } = figures!;
  return {
    ...figures!,
    cells: figures!.cells.map((cell) => ({ ...cell, flopsPerSecond: cell.peakShare! * peakFlops })),
  };
}

/** What else a machine does only ever slows a cell down. */
function bestOf(a: Speed, b: Speed): Speed {
  const cells = a.cells.map((cell, i) => (cell.p50Ms <= b.cells[i]!.p50Ms ? cell : b.cells[i]!));
  return { ...a, cells, peakFlops: Math.max(a.peakFlops, b.peakFlops) };
}

/** Of all processes: what else the machine does lowers it. */
function bestPeak(measured: readonly Measured[]): number {
  return Math.max(...measured.flatMap(({ speeds }) => speeds.map(({ peakFlops }) => peakFlops)));
}

function speedTable({ model, speeds }: Measured, peakFlops: number): Table {
  const [fp32, fp16, int8] = PRECISIONS.map((each) => speeds.find(({ precision }) => precision === each)!.cells);
  const tokens = (cell: Cell): string => whole(cell.tokensPerSecond);
  return {
    title: `${model}: full rows, all three heads`,
    columns: [
      "tokens x rows",
      "fp32 p50 ms",
      "p99 ms",
      "rows/s",
      "tokens/s",
      "of peak",
      "fp16 tokens/s",
      "int8 tokens/s",
      "int8 / fp32",
    ],
    rows: fp32!.map((cell, i) => [
      `${cell.length} x ${cell.batch}`,
      cell.p50Ms.toFixed(1),
      cell.p99Ms.toFixed(1),
      cell.rowsPerSecond.toFixed(1),
      tokens(cell),
      percent(cell.flopsPerSecond / peakFlops),
      tokens(fp16![i]!),
      tokens(int8![i]!),
      (int8![i]!.tokensPerSecond / cell.tokensPerSecond).toFixed(2),
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

function memoryTable(measured: readonly Measured[]): Table {
  const megabytes = (cells: readonly Cell[]): string =>
    whole(Math.max(...cells.map(({ residentBytes }) => residentBytes)) / 1e6);
  return {
    title: "Resident memory at most, MB",
    columns: ["model", ...PRECISIONS],
    rows: measured.map(({ model, speeds }) => [model, ...speeds.map(({ cells }) => megabytes(cells))]),
  };
}

function chartOf({ model, speeds }: Measured): string {
  return lineChart({
    title: `${model} on a CPU: tokens a second, best batch`,
    xLabel: "tokens a row",
    yLabel: "tokens a second",
    xScale: "log",
    series: speeds.map(({ precision, cells }) => ({ name: precision, points: bestByLength(cells) })),
  });
}

export const bench: Bench = {
  title: "Models on this CPU: how fast at each precision, and how near to PyTorch",
  async run({ size }) {
    const folder = mkdtempSync(join(tmpdir(), "embedfleet-bench-"));
    try {
      const measured = MODELS.map((model) => measure(model, folder, size));
      const peakFlops = bestPeak(measured);
      return {
        figures: measured,
        tables: [
          ...measured.map((each) => speedTable(each, peakFlops)),
          memoryTable(measured),
          ...measured.map(parityTable),
        ],
        charts: Object.fromEntries(measured.map((each) => [`models-${each.model}`, chartOf(each)])),
        notes: [`Of peak: of ${whole(peakFlops / 1e9)} GFLOP/s, one large fp32 product, the best of all processes.`],
      };
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  },
};
