/** Which runs a fleet is at work on, kept in Redis beside the queue, and lost together with it. */
import type { Redis } from "ioredis";
import type { RunRegistry } from "../../core/ports.ts";
import { connectRedis } from "./connect.ts";

export class FleetRuns implements RunRegistry {
  readonly #redis: Redis;
  readonly #key: string;

  constructor(params: Readonly<{ redisUrl: string; key: string }>) {
    this.#redis = connectRedis(params.redisUrl);
    // ioredis reconnects by itself; without a listener it would print to the console.
    this.#redis.on("error", () => {});
    this.#key = params.key;
  }

  async add(params: Readonly<{ runs: readonly string[] }>): Promise<void> {
    if (params.runs.length > 0) await this.#redis.sadd(this.#key, ...params.runs);
  }

  async remove(params: Readonly<{ run: string }>): Promise<void> {
    await this.#redis.srem(this.#key, params.run);
  }

  list(): Promise<string[]> {
    return this.#redis.smembers(this.#key);
  }

  async takeTurn(params: Readonly<{ durationMs: number }>): Promise<boolean> {
    return (await this.#redis.set(`${this.#key}:turn`, "taken", "PX", params.durationMs, "NX")) === "OK";
  }

  async close(): Promise<void> {
    this.#redis.disconnect();
  }
}
