/**
 * Other libraries write their files anew, and each is read: pyarrow, Polars, DuckDB, pandas and fastparquet, in a Python
 * environment of their own. The table of `docs/sources.md` is compared with what was read; SOURCES_TABLE=write writes it.
 */
import { execFileSync } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { columnsOf, FOREIGN, type ForeignFile, foreignFiles, fromFile, usualRows } from "../fixtures/foreign-files.ts";
import { pythonWith } from "../fixtures/python-environment.ts";
import { brief } from "../fixtures/sources.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

const PAGE = fileURLToPath(new URL("../../docs/sources.md", import.meta.url));
const INSTALL_TIMEOUT_MS = 900_000;

async function rowOf(folder: string, { file, writer, how, columns, rows = 4 }: ForeignFile): Promise<string> {
  const keep = Object.keys(columns);
  const items = await fromFile(folder, file, { keep });
  expect([file, columnsOf(items, keep)]).toEqual([file, columns]);
  if (rows === 4) expect([file, ...items.map(brief)]).toEqual([file, ...usualRows(rows)]);
  return `| ${writer} | ${how} | ${items.length} of ${rows} rows | ${keep.join(", ")} |`;
}

test(
  "every file that other libraries write is read exactly, and the table says so",
  async () => {
    const folder = await tempFolder();
    execFileSync(pythonWith(join(FOREIGN, "requirements.txt")), [join(FOREIGN, "make.py"), folder]);
    const rows: string[] = [];
    for (const file of await foreignFiles(folder)) rows.push(await rowOf(folder, file));
    const table = ["| writer | file | read | columns, each value exact |", "|---|---|---|---|", ...rows].join("\n");
    const page = await readFile(PAGE, "utf8");
    const [before, after] = page.split(/(?<=<!-- written: begin[^\n]*\n)[^]*(?=<!-- written: end)/) as [string, string];
    if (process.env["SOURCES_TABLE"] === "write") await writeFile(PAGE, `${before}${table}\n${after}`);
    expect(await readFile(PAGE, "utf8")).toBe(`${before}${table}\n${after}`);
  },
  INSTALL_TIMEOUT_MS,
);
