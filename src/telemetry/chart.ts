/** Small charts as SVG text, which a page can show and a diff can compare. */

export interface Series {
  readonly name: string;
  /** Points, ascending in x; in a bar chart, one point per category, in the order of `categories`. */
  readonly points: readonly (readonly [x: number, y: number])[];
}

export interface LineChart {
  readonly title: string;
  readonly xLabel: string;
  readonly yLabel: string;
  /** A logarithmic x axis needs x > 0. */
  readonly xScale?: "linear" | "log";
  readonly series: readonly Series[];
}

export interface BarChart {
  readonly title: string;
  /** Quantity of the bars, with its unit. */
  readonly xLabel: string;
  readonly bars: readonly (readonly [name: string, value: number])[];
}

const WIDTH = 720;
const HEIGHT = 400;
const MARGIN = { left: 72, right: 24, top: 44, bottom: 52 };
const INK = "#24292f";
const GRID = "#d8dee4";
/** Colours that people with colour vision deficiency can distinguish (Okabe and Ito). */
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

export function lineChart(chart: LineChart): string {
  const points = chart.series.flatMap((series) => series.points);
  const x = axis(
    points.map(([value]) => value),
    { scale: chart.xScale ?? "linear", from: MARGIN.left, to: WIDTH - MARGIN.right },
  );
  const y = axis([0, ...points.map(([, value]) => value)], {
    scale: "linear",
    from: HEIGHT - MARGIN.bottom,
    to: MARGIN.top,
  });
  const marks: string[] = [];
  for (const tick of y.ticks) {
    marks.push(line(MARGIN.left, y.at(tick), WIDTH - MARGIN.right, y.at(tick), GRID));
    marks.push(text(MARGIN.left - 8, y.at(tick) + 4, short(tick), "end"));
  }
  for (const tick of x.ticks) {
    marks.push(line(x.at(tick), MARGIN.top, x.at(tick), HEIGHT - MARGIN.bottom, GRID));
    marks.push(text(x.at(tick), HEIGHT - MARGIN.bottom + 18, short(tick), "middle"));
  }
  chart.series.forEach((series, index) => {
    const colour = COLOURS[index % COLOURS.length]!;
    const path = series.points.map(([px, py]) => `${round(x.at(px))},${round(y.at(py))}`);
    marks.push(`<polyline points="${path.join(" ")}" fill="none" stroke="${colour}" stroke-width="2"/>`);
    for (const at of path) {
      const [cx, cy] = at.split(",");
      marks.push(`<circle cx="${cx}" cy="${cy}" r="3" fill="${colour}"/>`);
    }
    const top = MARGIN.top + 16 + index * 18;
    marks.push(line(MARGIN.left + 12, top - 4, MARGIN.left + 36, top - 4, colour, 2));
    marks.push(text(MARGIN.left + 42, top, series.name, "start"));
  });
  marks.push(text((MARGIN.left + WIDTH - MARGIN.right) / 2, HEIGHT - 14, chart.xLabel, "middle"));
  const middle = (MARGIN.top + HEIGHT - MARGIN.bottom) / 2;
  marks.push(`<g transform="rotate(-90 18 ${middle})">${text(18, middle, chart.yLabel, "middle")}</g>`);
  return page(chart.title, HEIGHT, marks);
}

export function barChart(chart: BarChart): string {
  const rowHeight = 30;
  const left = 240;
  const height = MARGIN.top + chart.bars.length * rowHeight + MARGIN.bottom;
  const x = axis([0, ...chart.bars.map(([, value]) => value)], {
    scale: "linear",
    from: left,
    to: WIDTH - MARGIN.right - 48,
  });
  const marks: string[] = [];
  for (const tick of x.ticks) {
    marks.push(line(x.at(tick), MARGIN.top, x.at(tick), height - MARGIN.bottom, GRID));
    marks.push(text(x.at(tick), height - MARGIN.bottom + 18, short(tick), "middle"));
  }
  chart.bars.forEach(([name, value], index) => {
    const top = MARGIN.top + index * rowHeight + 5;
    const width = round(Math.max(x.at(value) - left, 0));
    marks.push(`<rect x="${left}" y="${top}" width="${width}" height="${rowHeight - 10}" fill="${COLOURS[0]}"/>`);
    marks.push(text(left - 8, top + 15, name, "end"), text(left + width + 6, top + 15, short(value), "start"));
  });
  marks.push(text((left + WIDTH) / 2, height - 14, chart.xLabel, "middle"));
  return page(chart.title, height, marks);
}

interface Axis {
  readonly ticks: readonly number[];
  at(value: number): number;
}

function axis(values: readonly number[], range: Readonly<{ scale: "linear" | "log"; from: number; to: number }>): Axis {
  const ticks = range.scale === "log" ? powersOfTwo(values) : evenSteps(values);
  const place = range.scale === "log" ? Math.log2 : (value: number): number => value;
  const first = place(ticks[0]!);
  const span = place(ticks.at(-1)!) - first || 1;
  return { ticks, at: (value) => range.from + ((place(value) - first) / span) * (range.to - range.from) };
}

function evenSteps(values: readonly number[]): number[] {
  const least = Math.min(...values);
  const span = Math.max(...values) - least || 1;
  const power = 10 ** Math.floor(Math.log10(span / 4));
  const step = power * [1, 2, 5, 10].find((factor) => span / (power * factor) <= 6)!;
  const first = Math.floor(least / step);
  const last = Math.ceil((least + span) / step);
  return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
}

function powersOfTwo(values: readonly number[]): number[] {
  const first = Math.floor(Math.log2(Math.min(...values)));
  const last = Math.ceil(Math.log2(Math.max(...values)));
  const step = Math.max(1, Math.ceil((last - first) / 8));
  const count = Math.max(1, Math.ceil((last - first) / step)) + 1;
  return Array.from({ length: count }, (_, i) => 2 ** (first + i * step));
}

function page(title: string, height: number, marks: readonly string[]): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="12" fill="${INK}">`,
    `<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>`,
    `<text x="${WIDTH / 2}" y="24" text-anchor="middle" font-size="15" font-weight="bold">${escaped(title)}</text>`,
    ...marks,
    "</svg>",
    "",
  ].join("\n");
}

function line(x1: number, y1: number, x2: number, y2: number, colour: string, width = 1): string {
  return `<line x1="${round(x1)}" y1="${round(y1)}" x2="${round(x2)}" y2="${round(y2)}" stroke="${colour}" stroke-width="${width}"/>`;
}

function text(x: number, y: number, words: string, anchor: "start" | "middle" | "end"): string {
  return `<text x="${round(x)}" y="${round(y)}" text-anchor="${anchor}">${escaped(words)}</text>`;
}

function escaped(words: string): string {
  return words.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function short(value: number): string {
  return value.toLocaleString("en-US", { notation: "compact", maximumSignificantDigits: 4 });
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
