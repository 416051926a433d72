/** Progress of long work: a bar in a terminal, nothing elsewhere, where the logs suffice. */
import { SingleBar } from "cli-progress";

export interface Progress {
  update(done: number, total: number): void;
  stop(): void;
}

export function startProgress(what: string, unit: string): Progress {
  if (!process.stderr.isTTY) return { update() {}, stop() {} };
  const bar = new SingleBar({
    format: `${what.padEnd(10)} {bar} {value}/{total} ${unit}  {duration_formatted}`,
    stream: process.stderr,
    hideCursor: true,
    clearOnComplete: true,
  });
  let isStarted = false;
  let isStopped = false;
  return {
    update(done, total) {
      // A late report after the end is ignored.
      if (isStopped) return;
      if (!isStarted) bar.start(total, done);
      isStarted = true;
      bar.setTotal(total);
      bar.update(done);
    },
    stop() {
      isStopped = true;
      if (isStarted) bar.stop();
    },
  };
}
