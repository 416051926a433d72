/** The fleet's state as server-sent events: one snapshot a look, the newest only for who reads slowly. */
import type { Context } from "hono";
import { streamSSE } from "hono/streaming";
import { HTTPException } from "hono/http-exception";
import type { FleetWatch } from "./fleet-watch.ts";
import type { FleetSnapshot } from "./snapshot.ts";

const MAX_READERS = 100;
/** Proxies end what is silent; a comment keeps it open. */
const KEEP_ALIVE_MS = 15_000;

const readers = new WeakMap<FleetWatch, number>();

export function streamSnapshots(c: Context, watch: FleetWatch): Response {
  const count = readers.get(watch) ?? 0;
  if (count >= MAX_READERS) throw new HTTPException(503, { message: "too many readers" });
  readers.set(watch, count + 1);
  return streamSSE(c, async (stream) => {
    let newest: FleetSnapshot | null = watch.snapshot;
    let wake = (): void => {};
    const unsubscribe = watch.subscribe((snapshot) => {
      newest = snapshot;
      wake();
    });
    stream.onAbort(() => wake());
    try {
      while (!stream.aborted && !stream.closed) {
        if (newest === null) await stream.write(": alive\n\n");
        else await stream.writeSSE({ event: "snapshot", data: JSON.stringify(take()) });
        await untilWoken((resolve) => (wake = resolve));
      }
    } finally {
      unsubscribe();
      readers.set(watch, readers.get(watch)! - 1);
    }

    function take(): FleetSnapshot | null {
      const taken = newest;
      newest = null;
      return taken;
    }
  });
}

async function untilWoken(setWake: (wake: () => void) => void): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  await new Promise<void>((resolve) => {
    setWake(resolve);
    timer = setTimeout(resolve, KEEP_ALIVE_MS);
  });
  clearTimeout(timer);
}
