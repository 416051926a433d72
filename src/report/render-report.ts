/** A run's report as one self-contained HTML file: no network, no scripts. */
import { count, duration, megabytes, percent } from "../core/format-figures.ts";
import type { ReportFigures } from "./figures.ts";
import { html, jsonMarkup, Markup, type Part } from "./markup.ts";
import { lengthHistogram, lengthName, paddingByLength, shareBar, workerTimeline } from "./pictures.ts";
import { STYLE } from "./style.ts";

export function renderReport(figures: ReportFigures, version: string): string {
  const { report } = figures;
  const sections = [
    section("Rows by length", html`${lengthHistogram(figures.lengths)}${lengthTable(figures)}`),
    section("Workers over time", timeline(figures)),
    section(
      "Padding",
      html`<p>${paddingSentence(figures)}</p>
        ${paddingByLength(figures.lengths)}`,
    ),
    section("Where the time went", stageTable(figures)),
    section("Workers", workerTable(figures)),
    section("Shards that took longest on the device", slowTable(figures)),
    section("Rejects", rejectTables(figures)),
  ];
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="color-scheme" content="light dark" />
        <title>${report.run} · embedfleet</title>
        <style>
          ${new Markup(STYLE)}
        </style>
      </head>
      <body>
        <header>
          <p class="brand">embedfleet report</p>
          <h1>${report.run} <span class="state ${report.state}">${report.state}</span></h1>
          <p class="soft">
            ${figures.inputs.join(", ")} · ${figures.model.id} at ${figures.model.revision.slice(0, 16)},
            ${figures.heads.join(", ")} · ${figures.store}
          </p>
        </header>
        <main>${summary(figures)}${sections}</main>
        <footer>
          <p class="soft">
            Begun ${figures.createdAt}. Made by embedfleet ${version}; the figures stand in this file as JSON.
          </p>
        </footer>
        <script type="application/json" id="figures">
          ${jsonMarkup(figures)}
        </script>
      </body>
    </html> `.text;
}

function section(title: string, body: Markup): Markup {
  return html`<section>
    <h2>${title}</h2>
    ${body}
  </section>`;
}

function summary({ report, rejectsByReason }: ReportFigures): Markup {
  const rejects = Object.values(rejectsByReason).reduce((sum, value) => sum + value, 0);
  const tiles: [string, string, string][] = [
    ["Documents", count(report.documents), `${count(rejects)} rejects`],
    ["Rows", count(report.rows), `of ${count(report.plannedRows)} planned`],
    ["Tokens", count(report.realTokens), `${count(report.tokensPerSecond)} per second`],
    ["Files", count(report.files), megabytes(report.bytes)],
    ["Duration", seconds(report.seconds * 1000), report.state === "sealed" ? "from start to seal" : "so far"],
  ];
  if (report.deviceBusyRatio !== null)
    tiles.push(["Device busy", percent(report.deviceBusyRatio), "while workers held rows"]);
  return html`<dl class="tiles">
    ${tiles.map(
      ([name, value, note]) =>
        html`<div>
          <dt>${name}</dt>
          <dd class="figure">${value}</dd>
          <dd class="soft">${note}</dd>
        </div>`,
    )}
  </dl>`;
}

function lengthTable({ lengths }: ReportFigures): Markup {
  const total = lengths.reduce((sum, { rows }) => sum + rows, 0);
  return details(
    "The same as a table",
    table(
      ["Tokens", "Rows", "Share", "Real tokens", "Padding"],
      lengths.map(({ upTo, rows, realTokens, paddedTokens }, i) => [
        lengthName(upTo, lengths[i - 1]?.upTo ?? 0),
        count(rows),
        percent(total === 0 ? 0 : rows / total),
        count(realTokens),
        paddedTokens === 0 ? "–" : percent(1 - realTokens / paddedTokens),
      ]),
      1,
    ),
  );
}

function timeline({ timeline: busy }: ReportFigures): Markup {
  if (busy === null) return html`<p class="soft">No result file records when it was made.</p>`;
  const more = busy.more > 0 ? html`<p class="soft">and ${count(busy.more)} more workers</p>` : "";
  return html`${workerTimeline(busy)}${more}
    <p class="soft">One slot is ${seconds(busy.slotMs)}; the darker it is, the longer the device worked in it.</p>`;
}

function paddingSentence({ lengths }: ReportFigures): string {
  const real = lengths.reduce((sum, { realTokens }) => sum + realTokens, 0);
  const padded = lengths.reduce((sum, { paddedTokens }) => sum + paddedTokens, 0);
  if (padded === 0) return "Nothing was computed.";
  return `${percent(1 - real / padded)} of what the model computed was padding: ${count(real)} real tokens in ${count(padded)}.`;
}

function stageTable({ stages }: ReportFigures): Markup {
  const shown = Object.entries(stages).filter(([, ms]) => ms > 0);
  const max = Math.max(...shown.map(([, ms]) => ms), 1e-9);
  const rows = shown.sort((a, b) => b[1] - a[1]).map(([name, ms]): Part[] => [name, shareBar(ms / max), seconds(ms)]);
  return html`${table(["Stage", "", "Time"], rows, 2)}
    <p class="soft">
      Summed over shards. Loading and assembling overlap with the device's work; "device waits" is its idle time, by
      cause.
    </p>`;
}

function workerTable({ workers }: ReportFigures): Markup {
  return table(
    ["Worker", "Shards", "Rows", "Tokens", "Padding", "Device time", "Tokens per second of it"],
    workers.map(({ worker, shards, rows, realTokens, paddedTokens, deviceMs }) => [
      worker,
      count(shards),
      count(rows),
      count(realTokens),
      paddedTokens === 0 ? "–" : percent(1 - realTokens / paddedTokens),
      seconds(deviceMs),
      count(realTokens / Math.max(deviceMs / 1000, 1e-9)),
    ]),
    1,
  );
}

function slowTable({ slowest }: ReportFigures): Markup {
  return table(
    ["Shard", "Worker", "Rows", "Longest row", "Tokens", "Device time", "Tokens per second"],
    slowest.map(({ shard, worker, rows, longest, tokens, deviceMs, tokensPerSecond }) => [
      shard,
      worker,
      count(rows),
      count(longest),
      count(tokens),
      seconds(deviceMs),
      count(tokensPerSecond),
    ]),
    2,
  );
}

function rejectTables({ rejects, rejectsByReason }: ReportFigures): Markup {
  const reasons = Object.entries(rejectsByReason).sort((a, b) => b[1] - a[1]);
  if (reasons.length === 0) return html`<p class="soft">None.</p>`;
  const byReason = table(
    ["Reason", "Rejects"],
    reasons.map(([reason, value]) => [reason, count(value)]),
    1,
  );
  const first = table(
    ["Id", "Reason", "Detail", "Where"],
    rejects.map(({ id, reason, detail, file, line }) => [
      id ?? "–",
      reason,
      detail,
      line === undefined ? file : `${file}:${line}`,
    ]),
    4,
  );
  return html`${byReason}${details(`The first ${count(rejects.length)}`, first)}`;
}

/** @param words Number of leading columns that hold text; figures are right-aligned. */
function table(heads: readonly string[], rows: readonly (readonly Part[])[], words: number): Markup {
  const kind = (i: number): string => (i < words ? "" : "number");
  return html`<div
    class="scroll"
    tabindex="0"
    role="region"
    aria-label="${heads.filter((head) => head !== "").join(", ")}"
  >
    <table>
      <thead>
        <tr>
          ${heads.map((head, i) => html`<th scope="col" class="${kind(i)}">${head}</th>`)}
        </tr>
      </thead>
      <tbody>
        ${rows.map(
          ([first = "", ...rest]) =>
            html`<tr>
              <th scope="row">${first}</th>
              ${rest.map((cell, i) => html`<td class="${kind(i + 1)}">${cell}</td>`)}
            </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

function details(summary: string, body: Markup): Markup {
  return html`<details>
    <summary>${summary}</summary>
    ${body}
  </details>`;
}

function seconds(ms: number): string {
  return ms < 60_000 ? `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s` : duration(ms / 1000);
}
