/** An HTTP server that can be started and stopped. */
import { once } from "node:events";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { createAdaptorServer } from "@hono/node-server";
import type { Hono } from "hono";
import { FleetError, messageOf } from "../core/errors.ts";

/** Milliseconds that a stopping server leaves open connections to finish. */
const STOP_GRACE_MS = 1000;

export interface Listening {
  /** `http://127.0.0.1:7878` */
  readonly url: string;
  close(): Promise<void>;
}

/** @throws FleetError `bad_usage` when the address cannot be bound. */
export async function listen(params: Readonly<{ app: Hono; host: string; port: number }>): Promise<Listening> {
  const { app, host, port } = params;
  const server = createAdaptorServer({ fetch: app.fetch, hostname: host }) as Server;
  try {
    server.listen(port, host);
    await once(server, "listening");
  } catch (error) {
    throw new FleetError("bad_usage", `${host}:${port} cannot be listened on: ${messageOf(error)}`, {
      cure: "another program may use the port; pass another one, or 0 for any free port",
      cause: error,
    });
  }
  const { port: bound } = server.address() as AddressInfo;
  let closed: Promise<void> | null = null;
  return {
    url: `http://${host.includes(":") ? `[${host}]` : host}:${bound}`,
    close: () => (closed ??= closeServer(server)),
  };
}

async function closeServer(server: Server): Promise<void> {
  const ended = once(server, "close");
  server.close();
  server.closeIdleConnections();
  const timer = setTimeout(() => server.closeAllConnections(), STOP_GRACE_MS);
  await ended;
  clearTimeout(timer);
}

/** Whether an address can be reached from this machine only. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127(?:\.\d{1,3}){3}$/.test(host);
}
