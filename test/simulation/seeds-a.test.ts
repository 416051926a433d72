/** Half of the seeds; the other half is in `seeds-b`, so that two processes share them. */
import { test } from "vitest";
import { simulateSeeds } from "./seeds.ts";

test("every row once, or rejected, whatever happens in whatever order", () => simulateSeeds(0), 1_800_000);
