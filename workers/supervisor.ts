/**
 * Keeps a number of worker processes alive: one that crashes is started again, later each time. One that says that it
 * would only end again is not: with wrong weights, a wrong store or a full disk it would take jobs and spoil time.
 */
import { type ChildProcess, type Serializable, spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import { FleetError } from "../src/core/errors.ts";

/** It doubles with each crash in a row. */
const FIRST_RESTART_MS = 500;
/** A worker that fails this often in a row will not mend by itself. */
const MAX_CRASHES_IN_A_ROW = 5;
/** One that lived this long is not counted as crashing in a row. */
const STABLE_AFTER_MS = 60_000;
/** With what a command ends that was asked for in a way that cannot work, however often it is tried. */
const EXIT_USAGE = 2;
/** What a child tells its supervisor before it ends for a reason that a restart would not mend. */
const STAY_DOWN = "stay-down";

/** To be said by a worker's process before it ends. Nobody hears it where nobody supervises. */
export function tellStayDown(): void {
  process.send?.(STAY_DOWN, undefined, undefined, () => {});
}

export interface SupervisorParams {
  /** For each worker, arguments for this Node.js: a script and what it is given. */
  readonly argvs: readonly string[][];
  /** For each worker, what it is sent when it has started: what a command line would show to everybody, too. */
  readonly messages?: readonly Serializable[];
  readonly env: NodeJS.ProcessEnv;
  readonly log: Logger;
  /** Pause after a first crash. */
  readonly firstRestartMs?: number;
}

export class Supervisor {
  readonly #params: SupervisorParams;
  readonly #children = new Set<ChildProcess>();
  readonly #lives: Promise<void>[] = [];
  readonly #stopping = new AbortController();

  constructor(params: SupervisorParams) {
    this.#params = params;
  }

  start(): void {
    this.#params.argvs.forEach((argv, i) => this.#lives.push(this.#keepAlive(i, argv)));
    // A rejection is seen by whoever awaits `ended`; until then it is not unhandled.
    for (const life of this.#lives) life.catch(() => {});
  }

  /** Rejects when a worker cannot be kept alive; resolves when all have ended. */
  async ended(): Promise<void> {
    await Promise.all(this.#lives);
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    for (const child of this.#children) child.kill("SIGTERM");
    await Promise.allSettled(this.#lives);
  }

  async #keepAlive(index: number, argv: readonly string[]): Promise<void> {
    const { env, log, messages, firstRestartMs = FIRST_RESTART_MS } = this.#params;
    const { signal: stopping } = this.#stopping;
    let crashes = 0;
    while (!stopping.aborted) {
      const startedMs = Date.now();
      const child = spawn(process.execPath, argv, { env, stdio: ["ignore", "inherit", "inherit", "ipc"] });
      this.#children.add(child);
      // One that ended before it heard it is told of by its exit.
      if (messages?.[index] !== undefined) child.send(messages[index], () => {});
      let staysDown = false;
      child.on("message", (message) => (staysDown ||= message === STAY_DOWN));
      const [code, signal] = (await once(child, "exit")) as [number | null, NodeJS.Signals | null];
      this.#children.delete(child);
      // What it said last may be read after its end.
      if (child.connected) await once(child, "disconnect");
      if (code === 0 || stopping.aborted) return;
      crashes = Date.now() - startedMs > STABLE_AFTER_MS ? 1 : crashes + 1;
      const how = signal === null ? `exit code ${code}` : signal;
      if (staysDown || code === EXIT_USAGE || crashes === MAX_CRASHES_IN_A_ROW) {
        const often = crashes === 1 ? "" : ` ${crashes} times in a row, last`;
        throw new FleetError("worker_failed", `worker ${index} ended${often} with ${how}`, {
          cure: "its last lines above say why: fix that, then start the workers again",
        });
      }
      const pauseMs = firstRestartMs * 2 ** (crashes - 1);
      log.warn({ worker: index, how, pauseMs }, "a worker crashed and is started again");
      await sleep(pauseMs, undefined, { signal: stopping }).catch(() => {});
    }
  }
}
