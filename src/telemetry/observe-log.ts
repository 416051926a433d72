/** What happens to a worker's device, as log lines: what is wrong at `warn`, each batch at `debug`. */
import type { Logger } from "pino";
import type { Observe } from "../core/telemetry.ts";

export function observeLog(log: Logger): Observe {
  return (event) => {
    if (event.kind === "batch") {
      const { batch, rowTokens, longestTokens, paddedTokens, deviceMs, idleMs } = event;
      const runs = [...new Set(event.shares.map(({ run }) => run))];
      const figures = { rows: rowTokens.length, longestTokens, paddedTokens, deviceMs, idleMs };
      log.debug({ batch, run: runs.length === 1 ? runs[0] : runs, ...figures }, "a batch went through the model");
    } else if (event.kind === "oom-split") {
      const { rows, paddedTokens } = event;
      log.warn({ rows, paddedTokens }, "a batch did not fit the device's memory and was cut in two");
    } else if (event.kind === "fallback") {
      const { from, to, reason } = event;
      log.warn({ from, to, reason }, "the work moved to another device or provider");
    } else if (event.kind === "breaker" && event.state === "open") {
      log.warn({ breaker: event.name }, "a circuit breaker opened");
    } else if (event.kind === "breaker" && event.state === "closed") {
      log.info({ breaker: event.name }, "a circuit breaker closed again");
    }
  };
}
