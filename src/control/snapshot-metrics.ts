/** The fleet's state as metrics: queue depths in jobs and tokens, progress and ETA of the runs. */
import type { Metrics } from "../telemetry/metrics.ts";
import type { FleetSnapshot } from "./snapshot.ts";

const PER_RUN = ["runTokens", "runRows", "runTokensPerSecond", "runEtaSeconds"] as const;
const PER_QUEUE = ["queueJobs", "queueTokens", "workers", "producers"] as const;

export function recordSnapshot(metrics: Metrics, snapshot: FleetSnapshot): void {
  for (const key of [...PER_RUN, ...PER_QUEUE]) metrics.clear(key);
  for (const { name, counts, tokens, workers, producers } of snapshot.queues) {
    for (const [state, jobs] of Object.entries(counts)) metrics.set("queueJobs", jobs, { queue: name, state });
    metrics.set("queueTokens", tokens, { queue: name });
    metrics.set("workers", workers, { queue: name });
    metrics.set("producers", producers.length, { queue: name });
  }
  const active = snapshot.runs.filter((run) => run.isActive);
  metrics.set("activeRuns", active.length);
  metrics.set("heldRuns", active.filter(({ held }) => held !== undefined).length);
  for (const run of active) {
    metrics.set("runTokens", run.plannedTokens, { run: run.run, state: "planned" });
    metrics.set("runTokens", run.realTokens, { run: run.run, state: "done" });
    metrics.set("runRows", run.plannedRows, { run: run.run, state: "planned" });
    metrics.set("runRows", run.rows, { run: run.run, state: "done" });
    metrics.set("runTokensPerSecond", run.tokensPerSecondNow ?? 0, { run: run.run });
    if (run.etaSeconds !== null) metrics.set("runEtaSeconds", run.etaSeconds, { run: run.run });
  }
  if (snapshot.problems.length === 0) metrics.set("lastRefresh", Date.parse(snapshot.at) / 1000);
}
