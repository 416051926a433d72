/**
 * The model in a process of its own, on the CPU, for rows that may crash the runtime. The cost, a
 * second copy of the weights and copies between processes, is paid only while it is needed.
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { type BatchReport, copyRow, type RowRef, wantedHeads } from "../../src/core/batch.ts";
import { childEnvironment } from "../../src/core/child-environment.ts";
import { FleetError, fromFaultFields } from "../../src/core/errors.ts";
import type { Embedder } from "../../src/core/ports.ts";
import { sessionParams } from "./thread-embedder.ts";
import type { Model } from "../registry/open-model.ts";
import type { SandboxReply, SandboxRequest } from "./sandbox.process.ts";
import type { SessionParams } from "./session-params.ts";

const PROCESS = fileURLToPath(new URL("./sandbox.process.js", import.meta.url));
export class SandboxEmbedder implements Embedder {
  readonly device = "cpu";
  readonly #session: SessionParams;
  readonly #maxBatchMs: number;
  #child: ChildProcess | null = null;
  /** One batch at a time, because a reply does not name its request. */
  #turn: Promise<unknown> = Promise.resolve();

  /** @param params.maxBatchMs Time after which a batch counts as hung, which is treated like a crash. */
  constructor(params: Readonly<{ model: Model; threads: number; maxBatchMs: number }>) {
    this.#maxBatchMs = params.maxBatchMs;
    this.#session = sessionParams(params);
  }

  paddedLength(longest: number): number {
    return longest;
  }

  /**
   * Computes rows in the sandbox. After a crash the next call starts a new process.
   * @throws FleetError `inference_crashed` when the process died or hung; `worker_failed` when it was told to stop;
   * `inference_failed`, `model_invalid`.
   */
  embed(params: Readonly<{ rows: readonly RowRef[] }>): Promise<BatchReport> {
    const report = this.#turn.then(() => this.#embed(params.rows));
    this.#turn = report.catch(() => {});
    return report;
  }

  async #embed(rows: readonly RowRef[]): Promise<BatchReport> {
    const child = await this.#ready();
    const ids = rows.map(({ shard, row }) => shard.ids.slice(shard.offsets[row], shard.offsets[row + 1]));
    const request: SandboxRequest = { kind: "embed", heads: wantedHeads(rows), dim: rows[0]!.shard.dim, ids };
    const reply = await this.#ask(child, request);
    if (reply.kind !== "done") throw toError(reply);
    rows.forEach((row, index) => copyRow({ shard: reply.shard, row: index }, row));
    return reply.report;
  }

  async #ready(): Promise<ChildProcess> {
    if (this.#child !== null) return this.#child;
    const child = fork(PROCESS, {
      env: childEnvironment(),
      serialization: "advanced",
      stdio: ["ignore", "ignore", "inherit", "ipc"],
    });
    this.#child = child;
    child.once("exit", () => (this.#child = null));
    const reply = await this.#ask(child, { kind: "open", session: this.#session });
    if (reply.kind === "ready") return child;
    await this.close();
    throw toError(reply);
  }

  async #ask(child: ChildProcess, request: SandboxRequest): Promise<SandboxReply> {
    const timer = setTimeout(() => child.kill("SIGKILL"), this.#maxBatchMs);
    let died: (code: number | null, signal: NodeJS.Signals | null) => void = () => {};
    try {
      return await new Promise<SandboxReply>((resolve, reject) => {
        child.once("message", (message) => resolve(message as SandboxReply));
        died = (code, signal) => reject(crash(signal ?? `exit code ${code}`));
        child.once("exit", died);
        // The exit event reports a process that died.
        child.send(request, () => {});
      });
    } finally {
      clearTimeout(timer);
      child.off("exit", died);
      child.removeAllListeners("message");
    }
  }

  async close(): Promise<void> {
    const child = this.#child;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, "exit");
    child.kill("SIGKILL");
    await exited;
  }
}

/** A row cannot cause these signals: Ctrl-C and SIGTERM reach every process of a job, and the rows are innocent. */
const STOPS = ["SIGINT", "SIGTERM"];

function crash(how: string): FleetError {
  if (STOPS.includes(how)) return new FleetError("worker_failed", `the sandbox of the model was stopped by ${how}`);
  return new FleetError("inference_crashed", `the sandbox of the model ended with ${how}`);
}

function toError(reply: SandboxReply): FleetError {
  if (reply.kind !== "failed") return new FleetError("inference_failed", `the sandbox answered ${reply.kind}`);
  return fromFaultFields(reply.fault);
}
