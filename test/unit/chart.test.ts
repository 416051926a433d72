import { describe, expect, test } from "vitest";
import { barChart, lineChart } from "../../src/telemetry/chart.ts";

/** Numbers of all attributes of one name, in order. */
function numbers(svg: string, attribute: string): number[] {
  return [...svg.matchAll(new RegExp(` ${attribute}="([^"]+)"`, "g"))].map((match) => Number(match[1]));
}

describe("lineChart", () => {
  test("puts larger values higher and further right, inside the picture", () => {
    const svg = lineChart({
      title: "Scaling",
      xLabel: "workers",
      yLabel: "tokens/s",
      xScale: "log",
      series: [
        {
          name: "measured",
          points: [
            [1, 10],
            [8, 70],
            [64, 500],
          ],
        },
      ],
    });
    const [x, y] = [numbers(svg, "cx"), numbers(svg, "cy")];
    expect(x).toEqual(x.toSorted((a, b) => a - b));
    expect(y).toEqual(y.toSorted((a, b) => b - a));
    expect(Math.min(...x, ...y)).toBeGreaterThan(0);
    // On a logarithmic axis, eight times as many is always the same way further.
    expect(x[2]! - x[1]!).toBeCloseTo(x[1]! - x[0]!, 0);
  });

  test("draws a flat line and a single point without a number that is none", () => {
    const flat = { title: "t", xLabel: "x", yLabel: "y", series: [{ name: "s", points: [[3, 0] as const] }] };
    expect(lineChart(flat)).not.toMatch(/NaN|Infinity/);
    expect(lineChart({ ...flat, xScale: "log" })).not.toMatch(/NaN|Infinity/);
  });
});

describe("barChart", () => {
  test("draws bars in proportion, and escapes names", () => {
    const svg = barChart({
      title: "a < b",
      xLabel: "%",
      bars: [
        ["<one> & only", 50],
        ["two", 100],
      ],
    });
    const [, first, second] = numbers(svg, "width");
    expect(second! / first!).toBeCloseTo(2, 1);
    expect(svg).toContain("&lt;one&gt; &amp; only");
    expect(svg).not.toContain("<one>");
  });
});
