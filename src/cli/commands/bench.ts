/** `embedfleet models bench`: measures a model's speed on this machine. */
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { chooseEngine } from "../../../models/choose-engine.ts";
import type { InferenceEngine } from "../../../models/engine.ts";
import { benchModel, type Cell, encoderFlops } from "../../../models/quality/measure-speed.ts";
import { readText } from "../../../models/registry/plain-file.ts";
import { openModel } from "../../../models/registry/open-model.ts";
import { type FoundModel, findModel } from "../../../models/registry/registry.ts";
import { ALL_HEADS, type Precision } from "../../core/contracts.ts";
import { type Device, deviceName } from "../../core/device-name.ts";
import { count } from "../../core/format-figures.ts";
import { lineChart } from "../../telemetry/chart.ts";
import type { BenchCommand } from "../model-settings.ts";
import { printJson, printLine } from "../output.ts";
import { withCloser } from "../../fleet/open-ports.ts";

interface Figures {
  readonly precision: Precision;
  readonly device: string;
  /** Multiply-adds per second of one large fp32 product on the same runtime; null if the engine does not measure it. */
  readonly peakFlops: number | null;
  readonly cells: readonly Cell[];
}

export async function bench(name: string, settings: BenchCommand): Promise<void> {
  const found = findModel(name, { modelsFolder: settings.models });
  const shape = shapeOf(found);
  const engine = chooseEngine(settings.engine, found.manifest);
  const devices = settings.device.map((choice) => engine.chooseDevice(choice));
  const offered = engine.offers(found.manifest).precisions;
  const precisions = offered.filter((precision) => ["auto", precision].includes(settings.precision));
  const figures: Figures[] = [];
  for (const device of devices) {
    const peakFlops = (await engine.measurePeak?.({ device, threads: settings.threads })) ?? null;
    for (const precision of precisions)
      figures.push(await benchOne({ engine, found, shape, precision, device, peakFlops, settings }));
  }
  const record = {
    model: found.manifest.id,
    revision: found.manifest.revision,
    at: new Date().toISOString(),
    machine: { cpu: cpus()[0]?.model ?? "unknown", threads: settings.threads, node: process.version },
    figures,
  };
  if (settings.keep !== undefined) keep(settings.keep, found.manifest.id, record);
  if (settings.json) printJson(record);
}

async function benchOne(
  params: Readonly<{
    engine: InferenceEngine;
    found: FoundModel;
    shape: ReturnType<typeof shapeOf>;
    precision: Precision;
    device: Device;
    peakFlops: number | null;
    settings: BenchCommand;
  }>,
): Promise<Figures> {
  const { engine, found, shape, precision, device, peakFlops, settings } = params;
  const model = await openModel(found, { precision, cacheFolder: settings.cacheFolder });
  const heads = (settings.heads ?? ALL_HEADS).filter((head) => found.manifest.heads[head] !== undefined);
  return withCloser(async (closer) => {
    const { threads, maxBatchTokens } = settings;
    const { embedder } = await engine.open({ model, device, threads, maxBatchTokens });
    closer.add(embedder);
    if (!settings.json)
      printHead(`${found.manifest.id} ${precision} on ${embedder.device}, ${heads.join(" + ")}`, peakFlops);
    const cells = await benchModel({
      embedder,
      manifest: found.manifest,
      heads,
      maxBatchTokens: settings.maxBatchTokens,
      peakFlops,
      rowFlops: (length) => (shape === null ? null : encoderFlops(shape, length)),
      ...(!settings.json && { onCell: printCell }),
    });
    return { precision, device: deviceName(device), peakFlops, cells };
  });
}

const configSchema = z.object({
  num_hidden_layers: z.int(),
  hidden_size: z.int(),
  intermediate_size: z.int(),
});

/** Encoder dimensions from a model's config.json; null when it does not state them. */
function shapeOf({ folder }: FoundModel): Parameters<typeof encoderFlops>[0] | null {
  const file = join(folder, "config.json");
  const parsed = configSchema.safeParse(existsSync(file) ? JSON.parse(readText(file)) : null);
  if (!parsed.success) return null;
  const { num_hidden_layers, hidden_size, intermediate_size } = parsed.data;
  return { layers: num_hidden_layers, hiddenSize: hidden_size, intermediateSize: intermediate_size };
}

function printHead(title: string, peakFlops: number | null): void {
  const peak =
    peakFlops === null ? "" : `; the device's peak for fp32 matrix products is ${(peakFlops / 1e9).toFixed(0)} GFLOP/s`;
  printLine(`${title}${peak}`);
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

/** Keeps tokens per second by row length, each at its best batch size. */
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
