/** `--publish`: what was measured goes into the page on performance, between the benchmark's two marks. */
import { readFileSync, writeFileSync } from "node:fs";
import type { Table } from "./bench.ts";

export interface BenchRecord {
  readonly bench: string;
  readonly size: "small" | "full";
  readonly at: string;
  readonly machine: { readonly node: string; readonly cpu: string; readonly cores: number };
  readonly figures: unknown;
  readonly tables: readonly Table[];
  readonly notes: readonly string[];
  /** Names of the pictures beside it. */
  readonly charts: readonly string[];
}

/** @throws Error when the page has no place for it. */
export function publish(page: string, record: BenchRecord): void {
  const { bench } = record;
  const text = readFileSync(page, "utf8");
  const begin = text.indexOf(`<!-- bench:${bench} begin`);
  const from = text.indexOf("\n", begin) + 1;
  const to = text.indexOf(`<!-- bench:${bench} end -->`);
  if (begin < 0 || to < from)
    throw new Error(`${page} has no place for ${bench}: <!-- bench:${bench} begin --> … end -->`);
  writeFileSync(page, `${text.slice(0, from)}${markdownOf(record)}${text.slice(to)}`);
}

export function markdownOf({ bench, size, at, machine, tables, notes, charts }: BenchRecord): string {
  const command = `npm run bench -- ${bench}${size === "full" ? " --full" : ""}`;
  const { cores, cpu, node } = machine;
  const parts = [
    ...tables.map(({ title, ...table }) => `**${title}**\n\n${tableOf(table)}`),
    ...notes,
    ...charts.map((chart) => `![${chart}](bench/${chart}.svg)`),
    `\`${command}\`, ${at.slice(0, 10)}, ${cores} cores (${cpu}), Node ${node}.`,
  ];
  return `${parts.join("\n\n")}\n`;
}

function tableOf({ columns, rows }: Omit<Table, "title">): string {
  const lines = [columns, columns.map((_, i) => (i === 0 ? "---" : "---:")), ...rows];
  return lines.map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}
