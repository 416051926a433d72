/** A few of the seeds, to see a mistake soon; `npm run test:more` runs all of them. */
import { test } from "vitest";
import { simulateSeeds } from "./seeds.ts";

const SEEDS = 1500;

test("every row once, or rejected, whatever happens in whatever order", () => simulateSeeds(0, SEEDS), 600_000);
