/** Each port has one conformance suite, and each suite is run on every implementation that there is. */
import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";

const CONFORMANCE = "test/conformance";

/** By port: its suite, and what implements it, in the order in which the suite is run on it. */
const SUITES: Readonly<Record<string, readonly [suite: string, runs: readonly string[]]>> = {
  ObjectStore: ["object-store", []],
  ByteSource: ["byte-source", []],
  JobQueue: ["job-queue", ["memory", "simulation", "Redis"]],
  QueueGauge: ["job-queue", ["memory", "simulation", "Redis"]],
  JobFailures: ["job-queue", ["memory", "simulation", "Redis"]],
  JobLeases: ["job-queue", ["memory", "simulation", "Redis"]],
  Turn: ["turn", ["memory", "simulation", "Redis"]],
  Presence: ["presence", ["Redis"]],
  ControlQueue: ["control-queue", ["Redis"]],
  PartQueue: ["part-queue", ["memory", "Redis"]],
  Tokenizer: ["tokenizer", ["native", "a model's", "simulation", "made"]],
  Embedder: ["embedder", []],
};
/** Parts of other ports, tested with them. */
const PARTS = new Set(["HeldTurn", "TickHandlers"]);

test("each port has a suite", () => {
  const source = readFileSync("src/core/ports.ts", "utf8") + readFileSync("src/core/ingest.ts", "utf8");
  const interfaces = [...source.matchAll(/^export interface (\w+) \{(.*?)^\}/gms)];
  const ports = interfaces.filter(([, , body = ""]) => body.includes("Promise<")).map(([, name = ""]) => name);
  expect(ports.filter((name) => !PARTS.has(name)).toSorted()).toEqual(Object.keys(SUITES).toSorted());
});

test.each(Object.entries(SUITES))("%s", (port, [suite, runs]) => {
  expect(readdirSync(CONFORMANCE)).toContain(`${suite}.suite.ts`);
  expect(readFileSync(`${CONFORMANCE}/${suite}.suite.ts`, "utf8")).toContain(port);
  const run = readFileSync(`${CONFORMANCE}/${suite}.test.ts`, "utf8");
  expect(run).toContain(`./${suite}.suite.ts`);
  const names = [...run.matchAll(/^\w+Suite\(\s*"([^"]+)"/gm)].map(([, name]) => name);
  if (runs.length > 0) expect(names).toEqual(runs);
});
