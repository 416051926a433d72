/** What came from data is shown to people, and a terminal does not obey it. */
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { visible, visibleLines } from "../../src/core/visible.ts";
import { html, jsonMarkup } from "../../src/report/markup.ts";
import { visibleRecord } from "../../src/telemetry/log.ts";
import { CLI } from "../fixtures/cli.ts";

const HOSTILE = "\u001b]0;x\u0007\u009b31m\u007f\u202e\u2066\u2028\u200f\u0000";
const SHOWN = String.raw`\u001b]0;x\u0007\u009b31m\u007f\u202e\u2066\u2028\u200f\u0000`;
// oxlint-disable-next-line no-control-regex -- control characters are what must not be there
const UNSAFE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]/;

test("control characters and those that turn the text around are shown as escapes, and all else as it is", () => {
  expect(visible(HOSTILE)).toBe(SHOWN);
  expect(visible(visible(HOSTILE))).toBe(SHOWN);
  expect(visible("a\tb\r\nc")).toBe(String.raw`a\u0009b\u000d\u000ac`);
  expect(visibleLines("a\tb\nc\r")).toBe("a\tb\nc\\u000d");
  const plain = "Ωλ 漢字 שלום عربي é 👩‍🚀 \\u001b …";
  expect(visible(plain)).toBe(plain);
});

test("JSON says the same, and has none of them", () => {
  const value = { [HOSTILE]: [HOSTILE] };
  const json = visibleLines(JSON.stringify(value, null, 2));
  expect(json).not.toMatch(UNSAFE);
  expect(JSON.parse(json)).toEqual(value);
});

test("log lines are changed before they are made readable, a stack keeps its lines", () => {
  const line = JSON.stringify({
    level: 40,
    msg: `a ${HOSTILE}`,
    run: "b\nc",
    err: { stack: `Error: ${HOSTILE}\n  at x` },
  });
  const record = JSON.parse(visibleRecord(line)) as { msg: string; run: string; err: { stack: string } };
  expect(record).toEqual({
    level: 40,
    msg: `a ${SHOWN}`,
    run: String.raw`b\u000ac`,
    err: { stack: `Error: ${SHOWN}\n  at x` },
  });
});

test("a report's page has none of them", () => {
  expect(html`<p>${HOSTILE}</p>`.text).toBe(`<p>${SHOWN}</p>`);
  expect(jsonMarkup([HOSTILE]).text).not.toMatch(UNSAFE);
});

test("errors, of usage too, are shown and not obeyed", () => {
  for (const args of [
    ["enqueue", "/none/\u001b[2J\u009b\u202e", "--out", "/tmp", "--redis", "redis://127.0.0.1:1"],
    ["status", "\u001b[2J\u202e", "--out", "/tmp"],
  ]) {
    const { stdout, stderr, status } = spawnSync(process.execPath, [CLI, ...args], { encoding: "utf8" });
    expect(status).not.toBe(0);
    expect(stderr).toContain(String.raw`\u001b[2J`);
    expect(stdout + stderr).not.toMatch(UNSAFE);
  }
});

test("nothing but the one place prints", () => {
  const folder = fileURLToPath(new URL("../../src/cli/", import.meta.url));
  const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts"));
  expect(files.length).toBeGreaterThan(20);
  const others = files.filter((name) => !["output.ts", "report-failure.ts"].includes(name));
  for (const name of others)
    expect(readFileSync(join(folder, name), "utf8"), name).not.toMatch(/console\.|process\.std(?:out|err)\.write/);
});
