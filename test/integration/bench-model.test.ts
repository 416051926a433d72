/** `models bench` on a model so small that the figures mean nothing: their form is what is looked at. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { encoderFlops } from "../../models/quality/measure-speed.ts";
import { cli } from "../fixtures/cli.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

const FOLDER = fileURLToPath(new URL("../fixtures/hub-folder", import.meta.url));

test("the grid as JSON and as a chart", async () => {
  const keep = await tempFolder();
  const done = await cli(["models", "bench", FOLDER, "--threads", "1", "--keep", keep, "--json"]);
  expect(done).toMatchObject({ code: 0, stderr: "" });
  const kept = await readFile(join(keep, "hub-folder.json"), "utf8");
  expect(JSON.parse(kept)).toEqual(JSON.parse(done.stdout));
  const [figures] = (
    JSON.parse(kept) as { figures: { device: string; peakFlops: number; cells: Record<string, number>[] }[] }
  ).figures;
  expect(figures).toMatchObject({ device: "cpu", peakFlops: expect.any(Number) });
  expect(figures!.cells.map(({ batch, length }) => [batch, length])).toEqual(
    [1, 8, 32, 128].map((batch) => [batch, 66]),
  );
  for (const cell of figures!.cells) {
    expect(cell["p99Ms"]).toBeGreaterThanOrEqual(cell["p50Ms"]!);
    expect(cell["tokensPerSecond"]).toBeCloseTo(66 * cell["rowsPerSecond"]!, 0);
  }
  expect(await readFile(join(keep, "hub-folder.svg"), "utf8")).toMatch(/^<svg/);
});

test("an encoder's arithmetic: 0.6 GFLOP a token for BGE-M3's shape, and attention beside it", () => {
  const large = { layers: 24, hiddenSize: 1024, intermediateSize: 4096 };
  expect(encoderFlops(large, 1) / 1e9).toBeCloseTo(0.604, 2);
  expect(encoderFlops(large, 8192) / 8192 / encoderFlops(large, 1)).toBeCloseTo(2.33, 1);
});
