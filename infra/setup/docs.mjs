/** `npm run docs`: writes the generated parts of the documentation; with `--check`, says whether they are right. */
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { METRICS } from "../../dist/src/telemetry/metrics.js";

const page = fileURLToPath(new URL("../../docs/operations.md", import.meta.url));

function metricsTable() {
  const lines = Object.values(METRICS).map(({ name, type, labels = [], of, help }) => {
    const shown = labels.length === 0 ? `\`${name}\`` : `\`${name}{${labels.join(", ")}}\``;
    return `| ${shown} | ${type} | ${of.join(", ")} | ${help} |`;
  });
  return ["| metric | type | of | meaning |", "|---|---|---|---|", ...lines].join("\n");
}

const before = readFileSync(page, "utf8");
const after = before.replace(/(<!-- metrics: begin[^>]*-->\n)[^]*?(<!-- metrics: end -->)/, (_, begin, end) => {
  return `${begin}${metricsTable()}\n${end}`;
});
if (process.argv.includes("--check")) {
  if (before !== after) {
    console.error("error: docs/operations.md does not list the metrics as they are\n  run: npm run docs");
    process.exit(1);
  }
} else writeFileSync(page, after);
