/** Switches by their environment variables. */
import { expect, test } from "vitest";
import { parsed } from "../fixtures/parsed-settings.ts";

function isOn(value: string): boolean {
  return parsed("compact", ["--out", "x", "r"], { EMBEDFLEET_UNSAFE_STORE: value })["unsafeStore"] === true;
}

test.each(["1", "true", "yes", "on", "True"])("%j switches on", (value) => {
  expect(isOn(value)).toBe(true);
});

test.each(["", "0", "false", "no", "off", "FALSE"])("%j does not", (value) => {
  expect(isOn(value)).toBe(false);
});

test("anything else is refused, with the variable's name", () => {
  expect(() => isOn("maybe")).toThrow('the environment variable EMBEDFLEET_UNSAFE_STORE is "maybe"');
});

test("a command that does not take the switch does not mind", () => {
  expect(parsed("report", ["--out", "x", "r"], { EMBEDFLEET_UNSAFE_STORE: "maybe" })).toMatchObject({ out: "x" });
});

test("a switch whose name begins with no- is off unless it is given", () => {
  const noFollow = (args: string[], env = {}): unknown =>
    parsed("enqueue", ["--out", "x", "c", ...args], env)["noFollow"];
  expect(noFollow([])).toBe(false);
  expect(noFollow(["--no-follow"])).toBe(true);
  expect(noFollow([], { EMBEDFLEET_NO_FOLLOW: "1" })).toBe(true);
});
