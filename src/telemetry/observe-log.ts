/**
 * Each batch as a log line, at `debug`. Faults of a device are logged where they are handled, by the embedders
 * of `models/resilience`, which know more of them than their events contain.
 */
import type { Logger } from "pino";
import type { Observe } from "../core/telemetry.ts";

export function observeLog(log: Logger): Observe {
  return (event) => {
    if (event.kind !== "batch") return;
    const { batch, rowTokens, longestTokens, paddedTokens, deviceMs, idleMs } = event;
    const runs = [...new Set(event.shares.map(({ run }) => run))];
    const figures = { rows: rowTokens.length, longestTokens, paddedTokens, deviceMs, idleMs };
    log.debug({ batch, run: runs.length === 1 ? runs[0] : runs, ...figures }, "a batch went through the model");
  };
}
