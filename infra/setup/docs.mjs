/** `npm run docs`: writes the generated parts of the documentation; with `--check`, says whether they are right. */
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { buildProgram } from "../../dist/src/cli/program.js";
import { METRICS } from "../../dist/src/telemetry/metrics.js";
import { arrowSections } from "./docs-arrow.mjs";
import { recordSections } from "./docs-formats.mjs";
import { table } from "./docs-table.mjs";

function metricsTable() {
  const rows = Object.values(METRICS).map(({ name, type, labels = [], of, help }) => {
    const shown = labels.length === 0 ? `\`${name}\`` : `\`${name}{${labels.join(", ")}}\``;
    return [shown, type, of.join(", "), help];
  });
  return table(["metric", "type", "of", "meaning"], rows);
}

/** Those that do something, with the words that call them. */
function* commandsOf(parent, words = [parent.name()]) {
  for (const command of parent.commands) {
    const called = [...words, command.name()];
    if (command.commands.length > 0) yield* commandsOf(command, called);
    else yield { command, called };
  }
}

function defaultOf({ mandatory, defaultValue, defaultValueDescription, negate }) {
  if (mandatory) return "required";
  if (defaultValueDescription !== undefined) return plain(defaultValueDescription);
  return defaultValue === undefined || defaultValue === false || negate ? "" : `\`${defaultValue}\``;
}

/** Outside code, angle brackets would be HTML and stars emphasis. */
function plain(text) {
  return text.replaceAll("<", "&lt;").replaceAll("*", "\\*");
}

function commandSection({ command, called }) {
  const usages = command.registeredArguments.map((argument) => {
    const name = argument.variadic ? `${argument.name()}...` : argument.name();
    return { shown: argument.required ? `<${name}>` : `[${name}]`, description: argument.description };
  });
  const shown = command.options.filter(({ hidden }) => !hidden);
  const options = shown.map((option) => [
    `\`${option.flags}\``,
    option.envVar === undefined ? "" : `\`${option.envVar}\``,
    defaultOf(option),
    plain(option.description + (option.argChoices ? `: ${option.argChoices.join(", ")}` : "")),
  ]);
  return [
    `## ${called.slice(1).join(" ")}`,
    plain(`${command.description()[0].toUpperCase()}${command.description().slice(1)}.`),
    ["```", [...called, "[options]", ...usages.map(({ shown }) => shown)].join(" "), "```"].join("\n"),
    ...(usages.length > 0 ? [usages.map(({ shown, description }) => `- \`${shown}\`: ${description}`).join("\n")] : []),
    table(["option", "environment", "default", "meaning"], options),
  ].join("\n\n");
}

/** What `npm run bench -- models --out docs/bench` measured last. */
function modelsTables() {
  const { size, at, figures } = JSON.parse(
    readFileSync(new URL("../../docs/bench/models.json", import.meta.url), "utf8"),
  );
  const flags = size === "full" ? " --full" : "";
  const columns = ["tokens x rows", "fp32 p50 ms", "rows/s", "tokens/s", "fp16 / fp32", "int8 tokens/s", "int8 / fp32"];
  const tables = figures.map(({ model, cells }) => {
    const rows = cells.map(({ batch, length, p50Ms, overFp32 }) => [
      `${length} x ${batch}`,
      p50Ms.fp32.toFixed(1),
      ((batch * 1000) / p50Ms.fp32).toFixed(1),
      String(Math.round((batch * length * 1000) / p50Ms.fp32)),
      overFp32.fp16.toFixed(2),
      String(Math.round((batch * length * 1000) / p50Ms.int8)),
      overFp32.int8.toFixed(2),
    ]);
    return `\`${model}\` ([picture](bench/models-${model}.svg)):\n\n${table(columns, rows)}`;
  });
  const made = `\`npm run bench -- models${flags} --out docs/bench && npm run docs\`, ${at.slice(0, 10)}:`;
  return [made, ...tables].join("\n\n");
}

const PARTS = [
  { page: "docs/reference/formats.md", name: "arrow", make: arrowSections },
  { page: "docs/reference/formats.md", name: "records", make: recordSections },
  { page: "docs/models.md", name: "bench", make: modelsTables },
  { page: "docs/operations.md", name: "metrics", make: metricsTable },
  {
    page: "docs/reference/cli.md",
    name: "commands",
    make: () => `\n${[...commandsOf(buildProgram())].map(commandSection).join("\n\n")}\n`,
  },
];

for (const { page, name, make } of PARTS) {
  const path = fileURLToPath(new URL(`../../${page}`, import.meta.url));
  const before = readFileSync(path, "utf8");
  const part = new RegExp(`(<!-- ${name}: begin[^>]*-->\n)[^]*?(<!-- ${name}: end -->)`);
  const after = before.replace(part, (_, begin, end) => `${begin}${make()}\n${end}`);
  if (!process.argv.includes("--check")) writeFileSync(path, after);
  else if (before !== after) {
    console.error(`error: ${page} does not list the ${name} as they are\n  run: npm run docs`);
    process.exitCode = 1;
  }
}
