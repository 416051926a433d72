/** `embedfleet models bench`: how fast a model is here. */
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { benchModel, type Cell, encoderFlops, measurePeak } from "../../../models/quality/measure-speed.ts";
import { chooseDevice, type Device, deviceName } from "../../../models/onnx/device.ts";
import { ThreadEmbedder } from "../../../models/onnx/thread-embedder.ts";
import { readText } from "../../../models/registry/plain-file.ts";
import { openModel, type PrecisionChoice } from "../../../models/registry/open-model.ts";
import { type FoundModel, findModel } from "../../../models/registry/registry.ts";
import { cacheFolder } from "../../config.ts";
import { count } from "../../core/format-figures.ts";
import { type Head, type Precision, precisionSchema } from "../../core/contracts.ts";
import { lineChart } from "../../telemetry/chart.ts";
import { printJson, printLine } from "../output.ts";
import { withCloser } from "../../fleet/open-ports.ts";

export interface BenchFlags {
  readonly models: string;
  readonly precision: PrecisionChoice;
  readonly heads: readonly Head[];
  readonly device: readonly (Device | "auto")[];
  readonly threads: number;
  readonly maxBatchTokens: number;
  readonly keep?: string;
  readonly json: boolean;
}

interface Figures {
  readonly precision: Precision;
  readonly device: string;
  /** Of one large fp32 product on the same runtime. */
  readonly peakFlops: number;
  readonly cells: readonly Cell[];
}

export async function bench(name: string, flags: BenchFlags): Promise<void> {
  const found = findModel(name, { modelsFolder: flags.models });
  const shape = shapeOf(found);
  const devices = flags.device.map(chooseDevice);
  const precisions = precisionSchema.options.filter(
    (precision) => found.manifest.weights[precision] !== undefined && ["auto", precision].includes(flags.precision),
  );
  const figures: Figures[] = [];
  for (const device of devices) {
    const peakFlops = await measurePeak({ device, threads: flags.threads });
    for (const precision of precisions)
      figures.push(await benchOne({ found, shape, precision, device, peakFlops, flags }));
  }
  const record = {
    model: found.manifest.id,
    revision: found.manifest.revision,
    at: new Date().toISOString(),
    machine: { cpu: cpus()[0]?.model ?? "unknown", threads: flags.threads, node: process.version },
    figures,
  };
  if (flags.keep !== undefined) keep(flags.keep, found.manifest.id, record);
  if (flags.json) printJson(record);
}

async function benchOne(
  params: Readonly<{
    found: FoundModel;
    shape: ReturnType<typeof shapeOf>;
    precision: Precision;
    device: Device;
    peakFlops: number;
    flags: BenchFlags;
  }>,
): Promise<Figures> {
  const { found, shape, precision, device, peakFlops, flags } = params;
  const model = await openModel(found, { precision, cacheFolder: cacheFolder() });
  const heads = flags.heads.filter((head) => found.manifest.heads[head] !== undefined);
  return withCloser(async (closer) => {
    const embedder = closer.add(await ThreadEmbedder.open({ ...flags, model, device }));
    if (!flags.json)
      printHead(`${found.manifest.id} ${precision} on ${embedder.device}, ${heads.join(" + ")}`, peakFlops);
    const cells = await benchModel({
      embedder,
      manifest: found.manifest,
      heads,
      maxBatchTokens: flags.maxBatchTokens,
      peakFlops,
      rowFlops: (length) => (shape === null ? null : encoderFlops(shape, length)),
      ...(!flags.json && { onCell: printCell }),
    });
    return { precision, device: deviceName(device), peakFlops, cells };
  });
}

const configSchema = z.object({
  num_hidden_layers: z.int(),
  hidden_size: z.int(),
  intermediate_size: z.int(),
});

/** A model's arithmetic, where its config.json says it. */
function shapeOf({ folder }: FoundModel): Parameters<typeof encoderFlops>[0] | null {
  const file = join(folder, "config.json");
  const parsed = configSchema.safeParse(existsSync(file) ? JSON.parse(readText(file)) : null);
  if (!parsed.success) return null;
  const { num_hidden_layers, hidden_size, intermediate_size } = parsed.data;
  return { layers: num_hidden_layers, hiddenSize: hidden_size, intermediateSize: intermediate_size };
}

function printHead(title: string, peakFlops: number): void {
  printLine(`${title}; the device multiplies fp32 matrices at ${(peakFlops / 1e9).toFixed(0)} GFLOP/s`);
  printLine(" tokens  rows    p50 ms    p99 ms    rows/s    tokens/s  of peak  resident");
}

function printCell(cell: Cell): void {
  const { batch, length, p50Ms, p99Ms, rowsPerSecond, tokensPerSecond, peakShare, residentBytes } = cell;
  const cells = [
    String(length).padStart(7),
    String(batch).padStart(5),
    p50Ms.toFixed(1).padStart(9),
    p99Ms.toFixed(1).padStart(9),
    rowsPerSecond.toFixed(1).padStart(9),
    count(tokensPerSecond).padStart(11),
    (peakShare === null ? "-" : `${(peakShare * 100).toFixed(0)} %`).padStart(8),
    `${(residentBytes / 1e6).toFixed(0)} MB`.padStart(9),
  ];
  printLine(cells.join(" "));
}

/** Tokens a second by row length, the best batch of each. */
function keep(folder: string, id: string, record: { readonly figures: readonly Figures[] }): void {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, `${id}.json`), `${JSON.stringify(record, null, 1)}\n`);
  const series = record.figures.map(({ precision, device, cells }) => {
    const lengths = [...new Set(cells.map(({ length }) => length))];
    const best = (length: number): number =>
      Math.max(...cells.filter((cell) => cell.length === length).map(({ tokensPerSecond }) => tokensPerSecond));
    return { name: `${precision}, ${device}`, points: lengths.map((length) => [length, best(length)] as const) };
  });
  const chart = {
    title: `${id}: tokens a second`,
    xLabel: "tokens a row",
    yLabel: "tokens a second",
    xScale: "log",
  } as const;
  writeFileSync(join(folder, `${id}.svg`), lineChart({ ...chart, series }));
}
