/** Charts as SVG, each with its figures as a table for readers who cannot see it. */
import { h } from "./dom.js";
import { clock, count, duration, percent, short } from "./format.js";

const WIDTH = 720;
const HEIGHT = 220;
const LEFT = 52;
const BOTTOM = 24;
const TOP = 12;
const COLOURS = 8;

/** The next larger round number, so that grid lines have readable labels. */
function ceiling(value) {
  const magnitude = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 1.5, 2, 3, 4, 5, 8, 10].map((step) => step * magnitude).find((step) => step >= value);
}

function axis(max, format) {
  return [0, 0.5, 1].map((share) => {
    const y = TOP + (HEIGHT - TOP - BOTTOM) * (1 - share);
    return h(
      "g",
      { class: "axis" },
      h("line", { x1: LEFT, x2: WIDTH, y1: y, y2: y }),
      h("text", { x: LEFT - 8, y: y + 4, "text-anchor": "end" }, format(max * share)),
    );
  });
}

/** Tokens per second of each worker, stacked, over the last minutes. */
export function throughput(samples) {
  if (samples.length < 2) return h("p", { class: "none" }, "The chart starts with the next snapshot, in two seconds.");
  const names = [...new Set(samples.flatMap((sample) => Object.keys(sample.tokensPerSecond)))].sort((a, b) =>
    a.localeCompare(b),
  );
  const totals = samples.map((sample) => Object.values(sample.tokensPerSecond).reduce((sum, rate) => sum + rate, 0));
  const max = ceiling(Math.max(...totals, 1));
  const firstMs = Date.parse(samples[0].at);
  const spanMs = Math.max(Date.parse(samples.at(-1).at) - firstMs, 1);
  const x = (sample) => (LEFT + ((WIDTH - LEFT) * (Date.parse(sample.at) - firstMs)) / spanMs).toFixed(1);
  const y = (value) => (TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / max)).toFixed(1);
  const floor = samples.map(() => 0);
  const areas = names.map((name, i) => {
    const lower = [...floor];
    samples.forEach((sample, at) => (floor[at] += sample.tokensPerSecond[name] ?? 0));
    const up = samples.map((sample, at) => `${x(sample)},${y(floor[at])}`);
    const down = samples.map((sample, at) => `${x(sample)},${y(lower[at])}`).toReversed();
    return h("path", { class: `area s${i % COLOURS}`, d: `M${up.join("L")}L${down.join("L")}Z` });
  });
  const label = `Tokens per second over the last ${duration(spanMs / 1000)}: now ${short(totals.at(-1))}, highest ${short(Math.max(...totals))}.`;
  return [
    h(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label, class: "chart" },
      axis(max, short),
      areas,
      h("text", { class: "tick", x: LEFT, y: HEIGHT - 6 }, clock(samples[0].at)),
      h("text", { class: "tick", x: WIDTH, y: HEIGHT - 6, "text-anchor": "end" }, clock(samples.at(-1).at)),
    ),
    h(
      "ul",
      { class: "legend" },
      names.map((name, i) => h("li", {}, h("span", { class: `swatch s${i % COLOURS}`, "aria-hidden": "true" }), name)),
    ),
    asTable(
      "Tokens per second as a table",
      ["Time", ...names],
      everyNth(samples, 12).map((sample) => [
        clock(sample.at),
        ...names.map((name) => count(sample.tokensPerSecond[name] ?? 0)),
      ]),
    ),
  ];
}

/** Histogram of rows by length. */
export function histogram(bounds, rows, caption) {
  const total = rows.reduce((sum, value) => sum + value, 0);
  if (total === 0) return h("p", { class: "none" }, "No rows are planned.");
  const names = lengthNames(bounds);
  const max = ceiling(Math.max(...rows));
  const step = (WIDTH - LEFT) / rows.length;
  const bars = rows.map((value, i) => {
    const height = ((HEIGHT - TOP - BOTTOM) * value) / max;
    const at = LEFT + i * step;
    return h(
      "g",
      {},
      h("rect", {
        class: "bar",
        x: (at + step * 0.12).toFixed(1),
        width: (step * 0.76).toFixed(1),
        y: (HEIGHT - BOTTOM - height).toFixed(1),
        height: height.toFixed(1),
        rx: 3,
      }),
      value > 0 &&
        h(
          "text",
          { class: "value", x: at + step / 2, y: HEIGHT - BOTTOM - height - 5, "text-anchor": "middle" },
          short(value),
        ),
      h("text", { class: "tick", x: at + step / 2, y: HEIGHT - 6, "text-anchor": "middle" }, names[i]),
    );
  });
  return [
    h(
      "svg",
      {
        viewBox: `0 0 ${WIDTH} ${HEIGHT + 4}`,
        role: "img",
        "aria-label": `${caption}; the figures follow as a table.`,
        class: "chart",
      },
      axis(max, short),
      bars,
    ),
    h("p", { class: "caption" }, caption),
    asTable(
      "Rows by length as a table",
      ["Tokens", "Rows", "Share"],
      rows.map((value, i) => [names[i], count(value), percent(value / total)]),
    ),
  ];
}

export function lengthNames(bounds) {
  return [...bounds.map((bound) => `≤ ${count(bound)}`), `> ${count(bounds.at(-1))}`];
}

/** A table whose rows are bars, so that chart and figures are one element. */
export function barTable(heads, rows) {
  const max = Math.max(...rows.map(({ value }) => value), 1e-9);
  return h(
    "table",
    { class: "bars" },
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        heads.map((head, i) => h("th", { scope: "col", class: i === 0 ? null : "number" }, head)),
      ),
    ),
    h(
      "tbody",
      {},
      rows.map(({ name, value, cells }) =>
        h(
          "tr",
          { "data-key": name },
          h("th", { scope: "row" }, name),
          cells.map((cell, at) =>
            h(
              "td",
              { class: at === 0 ? "number bar-cell" : "number" },
              at === 0 &&
                h(
                  "svg",
                  { viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" },
                  h("rect", {
                    class: "bar",
                    width: Math.max((100 * value) / max, 0.5).toFixed(2),
                    height: 8,
                    rx: 1.5,
                  }),
                ),
              cell,
            ),
          ),
        ),
      ),
    ),
  );
}

function asTable(summary, heads, rows) {
  return h(
    "details",
    {},
    h("summary", {}, summary),
    h(
      "div",
      { class: "scroll", role: "region", "aria-label": summary, tabindex: "0" },
      h(
        "table",
        {},
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            heads.map((head, i) => h("th", { scope: "col", class: i === 0 ? null : "number" }, head)),
          ),
        ),
        h(
          "tbody",
          {},
          rows.map(([first, ...rest]) =>
            h(
              "tr",
              {},
              h("th", { scope: "row" }, first),
              rest.map((cell) => h("td", { class: "number" }, cell)),
            ),
          ),
        ),
      ),
    ),
  );
}

function everyNth(values, rows) {
  const step = Math.max(1, Math.floor(values.length / rows));
  return values.filter((_, i) => (values.length - 1 - i) % step === 0);
}
