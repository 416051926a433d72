/** The promise, under every order of steps that the seeds find. */
import { expect } from "vitest";
import { simulate } from "./world.ts";

/** What two cores do in three to four minutes. */
const DEFAULT_SEEDS = 30_000;

/** `SIMULATION_FIRST=n SIMULATION_SEEDS=1` replays one story. */
const FIRST = Number(process.env["SIMULATION_FIRST"] ?? 1);
export const SEEDS_EACH = Math.ceil(Number(process.env["SIMULATION_SEEDS"] ?? DEFAULT_SEEDS) / 2);

/** @param after How many seeds to leave out, after the first. */
export async function simulateSeeds(after: number, seeds = SEEDS_EACH): Promise<void> {
  const startedMs = performance.now();
  let steps = 0;
  for (let seed = FIRST + after; seed < FIRST + after + seeds; seed++) {
    const outcome = await simulate(seed);
    steps += outcome.steps;
    expect(outcome.broken, `SIMULATION_FIRST=${seed} SIMULATION_SEEDS=1 replays this`).toBeNull();
  }
  const minutes = (performance.now() - startedMs) / 60_000;
  console.log(`${seeds} seeds, ${steps} steps, ${Math.round(seeds / minutes)} seeds a minute`);
}
