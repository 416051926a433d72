/** How a process of the fleet is called. */
import { hostname } from "node:os";

/** Names this process in logs, in metrics and in `status`. */
export function processName(): string {
  return `${hostname()}-${process.pid}`;
}
