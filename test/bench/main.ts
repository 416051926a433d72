/**
 * `npm run bench -- <name> [--full] [--documents <n>] [--out <folder> | --publish]`: runs one benchmark, prints it,
 * keeps JSON and SVG; with `--publish` beside the documentation, whose page on performance then shows them.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { Bench, Table } from "./bench.ts";
import { type BenchRecord, publish } from "./publish.ts";

const BENCHES: Readonly<Record<string, () => Promise<{ readonly bench: Bench }>>> = {
  arrow: () => import("./arrow.ts"),
  bare: () => import("./bare.ts"),
  growth: () => import("./growth.ts"),
  known: () => import("./known.ts"),
  memory: () => import("./memory.ts"),
  models: () => import("./models.ts"),
  packing: () => import("./packing.ts"),
  peers: () => import("./peers.ts"),
  producer: () => import("./producer.ts"),
  scaling: () => import("./scaling.ts"),
};

function printTable({ title, columns, rows }: Table): void {
  const cells = [columns, ...rows].map((row) => row.map((cell) => (typeof cell === "number" ? String(cell) : cell)));
  const widths = columns.map((_, i) => Math.max(...cells.map((row) => row[i]!.length)));
  console.log(`\n${title}\n`);
  cells.forEach((row, at) => {
    console.log(
      `| ${row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join(" | ")} |`,
    );
    if (at === 0)
      console.log(
        `|${widths.map((width, i) => (i === 0 ? "-".repeat(width + 2) : `${"-".repeat(width + 1)}:`)).join("|")}|`,
      );
  });
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    full: { type: "boolean", default: false },
    documents: { type: "string" },
    publish: { type: "boolean", default: false },
    out: { type: "string" },
  },
});
const name = positionals[0] ?? "";
const load = BENCHES[name];
if (load === undefined) {
  console.error(
    `usage: npm run bench -- <name> [--full] [--out <folder> | --publish]\n  names: ${Object.keys(BENCHES).join(", ")}`,
  );
  process.exit(2);
}
const { bench } = await load();
const size = values.full ? "full" : "small";
console.log(`${bench.title} (${size})`);
const { figures, tables, charts, notes } = await bench.run({
  size,
  ...(values.documents !== undefined && { documents: Number(values.documents) }),
});
for (const table of tables) printTable(table);
for (const note of notes) console.log(`\n${note}`);

const out = values.out ?? (values.publish ? "docs/bench" : "out/bench");
mkdirSync(out, { recursive: true });
const machine = { node: process.version, cpu: cpus()[0]?.model ?? "unknown", cores: cpus().length };
const at = new Date().toISOString();
const record: BenchRecord = { bench: name, size, at, machine, figures, tables, notes, charts: Object.keys(charts) };
writeFileSync(join(out, `${name}.json`), `${JSON.stringify(record, null, 1)}\n`);
for (const [chart, svg] of Object.entries(charts)) writeFileSync(join(out, `${chart}.svg`), svg);
console.log(`\nkept in ${out}: ${[`${name}.json`, ...record.charts.map((chart) => `${chart}.svg`)].join(", ")}`);
if (values.publish) {
  publish("docs/performance.md", record);
  console.log("docs/performance.md shows them");
}
