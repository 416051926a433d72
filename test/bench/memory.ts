/** Whether a session's memory stops growing: resident bytes over thousands of batches, no two of one shape. */
import { ThreadEmbedder } from "../../models/onnx/thread-embedder.ts";
import { allocateShard } from "../../src/core/batch.ts";
import { lineChart } from "../../src/telemetry/chart.ts";
import { openMini } from "../fixtures/mini.ts";
import { type Bench, percent, randomNumbers, whole } from "./bench.ts";

const LONGEST = 2048;
const AREA = 4096;
const MAX_ROWS = 64;

export const bench: Bench = {
  title: "Memory of a session over varied batches",
  async run({ size }) {
    const batches = size === "full" ? 2000 : 400;
    const from = batches / 10;
    const model = await openMini();
    const embedder = await ThreadEmbedder.open({ model, threads: 2 });
    const random = randomNumbers(1);
    const points: [number, number][] = [];
    const shapes = new Set<string>();
    for (let batch = 1; batch <= batches; batch++) {
      const longest = Math.max(3, Math.round(LONGEST ** random()));
      const rows = Math.max(1, Math.min(MAX_ROWS, Math.floor(AREA / longest)));
      shapes.add(`${rows}x${longest}`);
      const lengths = Array.from({ length: rows }, (_, row) =>
        row === 0 ? longest : Math.ceil(longest * (0.8 + 0.2 * random())),
      );
      const shard = allocateShard({ lengths, dim: model.manifest.dim, heads: ["dense", "sparse"] });
      shard.ids.forEach((_, i) => (shard.ids[i] = 4 + Math.floor(random() * 19_000)));
      await embedder.embed({ rows: lengths.map((_, row) => ({ shard, row })) });
      if (batch % (batches / 20) === 0) points.push([batch, process.memoryUsage().rss / 1e6]);
    }
    await embedder.close();
    const at = (batch: number): number => points.find(([each]) => each === batch)![1];
    const growth = at(batches) / at(from) - 1;
    return {
      figures: { batches, shapes: shapes.size, residentMB: points, growth },
      tables: [
        {
          title: `${whole(batches)} batches of ${whole(shapes.size)} shapes`,
          columns: ["after batches", "resident MB"],
          rows: points.map(([batch, megabytes]) => [whole(batch), megabytes.toFixed(1)]),
        },
      ],
      charts: {
        memory: lineChart({
          title: "Resident memory",
          xLabel: "batches",
          yLabel: "MB",
          series: [{ name: "mini, 2 threads", points }],
        }),
      },
      notes: [`From batch ${whole(from)} to ${whole(batches)} it grew by ${percent(growth)}.`],
    };
  },
};
