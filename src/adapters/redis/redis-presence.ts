/** `Presence` on Redis: keys that expire, and a set of their names. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Redis } from "ioredis";
import type { Presence } from "../../core/ports.ts";
import { connectRedis, type RedisKeyParams } from "./connect.ts";
import { type Ask, askingServer } from "./redis-faults.ts";
import { repeat } from "./repeat.ts";

const LIFETIME_MS = 15_000;
const ANNOUNCE_INTERVAL_MS = 5_000;
/** Longest wait in milliseconds for a withdrawal; a name that is not withdrawn expires by itself. */
const WITHDRAW_PATIENCE_MS = 2_000;

export class RedisPresence implements Presence {
  readonly #redis: Redis;
  readonly #key: string;
  readonly #ask: Ask;
  readonly #announced = new Map<string, NodeJS.Timeout>();

  readonly #readOnly: boolean;

  /** @param params.readOnly For read-only commands: expired names stay in Redis for others to remove. */
  constructor(params: RedisKeyParams & Readonly<{ readOnly?: boolean }>) {
    this.#readOnly = params.readOnly ?? false;
    this.#redis = connectRedis(params.redisUrl, {}, params.giveUp);
    this.#key = params.key;
    this.#ask = askingServer(params.redisUrl);
  }

  async announce(name: string, describe: () => unknown = () => null): Promise<void> {
    // Redis's clock decides which names have expired: those of the machines may differ.
    const tell = async (): Promise<void> => {
      await this.#redis.set(this.#stateKey(name), JSON.stringify(describe()), "PX", LIFETIME_MS);
      await this.#redis.zadd(this.#key, 0, name);
    };
    this.#announced.set(name, repeat(tell, ANNOUNCE_INTERVAL_MS));
    await this.#ask("announce a process", tell);
  }

  async withdraw(name: string): Promise<void> {
    clearInterval(this.#announced.get(name));
    this.#announced.delete(name);
    const gone = this.#redis.zrem(this.#key, name).then(() => this.#redis.del(this.#stateKey(name)));
    const patience = sleep(WITHDRAW_PATIENCE_MS, undefined, { ref: false });
    await this.#ask("withdraw a process", () => Promise.race([gone, patience]));
  }

  async present(): Promise<string[]> {
    return [...(await this.states()).keys()];
  }

  states(): Promise<Map<string, unknown>> {
    return this.#ask("list processes", () => this.#states());
  }

  async #states(): Promise<Map<string, unknown>> {
    const names = await this.#redis.zrange(this.#key, "0", "-1");
    if (names.length === 0) return new Map();
    const states = await this.#redis.mget(names.map((name) => this.#stateKey(name)));
    const gone = names.filter((_, i) => states[i] === null);
    if (gone.length > 0 && !this.#readOnly) await this.#redis.zrem(this.#key, ...gone);
    return new Map(names.flatMap((name, i) => (states[i] == null ? [] : [[name, parse(states[i])]])));
  }

  #stateKey(name: string): string {
    return `${this.#key}:${name}`;
  }

  async close(): Promise<void> {
    // A name that cannot be withdrawn expires by itself.
    for (const name of this.#announced.keys()) await this.withdraw(name).catch(() => {});
    this.#redis.disconnect();
  }
}

function parse(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    return null;
  }
}
