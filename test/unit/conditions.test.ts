import { describe, expect, test } from "vitest";
import { holds, parseCondition } from "../../src/core/conditions.ts";

describe("what is written", () => {
  test.each([
    ["lang=en", "lang", "=", "en"],
    [" year >= 2020 ", "year", ">=", "2020"],
    ["a!=b", "a", "!=", "b"],
    ["meta.source<s3", "meta.source", "<", "s3"],
    ["note=", "note", "=", ""],
    ["title=a = b", "title", "=", "a = b"],
    ["day>2026-01-01T00:00", "day", ">", "2026-01-01T00:00"],
  ])("%s", (text, field, operator, value) => {
    expect(parseCondition(text)).toEqual({ field, operator, value });
  });

  test.each([
    ["lang", /no field and operator/],
    ["=en", /no field and operator/],
    ["lang==en", /operator ==/],
    ["year=>2020", /operator =>/],
    ["year>=", /has no value to compare with/],
    ["", /no field and operator/],
  ])("%j is refused with a cure", (text, message) => {
    expect(() => parseCondition(text)).toThrow(
      expect.objectContaining({
        code: "bad_usage",
        message: expect.stringMatching(message),
        cure: expect.stringContaining("lang=en"),
      }),
    );
  });
});

describe("what holds", () => {
  test.each<[string, unknown, boolean]>([
    ["a=x", "x", true],
    ["a=x", "X", false],
    ["a!=x", "y", true],
    ["a!=x", undefined, true],
    ["a=x", undefined, false],
    ["a=x", null, false],
    ["a!=x", null, true],
    ["a=", "", true],
    ["a=", undefined, false],
    ["n=5", 5, true],
    ["n=5.0", 5, true],
    ["n>=5", 10, true],
    ["n>=5", "10", true],
    ["n<5", "10", false],
    ["zip=1234", "01234", false],
    ["n<x", 5, false],
    ["n!=x", 5, true],
    ["ok=true", true, true],
    ["ok=true", "true", true],
    ["ok=true", false, false],
    ["day>=2026-01-02", new Date("2026-01-02"), true],
    ["day<2026-01-02", "2026-01-01", true],
    ["tags=a", ["a"], false],
    ["tags!=a", ["a"], true],
    ["n>1", NaN, false],
    ["s>b", "c", true],
  ])("%s of %j: %s", (condition, value, expected) => {
    expect(holds(parseCondition(condition), value)).toBe(expected);
  });

  test("whole numbers beyond 2^53 are compared exactly", () => {
    expect(holds(parseCondition("n=5"), 5n)).toBe(true);
    expect(holds(parseCondition("n>9007199254740992"), 9007199254740993n)).toBe(true);
  });
});
