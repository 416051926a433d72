/** The simulation itself: it can be replayed, and it sees what it is there to see. */
import { describe, expect, test } from "vitest";
import { simulate } from "./world.ts";
import type { Sabotage } from "./sabotage.ts";

test("a seed is one and the same story each time", async () => {
  expect(await simulate(42)).toEqual(await simulate(42));
});

describe("the simulation sees what is broken on purpose", () => {
  test.each<[string, Sabotage, RegExp]>([
    ["a store that overwrites", { overwrites: true }, /was changed/],
    ["a store that forgets", { forgets: true }, /never sealed|cannot be verified/],
    ["a window's plan that is lost", { losesAPlan: true }, /never sealed/],
    [
      "a seal that takes its windows from a listing",
      { losesAPlan: true, sealsFromListing: true },
      /sealed with 1 files/,
    ],
    ["rejects of all attempts under one name", { sharesRejects: true }, /never sealed/],
    ["jobs completed before their files are there", { completesFirst: true }, /never sealed/],
    ["no one to look for lost jobs", { neverTends: true }, /never sealed/],
    ["a worker that commits a shard after the first of its batches", { commitsEarly: true }, /reading 'finish'/],
    ["a worker that waits for a row that was done", { losesARow: true }, /never ended/],
    ["a worker that takes its own mistake for an outage", { brokenLoader: "taken-for-outage" }, /never sealed$/],
  ])("%s", async (_, sabotage, broken) => {
    const seen = new Set<string>();
    for (let seed = 1; seed <= 2000 && ![...seen].some((what) => broken.test(what)); seed++)
      seen.add((await simulate(seed, sabotage)).broken ?? "nothing");
    expect([...seen].join("\n")).toMatch(broken);
  });
});

test("a mistake in a worker fails its job after a number of tries, with what was thrown, and holds up no other", async () => {
  const outcomes = await Promise.all([7, 8, 9].map((seed) => simulate(seed, { brokenLoader: "mistake" })));
  for (const { broken, failed } of outcomes) {
    expect(failed).toEqual(["tried 5 times, last: rows.map is not a function"]);
    expect(broken).toBe(`never sealed; ${failed[0]}`);
  }
});
