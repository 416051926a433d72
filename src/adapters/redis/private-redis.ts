/** A private redis-server for one command: on a socket in a private folder; it ends with the process, however that ends. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { childEnvironment } from "../../core/child-environment.ts";
import { FleetError, messageOf } from "../../core/errors.ts";
import { checkRedis } from "./connect.ts";

/** Exit code of a shell that does not find the program. */
const NOT_FOUND = 127;
const START_ATTEMPTS = 100;
const ATTEMPT_INTERVAL_MS = 50;
/**
 * Replaces the shell by the server, beside a watcher that ends it when this process is gone: descriptor 3 is a pipe
 * whose other end only this process has.
 */
const WITH_ITS_PARENT = '(read -r _; kill $$) <&3 2>/dev/null & exec redis-server "$@"';

export class PrivateRedis {
  readonly url: string;
  readonly #folder: string;
  readonly #process: ChildProcess;
  /** How the server ended; pending while it runs and after it is closed. */
  readonly lost: Promise<string>;
  #isClosing = false;

  private constructor(url: string, folder: string, child: ChildProcess) {
    this.url = url;
    this.#folder = folder;
    this.#process = child;
    this.lost = new Promise((resolve) => {
      child.once("exit", () => {
        if (!this.#isClosing) resolve(this.#howItEnded);
      });
    });
  }

  /** @throws FleetError `redis_unavailable` when there is no redis-server to start. */
  static async start(): Promise<PrivateRedis> {
    const folder = await mkdtemp(join(tmpdir(), "embedfleet-redis-"));
    const socket = join(folder, "redis.sock");
    // Nothing is persisted: the store is authoritative, and the run is repeated with the same id.
    const args = [
      "--port",
      "0",
      "--unixsocket",
      socket,
      "--dir",
      folder,
      "--save",
      "",
      "--appendonly",
      "no",
      "--maxmemory-policy",
      "noeviction",
    ];
    // Outside the terminal's process group: it outlives Ctrl-C until the processes that use it have ended.
    const child = spawn("sh", ["-c", WITH_ITS_PARENT, "sh", ...args], {
      env: childEnvironment(),
      stdio: ["ignore", "ignore", "ignore", "pipe"],
      detached: true,
    });
    const redis = new PrivateRedis(`unix://${socket}`, folder, child);
    try {
      await Promise.race([
        once(child, "spawn"),
        once(child, "error").then(([error]) => Promise.reject(error as Error)),
      ]);
      await redis.#untilReady();
      return redis;
    } catch (error) {
      await redis.close();
      throw new FleetError("redis_unavailable", `a private redis-server could not be started: ${messageOf(error)}`, {
        cure: "install it (Debian and Ubuntu: apt-get install redis-server), or pass --redis redis://host:port",
        cause: error,
      });
    }
  }

  async #untilReady(): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        await checkRedis(this.url, { allowVolatile: true });
        return;
      } catch (error) {
        if (this.#hasEnded) throw new Error(this.#howItEnded, { cause: error });
        if (attempt === START_ATTEMPTS) throw error;
        await new Promise((resolve) => setTimeout(resolve, ATTEMPT_INTERVAL_MS));
      }
    }
  }

  get #hasEnded(): boolean {
    return this.#process.exitCode !== null || this.#process.signalCode !== null;
  }

  get #howItEnded(): string {
    const { exitCode, signalCode } = this.#process;
    if (exitCode === NOT_FOUND) return "redis-server is not on the PATH";
    return `it ended with ${signalCode ?? `exit code ${exitCode}`}`;
  }

  async close(): Promise<void> {
    this.#isClosing = true;
    (this.#process.stdio[3] as Socket | null)?.destroy();
    if (this.#process.pid !== undefined && !this.#hasEnded) {
      this.#process.kill("SIGTERM");
      await once(this.#process, "exit");
    }
    await rm(this.#folder, { recursive: true, force: true });
  }
}
