/** The promise, under every order of steps that the seeds find. `SIMULATION_SEEDS` and `SIMULATION_FIRST` choose them. */
import { describe, expect, test } from "vitest";
import { simulate } from "./world.ts";
import type { Sabotage } from "./sim-ports.ts";

const SEEDS = Number(process.env["SIMULATION_SEEDS"] ?? 10_000);
const FIRST = Number(process.env["SIMULATION_FIRST"] ?? 1);

test("every row once, or rejected, whatever happens in whatever order", async () => {
  const startedMs = performance.now();
  let steps = 0;
  for (let seed = FIRST; seed < FIRST + SEEDS; seed++) {
    const outcome = await simulate(seed);
    steps += outcome.steps;
    expect(outcome.broken, `SIMULATION_FIRST=${seed} SIMULATION_SEEDS=1 replays this`).toBeNull();
  }
  const minutes = (performance.now() - startedMs) / 60_000;
  console.log(`${SEEDS} seeds, ${steps} steps, ${Math.round(SEEDS / minutes)} seeds a minute`);
}, 600_000);

test("a seed is one and the same story each time", async () => {
  expect(await simulate(42)).toEqual(await simulate(42));
});

describe("the simulation sees what is broken on purpose", () => {
  test.each<[string, Sabotage, RegExp]>([
    ["a store that overwrites", { overwrites: true }, /was changed/],
    ["a store that forgets", { forgets: true }, /never sealed|cannot be verified/],
    ["rejects of all attempts under one name", { sharesRejects: true }, /never sealed/],
    ["jobs completed before their files are there", { completesFirst: true }, /never sealed/],
    ["no one to look for lost jobs", { neverTends: true }, /never sealed/],
  ])(
    "%s",
    async (_, sabotage, broken) => {
      const seen = new Set<string>();
      for (let seed = 1; seed <= 2000 && ![...seen].some((what) => broken.test(what)); seed++)
        seen.add((await simulate(seed, sabotage)).broken ?? "nothing");
      expect([...seen].join("\n")).toMatch(broken);
    },
    60_000,
  );
});
