/** The report's charts, as inline SVG. */
import { count, percent } from "../core/format-figures.ts";
import type { LengthFigures } from "./figures.ts";
import { html, type Markup } from "./markup.ts";
import type { Busy } from "./timeline.ts";

const WIDTH = 960;
const LEFT = 64;
const RIGHT = 8;

export function lengthName(upTo: number | null, previous: number): string {
  return upTo === null ? `> ${count(previous)}` : `≤ ${count(upTo)}`;
}

/** The next larger round number, so that the grid's labels are readable. */
function ceiling(value: number): number {
  const magnitude = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 1.5, 2, 3, 4, 5, 8, 10].map((step) => step * magnitude).find((step) => step >= value)!;
}

/** A vertical bar chart with a figure above each bar. */
export function bars(
  items: readonly Readonly<{ name: string; value: number; label: string }>[],
  title: string,
): Markup {
  const height = 240;
  const floor = height - 26;
  const max = ceiling(Math.max(...items.map(({ value }) => value), 1e-9));
  const step = (WIDTH - LEFT - RIGHT) / Math.max(items.length, 1);
  const grid = [0, 0.5, 1].map((share) => {
    const y = floor - (floor - 18) * share;
    return html`<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y}" y2="${y}" />`;
  });
  const drawn = items.map(({ name, value, label }, i) => {
    const tall = ((floor - 18) * value) / max;
    const x = LEFT + i * step;
    return html`<rect
        class="bar"
        x="${(x + step * 0.12).toFixed(1)}"
        y="${(floor - tall).toFixed(1)}"
        width="${(step * 0.76).toFixed(1)}"
        height="${tall.toFixed(1)}"
        rx="3"
      /><text x="${(x + step / 2).toFixed(1)}" y="${(floor - tall - 5).toFixed(1)}" text-anchor="middle" class="value"
        >${value > 0 ? label : ""}</text
      ><text x="${(x + step / 2).toFixed(1)}" y="${height - 6}" text-anchor="middle">${name}</text>`;
  });
  return html`<svg viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="${title}">${grid}${drawn}</svg>`;
}

/** Histogram of rows by length. */
export function lengthHistogram(lengths: readonly LengthFigures[]): Markup {
  const names = lengths.map(({ upTo }, i) => lengthName(upTo, lengths[i - 1]?.upTo ?? 0));
  return bars(
    lengths.map(({ rows }, i) => ({ name: names[i]!, value: rows, label: count(rows) })),
    "Rows by length in tokens",
  );
}

/** Padding by length, in percent of what the model computed. */
export function paddingByLength(lengths: readonly LengthFigures[]): Markup {
  const items = lengths.map(({ upTo, realTokens, paddedTokens }, i) => {
    const share = paddedTokens === 0 ? 0 : 1 - realTokens / paddedTokens;
    return {
      name: lengthName(upTo, lengths[i - 1]?.upTo ?? 0),
      value: share * 100,
      label: paddedTokens === 0 ? "" : percent(share),
    };
  });
  return bars(items, "Padding by length, as a share of what the model computed");
}

/** One row per worker; the darker a slot, the busier its device. */
export function workerTimeline(busy: Busy): Markup {
  const rowHeight = busy.workers.length > 16 ? 14 : 22;
  const left = 190;
  const slots = busy.workers[0]?.busy.length ?? 1;
  const slot = (WIDTH - left - RIGHT) / slots;
  const height = busy.workers.length * rowHeight + 30;
  const rows = busy.workers.map(({ worker, busy: shares }, i) => {
    const cells = shares.map((share, at) =>
      share === 0
        ? ""
        : html`<rect
            class="bar"
            x="${(left + at * slot).toFixed(2)}"
            y="${i * rowHeight + 2}"
            width="${(slot + 0.15).toFixed(2)}"
            height="${rowHeight - 4}"
            opacity="${(0.15 + 0.85 * share).toFixed(2)}"
          />`,
    );
    return html`<rect
        class="track"
        x="${left}"
        y="${i * rowHeight + 2}"
        width="${WIDTH - left - RIGHT}"
        height="${rowHeight - 4}"
        rx="3"
      />${cells}<text x="${left - 8}" y="${i * rowHeight + rowHeight / 2 + 4}" text-anchor="end"
        >${shorten(worker, 26)}</text
      >`;
  });
  const endMs = busy.startMs + slots * busy.slotMs;
  return html`<svg
    viewBox="0 0 ${WIDTH} ${height}"
    role="img"
    aria-label="When each worker's device was busy; the darker, the busier"
  >
    ${rows}
    <text x="${left}" y="${height - 6}">${clock(busy.startMs)}</text>
    <text x="${WIDTH - RIGHT}" y="${height - 6}" text-anchor="end">${clock(endMs)}</text>
  </svg>`;
}

function clock(ms: number): string {
  return `${new Date(ms).toISOString().slice(11, 19)} UTC`;
}

function shorten(text: string, chars: number): string {
  return text.length <= chars ? text : `…${text.slice(text.length - chars + 1)}`;
}

/** A horizontal bar for one row of a table, so that chart and figures are one element. */
export function shareBar(share: number): Markup {
  return html`<svg class="share" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">
    <rect class="bar" width="${Math.max(share * 100, 0.4).toFixed(2)}" height="10" />
  </svg>`;
}
