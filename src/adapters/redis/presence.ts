/** Who is at work: names that announce themselves and fade away when their process dies. */
import type { Redis } from "ioredis";
import { connectRedis } from "./connect.ts";

const LIFETIME_MS = 15_000;
const ANNOUNCE_INTERVAL_MS = 5_000;

export class Presence {
  readonly #redis: Redis;
  readonly #key: string;
  readonly #announced = new Map<string, NodeJS.Timeout>();

  constructor(params: Readonly<{ redisUrl: string; key: string }>) {
    this.#redis = connectRedis(params.redisUrl);
    // ioredis reconnects by itself; without a listener it would print to the console.
    this.#redis.on("error", () => {});
    this.#key = params.key;
  }

  async announce(name: string): Promise<void> {
    const tell = async (): Promise<void> => {
      await this.#redis.zadd(this.#key, Date.now() + LIFETIME_MS, name);
    };
    this.#announced.set(
      name,
      setInterval(() => void tell().catch(() => {}), ANNOUNCE_INTERVAL_MS),
    );
    await tell();
  }

  async withdraw(name: string): Promise<void> {
    clearInterval(this.#announced.get(name));
    this.#announced.delete(name);
    await this.#redis.zrem(this.#key, name);
  }

  async present(): Promise<string[]> {
    await this.#redis.zremrangebyscore(this.#key, "-inf", String(Date.now()));
    return this.#redis.zrange(this.#key, "0", "-1");
  }

  async close(): Promise<void> {
    for (const name of this.#announced.keys()) await this.withdraw(name);
    this.#redis.disconnect();
  }
}
