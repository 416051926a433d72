/**
 * Keeps a number of worker processes alive: a crashed one is restarted, with growing delays. One that reports that it
 * would fail again is not: with wrong weights, a wrong store or a full disk it would take jobs and fail.
 */
import { type ChildProcess, type Serializable, spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import { type FaultFields, FleetError, fromFaultFields, toFaultFields } from "../src/core/errors.ts";

/** Delay before the first restart; it doubles with each consecutive crash. */
const FIRST_RESTART_MS = 500;
/** Number of consecutive crashes after which a worker is not restarted. */
const MAX_CRASHES_IN_A_ROW = 5;
/** A process that ran this long resets the count of consecutive crashes. */
const STABLE_AFTER_MS = 60_000;
/** Exit code of a command with invalid arguments, which would always fail. */
const EXIT_USAGE = 2;
/** Message of a child to its supervisor. */
type Told =
  /** It has opened its model and takes jobs. */
  | Readonly<{ kind: "ready" }>
  /** It exits for a reason that a restart would not fix; null where it has printed the reason itself. */
  | Readonly<{ kind: "stay-down"; fault: FaultFields | null }>;

function tell(message: Told): void {
  process.send?.(message, undefined, undefined, () => {});
}

/** Sent by a worker's process that takes jobs. Ignored without a supervisor. */
export function tellReady(): void {
  tell({ kind: "ready" });
}

/**
 * Sent by a worker's process before it exits. Ignored without a supervisor.
 * @param fault For the supervisor to report instead of the process: several workers would say the same.
 */
export function tellStayDown(fault: FleetError | null = null): void {
  tell({ kind: "stay-down", fault: fault && toFaultFields(fault) });
}

export interface SupervisorParams {
  /** Arguments of Node.js for each worker: a script and its arguments. */
  readonly argvs: readonly string[][];
  /** Message for each worker after its start, with settings that a command line would expose. */
  readonly messages?: readonly Serializable[];
  readonly env: NodeJS.ProcessEnv;
  readonly log: Logger;
  /** Delay before the restart after a first crash. */
  readonly firstRestartMs?: number;
}

export class Supervisor {
  readonly #params: SupervisorParams;
  readonly #children = new Set<ChildProcess>();
  readonly #lives: Promise<void>[] = [];
  readonly #stopping = new AbortController();
  readonly #ready: Promise<void>;
  #tellReady: () => void = () => {};

  constructor(params: SupervisorParams) {
    this.#params = params;
    this.#ready = new Promise((resolve) => (this.#tellReady = resolve));
  }

  start(): void {
    this.#params.argvs.forEach((argv, i) => this.#lives.push(this.#keepAlive(i, argv)));
    // A rejection reaches whoever awaits `ended`; until then it must not count as unhandled.
    for (const life of this.#lives) life.catch(() => {});
  }

  /** Resolves when the first worker takes jobs; see `ended` for one that cannot. */
  async ready(): Promise<void> {
    await this.#ready;
  }

  /** Rejects when a worker cannot be kept alive; resolves when all have exited. */
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
      // The exit event covers a process that exited before it received the message.
      if (messages?.[index] !== undefined) child.send(messages[index], () => {});
      let down: Extract<Told, { kind: "stay-down" }> | null = null;
      child.on("message", (message: Told) => {
        if (message.kind === "ready") this.#tellReady();
        else down ??= message;
      });
      const [code, signal] = (await once(child, "exit")) as [number | null, NodeJS.Signals | null];
      this.#children.delete(child);
      // Its last message may arrive after its exit.
      if (child.connected) await once(child, "disconnect");
      if (code === 0 || stopping.aborted) return;
      crashes = Date.now() - startedMs > STABLE_AFTER_MS ? 1 : crashes + 1;
      const how = signal === null ? `exit code ${code}` : signal;
      const { fault = null } = (down as Extract<Told, { kind: "stay-down" }> | null) ?? {};
      if (fault !== null) throw fromFaultFields(fault);
      if (down !== null || code === EXIT_USAGE || crashes === MAX_CRASHES_IN_A_ROW) {
        const often = crashes === 1 ? "" : ` ${crashes} times in a row, last`;
        throw new FleetError("worker_failed", `worker ${index} ended${often} with ${how}`, {
          cure: "fix the cause given in its last lines above, then start the workers again",
        });
      }
      const pauseMs = firstRestartMs * 2 ** (crashes - 1);
      log.warn({ worker: index, how, pauseMs }, "a worker crashed and is being restarted");
      await sleep(pauseMs, undefined, { signal: stopping }).catch(() => {});
    }
  }
}
