/** Whose turn it is to do what one of a fleet has to do: a key that fades away. */
import type { Redis } from "ioredis";
import type { Turn } from "../../core/ports.ts";
import { connectRedis, type RedisKeyParams } from "./connect.ts";

export class RedisTurn implements Turn {
  readonly #redis: Redis;
  readonly #key: string;

  constructor(params: RedisKeyParams) {
    this.#redis = connectRedis(params.redisUrl, {}, params.giveUp);
    // ioredis reconnects by itself; without a listener it would print to the console.
    this.#redis.on("error", () => {});
    this.#key = params.key;
  }

  async take(params: Readonly<{ durationMs: number }>): Promise<boolean> {
    return (await this.#redis.set(this.#key, "taken", "PX", params.durationMs, "NX")) === "OK";
  }

  async close(): Promise<void> {
    this.#redis.disconnect();
  }
}
