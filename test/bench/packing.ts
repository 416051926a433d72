/** Padding and planned time of embedfleet's packer beside what others do, on the same row lengths. */
import { loadTokenizer } from "../../models/tokenizer/native.ts";
import { openMini } from "../fixtures/mini.ts";
import { type CostModel, predictMs } from "../../src/core/cost-model.ts";
import { DEFAULT_PACKING, Packer, type PackingLimits } from "../../src/core/packing.ts";
import { roundedLength } from "../../src/core/shapes.ts";
import { barChart } from "../../src/telemetry/chart.ts";
import { type Bench, logNormalLengths, percent, type Table, whole } from "./bench.ts";
import { naturalTexts } from "./corpora.ts";
import { crossfit, fixedCount, greedy, type Planner, type PlannerInput, sortedByChars } from "./planners.ts";

const MAX_TOKENS = 8192;
const BUDGET = 16_384;
/** Of the shape of a large GPU's: 0.5 ms a batch, 400,000 tokens a second, attention that doubles it at 8192. */
const DEVICE: CostModel = { batchMs: 0.5, tokenMs: 0.0025, pairMs: 3e-7 };

const LIMITS: PackingLimits = { ...DEFAULT_PACKING, maxBatchTokens: BUDGET, cost: DEVICE };

function embedfleet(paddedLength: PackingLimits["paddedLength"]): Planner {
  return ({ lengths }) => {
    const packer = new Packer<number>({ ...LIMITS, paddedLength }, (length) => length);
    packer.add(lengths);
    const batches: number[][] = [];
    for (let batch = packer.next({ flush: true }); batch !== null; batch = packer.next({ flush: true }))
      batches.push(batch);
    return batches;
  };
}

const PLANNERS: Readonly<Record<string, Planner>> = {
  "fixed count, 32": fixedCount(32),
  "sorted by characters, 32": sortedByChars(32),
  "crossfit, from 64": crossfit(64),
  "crossfit, from 512": crossfit(512),
  "greedy by padded tokens": greedy,
  embedfleet: embedfleet((longest) => longest),
  "embedfleet, few shapes": embedfleet((longest) => roundedLength(longest, MAX_TOKENS)),
};

interface Measured {
  readonly planner: string;
  readonly batches: number;
  /** Real tokens / padded area. */
  readonly efficiency: number;
  /** Padded area of the largest batch of several rows, in budgets. */
  readonly worst: number;
  readonly shapes: number;
  readonly planMs: number;
  /** By the device's cost model. */
  readonly deviceSeconds: number;
}

function measure(name: string, planner: Planner, input: PlannerInput): Measured {
  const startedMs = performance.now();
  const batches = planner(input);
  const planMs = performance.now() - startedMs;
  const pad = name.endsWith("few shapes")
    ? (longest: number) => roundedLength(longest, MAX_TOKENS)
    : (longest: number) => longest;
  const shapes = batches.map((batch) => ({ rows: batch.length, length: pad(Math.max(...batch)) }));
  const area = shapes.reduce((sum, { rows, length }) => sum + rows * length, 0);
  const tokens = input.lengths.reduce((sum, length) => sum + length, 0);
  const several = shapes.filter(({ rows }) => rows > 1);
  return {
    planner: name,
    batches: batches.length,
    efficiency: tokens / area,
    worst: Math.max(...several.map(({ rows, length }) => rows * length)) / BUDGET,
    shapes: new Set(shapes.map(({ length }) => length)).size,
    planMs,
    deviceSeconds: shapes.reduce((sum, shape) => sum + predictMs(DEVICE, shape), 0) / 1000,
  };
}

function tableOf(title: string, measured: readonly Measured[]): Table {
  const ours = measured.find(({ planner }) => planner === "embedfleet")!;
  return {
    title,
    columns: ["planner", "batches", "real tokens", "largest batch", "lengths", "device time"],
    rows: measured.map(({ planner, batches, efficiency, worst, shapes, deviceSeconds }) => [
      planner,
      whole(batches),
      percent(efficiency),
      `${worst.toFixed(2)} x budget`,
      whole(shapes),
      `${(deviceSeconds / ours.deviceSeconds).toFixed(3)} x`,
    ]),
  };
}

export const bench: Bench = {
  title: "Packing: padding and planned time by planner",
  async run({ size }) {
    const rows = size === "full" ? 200_000 : 20_000;
    const lengths = logNormalLengths({ rows, median: 200, sigma: 1, maxTokens: MAX_TOKENS, seed: 1 });
    const inputs: Record<string, PlannerInput> = {
      [`${whole(rows)} rows of log-normal lengths (median 200, sigma 1)`]: {
        lengths,
        // Four characters a token, as in English text.
        chars: lengths.map((length) => length * 4),
        maxBatchTokens: BUDGET,
      },
    };
    for (const [name, texts] of naturalTexts()) {
      const tokenizer = await loadTokenizer((await openMini()).tokenizerPath);
      const encoded = await tokenizer.encode({ texts });
      const real = encoded.map(({ ids }) => Math.min(ids.length + 2, MAX_TOKENS));
      inputs[`${name}: ${whole(texts.length)} documents, cut at ${whole(MAX_TOKENS)} tokens`] = {
        lengths: real,
        chars: texts.map((text) => text.length),
        maxBatchTokens: BUDGET,
      };
    }
    const figures = Object.entries(inputs).map(([corpus, input]) => ({
      corpus,
      planners: Object.entries(PLANNERS).map(([name, planner]) => measure(name, planner, input)),
    }));
    const charts = figures.map(({ corpus, planners }, i) => [
      i === 0 ? "packing" : `packing-${i}`,
      barChart({
        title: corpus,
        xLabel: "real tokens, % of the padded area",
        bars: planners.map(({ planner, efficiency }) => [planner, efficiency * 100] as const),
      }),
    ]);
    return {
      figures,
      tables: figures.map(({ corpus, planners }) => tableOf(corpus, planners)),
      charts: Object.fromEntries(charts) as Record<string, string>,
      notes: [
        `The budget is ${whole(BUDGET)} padded tokens per batch. Device time is the estimate of the cost model ${JSON.stringify(DEVICE)} for the batches, relative to embedfleet's.`,
      ],
    };
  },
};
