/** A redis-server of our own for one command: on a socket in a private folder, gone with the process. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FleetError, messageOf } from "../../core/errors.ts";
import { checkRedis } from "./connect.ts";

const START_ATTEMPTS = 100;
const ATTEMPT_INTERVAL_MS = 50;

export class PrivateRedis {
  readonly url: string;
  readonly #folder: string;
  readonly #process: ChildProcess;

  private constructor(url: string, folder: string, child: ChildProcess) {
    this.url = url;
    this.#folder = folder;
    this.#process = child;
  }

  /** @throws FleetError `redis_unavailable` when there is no redis-server to start. */
  static async start(): Promise<PrivateRedis> {
    const folder = await mkdtemp(join(tmpdir(), "embedfleet-redis-"));
    const socket = join(folder, "redis.sock");
    // Nothing is persisted: the store has the truth, and the run is repeated with the same id.
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
    const child = spawn("redis-server", args, { stdio: "ignore", detached: false });
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
        if (attempt === START_ATTEMPTS || this.#process.exitCode !== null) throw error;
        await new Promise((resolve) => setTimeout(resolve, ATTEMPT_INTERVAL_MS));
      }
    }
  }

  async close(): Promise<void> {
    if (this.#process.pid !== undefined && this.#process.exitCode === null && this.#process.signalCode === null) {
      this.#process.kill("SIGTERM");
      await once(this.#process, "exit");
    }
    await rm(this.#folder, { recursive: true, force: true });
  }
}
