/** The fleet's state as server-sent events: one event per snapshot; a slow reader gets only the newest. */
import type { Context } from "hono";
import { type SSEStreamingApi, streamSSE } from "hono/streaming";
import { HTTPException } from "hono/http-exception";
import type { FleetWatch } from "./fleet-watch.ts";
import type { FleetSnapshot } from "./snapshot.ts";

const MAX_READERS = 100;
/** Interval of comments that keep the connection open: proxies close silent ones. */
const KEEP_ALIVE_MS = 15_000;

/** A reader that accepts no data for this long is disconnected, even if its connection does not report it. */
const READER_GONE_MS = 60_000;

const readers = new WeakMap<FleetWatch, number>();

export function streamSnapshots(c: Context, watch: FleetWatch): Response {
  // Nobody reads the stream of a HEAD request, and nothing would signal its end.
  if (c.req.method === "HEAD") return c.body(null, 200, { "content-type": "text/event-stream" });
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
        if (!(await isTaken(send(stream)))) return stream.abort();
        if (stream.aborted) return;
        await untilWoken((resolve) => (wake = resolve));
      }
    } finally {
      unsubscribe();
      readers.set(watch, readers.get(watch)! - 1);
    }

    function send(stream: SSEStreamingApi): Promise<unknown> {
      if (newest === null) return stream.write(": alive\n\n");
      return stream.writeSSE({ event: "snapshot", data: JSON.stringify(take()) });
    }

    function take(): FleetSnapshot | null {
      const taken = newest;
      newest = null;
      return taken;
    }
  });
}

async function isTaken(sending: Promise<unknown>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<false>((resolve) => (timer = setTimeout(resolve, READER_GONE_MS, false)));
  try {
    return await Promise.race([sending.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}

async function untilWoken(setWake: (wake: () => void) => void): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  await new Promise<void>((resolve) => {
    setWake(resolve);
    timer = setTimeout(resolve, KEEP_ALIVE_MS);
  });
  clearTimeout(timer);
}
