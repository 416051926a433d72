/** Whose fault a fault is, for each code there is: no wrong worker may fail jobs, and no hopeless job may go round for ever. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { type ErrorCode, FleetError } from "../../src/core/errors.ts";
import { mayRestart, retryAfterMs, type Verdict, verdictOf } from "../../workers/verdict.ts";

const WANTED: Readonly<Record<ErrorCode, Verdict>> = {
  bad_usage: "end",
  run_unknown: "end",
  worker_unfit: "end",
  contract_newer: "end",
  store_refused: "end",
  addon_missing: "end",
  redis_unsuitable: "end",
  model_unknown: "end",
  model_invalid: "end",
  model_unavailable: "end",
  device_memory: "end",
  inference_hung: "end",
  store_unavailable: "wait",
  redis_unavailable: "wait",
  job_invalid: "fail",
  plan_invalid: "fail",
  object_missing: "fail",
  object_corrupt: "fail",
  run_cancelled: "fail",
  inference_failed: "retry",
  inference_crashed: "retry",
  run_incomplete: "retry",
  run_held: "retry",
  run_conflict: "retry",
  source_unreadable: "retry",
  source_missing: "retry",
  source_changed: "retry",
  source_refused: "retry",
  too_many_rejects: "retry",
  schedule_conflict: "retry",
  schedule_unknown: "retry",
  schedule_refused: "retry",
  webhook_failed: "retry",
  index_conflict: "retry",
  worker_failed: "retry",
  producer_failed: "retry",
};
const CODES = Object.keys(WANTED) as ErrorCode[];

test("every code has its verdict", () => {
  const source = readFileSync("src/core/errors.ts", "utf8");
  const declared = /export type ErrorCode =([^;]*);/.exec(source)![1]!.match(/"[a-z_]+"/g)!;
  expect(CODES.toSorted()).toEqual(declared.map((code) => code.slice(1, -1)).toSorted());
  expect(Object.fromEntries(CODES.map((code) => [code, verdictOf(new FleetError(code, "why"))]))).toEqual(WANTED);
});

test("what is no fault of ours is tried again, and memory that has run out is the worker's", () => {
  expect(verdictOf(new TypeError("x is not a function"))).toBe("retry");
  expect(verdictOf("thrown")).toBe("retry");
  expect(verdictOf(undefined)).toBe("retry");
  expect(verdictOf(new RangeError("Array buffer allocation failed"))).toBe("end");
  expect(verdictOf(Object.assign(new Error("spawn ENOMEM"), { code: "ENOMEM" }))).toBe("end");
  expect(verdictOf(new RangeError("offset is out of bounds"))).toBe("retry");
});

test("a worker is not started again where people have to act first", () => {
  const down = CODES.filter((code) => !mayRestart(new FleetError(code, "why")));
  const passing: ErrorCode[] = ["device_memory", "inference_hung"];
  const wanted = CODES.filter((code) => WANTED[code] === "end" && !passing.includes(code));
  expect(down.toSorted()).toEqual([...wanted, "run_incomplete"].toSorted());
  expect(mayRestart(new TypeError("x is not a function"))).toBe(true);
});

test("pauses double up to half a minute", () => {
  expect([1, 2, 3, 7, 8, 10_000].map(retryAfterMs)).toEqual([500, 1000, 2000, 30_000, 30_000, 30_000]);
});
