/** Switches by their environment variables. */
import { Command } from "commander";
import { afterEach, expect, test, vi } from "vitest";
import { OPTIONS } from "../../src/config.ts";

afterEach(() => vi.unstubAllEnvs());

function isOn(value: string): boolean {
  vi.stubEnv("EMBEDFLEET_UNSAFE_STORE", value);
  const program = new Command().addOption(OPTIONS.unsafeStore()).parse([], { from: "user" });
  return program.opts()["unsafeStore"] === true;
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
