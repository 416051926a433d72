/** The other half of the seeds. */
import { test } from "vitest";
import { SEEDS_EACH, simulateSeeds } from "./seeds.ts";

test("every row once, or rejected, whatever happens in whatever order", () => simulateSeeds(SEEDS_EACH), 1_800_000);
