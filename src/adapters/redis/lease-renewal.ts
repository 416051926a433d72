/** Renews a worker's leases from a separate thread and connection. */
import { Worker } from "node:worker_threads";
import type { Logger } from "pino";
import { messageOf } from "../../core/errors.ts";
import type { Heartbeat } from "../../core/heartbeat.ts";
import type { Observe } from "../../core/telemetry.ts";
import type { LeaseChange, RenewalNotice, RenewalParams } from "./renewal.thread.ts";

const HEARTBEAT_MS = 1000;
const RESTART_MS = 1000;

export class LeaseRenewal {
  /** Resolves when renewal works; no lease should be taken before. */
  readonly ready: Promise<void>;
  readonly #params: RenewalParams;
  readonly #log: Logger;
  readonly #observe: Observe;
  readonly #leases = new Map<string, string>();
  readonly #heartbeat: NodeJS.Timeout;
  #thread: Worker;
  #isReady: () => void = () => {};
  #isClosed = false;

  constructor(
    params: Readonly<Omit<RenewalParams, "heartbeat"> & { heartbeat: Heartbeat; log: Logger; observe: Observe }>,
  ) {
    const { log, observe, heartbeat, ...rest } = params;
    const { shared, maxSilentMs } = heartbeat;
    this.#log = log;
    this.#observe = observe;
    this.#params = { ...rest, heartbeat: { shared, maxSilentMs } };
    heartbeat.loopTurned();
    this.#heartbeat = setInterval(() => heartbeat.loopTurned(), HEARTBEAT_MS);
    this.ready = new Promise((resolve) => (this.#isReady = resolve));
    this.#thread = this.#start();
  }

  hold(id: string, token: string): void {
    this.#leases.set(id, token);
    this.#tell({ kind: "held", id, token });
  }

  settle(id: string): void {
    this.#leases.delete(id);
    this.#tell({ kind: "settled", id });
  }

  #tell(change: LeaseChange): void {
    this.#thread.postMessage(change);
  }

  #start(): Worker {
    const thread = new Worker(new URL("./renewal.thread.js", import.meta.url), { workerData: this.#params });
    thread.on("message", (notice: RenewalNotice) => this.#report(notice));
    thread.on("error", (error) => this.#log.error({ err: error }, `renewing leases failed: ${messageOf(error)}`));
    thread.on("exit", () => {
      if (!this.#isClosed) setTimeout(() => this.#restart(), RESTART_MS);
    });
    return thread;
  }

  #restart(): void {
    if (this.#isClosed) return;
    this.#thread = this.#start();
    for (const [id, token] of this.#leases) this.#tell({ kind: "held", id, token });
  }

  #report(notice: RenewalNotice): void {
    if (notice.kind === "ready") return this.#isReady();
    const { kind, ...fields } = notice;
    if (kind === "silent") {
      this.#log.error(fields, "no sign of life from the device or the main thread: its leases are left to lapse");
      return;
    }
    this.#observe({ kind: "leases", outcome: kind, count: notice.count });
    if (kind === "lost") this.#log.warn(fields, "leases were lost; their results will still be committed if first");
    if (kind === "failed") this.#log.warn(fields, "leases could not be renewed");
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearInterval(this.#heartbeat);
    await this.#thread.terminate();
  }
}
