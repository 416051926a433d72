/** Formats figures for people. */
import type { BackfillView } from "../control/schedules/schedule-service.ts";
import type { RunReport } from "../run/run-progress.ts";
import { count, megabytes, percent } from "../core/format-figures.ts";
import { sayCounts } from "../../producers/sources/passed-over.ts";
import { printLine } from "./output.ts";

export function printReport(report: RunReport, storeUrl: string): void {
  const { base, unchanged = 0, deletes = 0 } = report;
  const lines: [string, string][] = [
    ["run", `${report.run} (${report.state})`],
    ["documents", `${count(report.documents)}, ${count(report.rejects)} rejected`],
    ["rows", `${count(report.rows)} of ${count(report.plannedRows)}`],
    ["files", `${count(report.files)} of ${count(report.plannedShards)}, ${megabytes(report.bytes)}`],
    [
      "tokens",
      `${count(report.realTokens)} of ${count(report.plannedTokens)}, ${count(report.tokensPerSecond)} a second`,
    ],
  ];
  if (report.sources !== undefined) lines.splice(1, 0, ["sources", sayCounts(report.sources)]);
  if (base !== undefined)
    lines.push(["delta", `of ${base}: ${count(unchanged)} documents unchanged, ${count(deletes)} of its rows removed`]);
  if (report.paddedTokens !== null && report.paddedTokens > 0) {
    lines.push([
      "padding",
      `${percent(1 - report.realTokens / report.paddedTokens)} of what the model computed, in ${count(report.batches!)} batches`,
    ]);
  }
  if (report.deviceBusyRatio !== null)
    lines.push(["device", `${percent(report.deviceBusyRatio)} busy${waits(report)}`]);
  if (report.queue !== null)
    lines.push([
      "queue",
      `${report.queue.waiting} waiting, ${report.queue.active} active, ${report.queue.failed} failed`,
    ]);
  lines.push(["seconds", report.seconds.toFixed(1)], ["store", `${storeUrl}/runs/${report.run}`]);
  for (const [name, value] of lines) printLine(`${name.padEnd(10)} ${value}`);
}

/** Reasons for an idle device, largest first; those below a thousandth of the time are left out. */
function waits({ deviceIdleRatios }: RunReport): string {
  const shown = Object.entries(deviceIdleRatios ?? {})
    .filter(([, ratio]) => ratio >= 0.001)
    .sort((a, b) => b[1] - a[1])
    .map(([cause, ratio]) => `${cause} ${percent(ratio)}`);
  return shown.length === 0 ? "" : `; waited for ${shown.join(", ")}`;
}

/** A schedule as one line of a list. */
export function scheduleLine(view: BackfillView): string {
  const { name, pattern, timezone, isPaused, nextAt, lastRun, lastState, problem } = view;
  if (lastState === "damaged") return `${name.padEnd(20)} ${problem}`;
  const next = isPaused ? "paused" : `next ${nextAt}`;
  const last = lastRun === null ? "no run yet" : `last ${lastRun}`;
  const how = problem ?? lastState ?? "";
  return `${name.padEnd(20)} ${pattern} ${timezone}, ${next}, ${last}${how === "" ? "" : ` (${how})`}`;
}
