/** How log lines look in a terminal and in a pipe, and when one asks for the other. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { parsed } from "../fixtures/parsed-settings.ts";

const LOG = new URL("../../dist/src/telemetry/log.js", import.meta.url).href;
const JSON_LINE = /^\{"level":30,.*"n":1,.*"msg":"hello"\}\s*$/;
const PRETTY = /^\[\d\d:\d\d:\d\d\] INFO: hello\s+n: 1\s*$/;

function program(format: string): string {
  return `import { createLogger } from ${JSON.stringify(LOG)}; createLogger("info"${format}).info({ n: 1 }, "hello");`;
}

async function piped(format: string): Promise<string> {
  const args = ["--input-type=module", "-e", program(format)];
  return (await promisify(execFile)(process.execPath, args)).stderr;
}

/** `script` gives its command a terminal of its own. */
async function inTerminal(format: string): Promise<string> {
  const command = `${process.execPath} --input-type=module -e '${program(format)}'`;
  const env = { ...process.env, NO_COLOR: "1" };
  return (await promisify(execFile)("script", ["-qec", command, "/dev/null"], { env })).stdout;
}

test("lines are JSON in a pipe and for people in a terminal, unless a format is asked for", async () => {
  expect(await piped("")).toMatch(JSON_LINE);
  expect(await piped(', "pretty"')).toMatch(PRETTY);
  expect(await inTerminal("")).toMatch(PRETTY);
  expect(await inTerminal(', "json"')).toMatch(JSON_LINE);
});

test("every command takes the format from its flag or the variable", () => {
  const store = "file:///nowhere";
  expect(parsed("verify", [store])["logFormat"]).toBeUndefined();
  expect(parsed("verify", [store, "--log-format", "json"])["logFormat"]).toBe("json");
  expect(parsed("work", ["--out", store], { EMBEDFLEET_LOG_FORMAT: "pretty" })["logFormat"]).toBe("pretty");
  expect(() => parsed("work", ["--out", store], { EMBEDFLEET_LOG_FORMAT: "xml" })).toThrow("EMBEDFLEET_LOG_FORMAT");
});
