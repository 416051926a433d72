/** The name of a process of the fleet. */
import { hostname } from "node:os";

/** Name of this process in logs, in metrics and in `status`. */
export function processName(): string {
  return `${hostname()}-${process.pid}`;
}
