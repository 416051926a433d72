/** The lines that `status` shows of a run, never wider than the terminal. */
import { count, duration, megabytes, percent } from "../core/format-figures.ts";
import { visible } from "../core/visible.ts";
import type { WorkerState } from "../core/worker-state.ts";
import type { RunForecast } from "../run/run-forecast.ts";
import type { RunReport } from "../run/run-progress.ts";

export interface RunStatus extends RunReport, RunForecast {
  /** Null when no queue was read. */
  readonly workers: readonly WorkerState[] | null;
}

const NAME_WIDTH = 10;
const LONGEST_BAR = 40;
const SHOWN_WORKERS = 20;

export function statusLines(status: RunStatus, params: Readonly<{ columns: number }>): string[] {
  const { columns } = params;
  const lines = [
    `${status.run}  ${status.state}`,
    ...failureLines(status, columns),
    bar(status, columns),
    fact("rows", `${count(status.rows)} of ${count(status.plannedRows)}, ${rejects(status)}`),
    fact("files", `${count(status.files)} of ${count(status.plannedShards)}, ${megabytes(status.bytes)}`),
    fact("rate", rateOf(status)),
    fact("ETA", etaOf(status)),
  ];
  if (status.queue !== null) {
    const { waiting, active, failed } = status.queue;
    lines.push(fact("queue", `${count(waiting)} waiting, ${count(active)} active, ${count(failed)} failed`));
  }
  if (status.waitsFor !== null) lines.push(...wrappedFact("waits for", status.waitsFor, columns));
  if (status.workers !== null) lines.push(...workerLines(status.workers));
  // Escapes are longer than the characters they stand for, so they are made before the line is cut.
  return lines
    .map(visible)
    .map((line) => (line.length > columns ? `${line.slice(0, Math.max(1, columns - 1))}…` : line));
}

function fact(name: string, value: string): string {
  return `${name.padEnd(NAME_WIDTH)} ${value}`;
}

/** A fact wrapped over several lines: a reason without its end would be useless. */
function wrappedFact(name: string, value: string, columns: number): string[] {
  const width = Math.max(1, columns - fact("", "").length);
  const lines: string[] = [];
  for (const word of visible(value)
    .split(" ")
    .flatMap((each) => piecesOf(each, width))) {
    const longer = `${lines.at(-1)} ${word}`;
    if (lines.length > 0 && longer.length <= width) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines.map((line, i) => fact(i === 0 ? name : "", line));
}

/** A path may be longer than a line. */
function piecesOf(word: string, width: number): string[] {
  const pieces = Math.max(1, Math.ceil(word.length / width));
  return Array.from({ length: pieces }, (_, i) => word.slice(i * width, (i + 1) * width));
}

/** The reasons of failed jobs, with one example each, and the command that continues when their cause is fixed. */
function failureLines({ failedJobs, failures, nextCommand }: RunStatus, columns: number): string[] {
  if (nextCommand === null) return [];
  const groups = failures.flatMap(({ jobs, reason, shard }) =>
    wrappedFact(`${count(jobs)} x`.padStart(NAME_WIDTH), `${reason}, for example in shard ${shard}`, columns),
  );
  return [
    fact("failed", `${count(failedJobs ?? 0)} ${failedJobs === 1 ? "job" : "jobs"}`),
    ...groups,
    ...wrappedFact("next", `fix the cause, then: ${nextCommand}`, columns),
  ];
}

function bar({ realTokens, plannedTokens }: RunStatus, columns: number): string {
  const share = plannedTokens === 0 ? 0 : realTokens / plannedTokens;
  const figures = `${percent(share)}  ${count(realTokens)} of ${count(plannedTokens)} tokens`;
  const width = Math.max(0, Math.min(LONGEST_BAR, columns - figures.length - 3));
  const done = Math.floor(share * width);
  return `${"█".repeat(done)}${"░".repeat(width - done)}  ${figures}`;
}

function rejects({ rejects, workers }: RunStatus): string {
  const rows = (workers ?? []).reduce((sum, worker) => sum + worker.rejects, 0);
  return `${count(rejects)} rejected${rows > 0 ? `, and ${count(rows)} more by the active workers` : ""}`;
}

function rateOf({ tokensPerSecondNow, tokensPerSecond }: RunStatus): string {
  const now = tokensPerSecondNow === null ? "unknown" : `${count(tokensPerSecondNow)} tokens/s`;
  return `${now} now, ${count(tokensPerSecond)} on average`;
}

function etaOf({ etaSeconds, etaUnknownBecause }: RunStatus): string {
  if (etaSeconds === null) return etaUnknownBecause === null ? "none" : `unknown: ${etaUnknownBecause}`;
  const at = new Date(Date.now() + etaSeconds * 1000);
  return `${duration(etaSeconds)}, at ${at.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" })}`;
}

function workerLines(workers: readonly WorkerState[]): string[] {
  if (workers.length === 0) return [fact("workers", "none")];
  const heads = ["worker", "device", "tokens/s", "busy", "last batch", "padding", "shards"];
  const rows = workers
    .slice(0, SHOWN_WORKERS)
    .map((worker) => [
      worker.name,
      worker.device,
      count(worker.tokensPerSecond),
      worker.deviceBusyRatio === null ? "-" : percent(worker.deviceBusyRatio),
      worker.lastBatch === null ? "none yet" : `${worker.lastBatch.rows} x ${worker.lastBatch.longestTokens}`,
      worker.paddedTokens === 0 ? "-" : percent(1 - worker.realTokens / worker.paddedTokens),
      count(worker.shards),
    ]);
  const widths = heads.map((head, i) => Math.max(head.length, ...rows.map((row) => row[i]!.length)));
  const line = (cells: readonly string[]): string =>
    cells.map((cell, i) => (i < 2 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join("  ");
  const more = workers.length - SHOWN_WORKERS;
  return ["", line(heads), ...rows.map(line), ...(more > 0 ? [`and ${count(more)} more`] : [])];
}
