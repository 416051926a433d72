/** Locks for tasks that one process of a fleet has to do: keys that expire. */
import { randomUUID } from "node:crypto";
import type { Redis } from "ioredis";
import type { HeldTurn, Turn } from "../../core/ports.ts";
import { connectRedis, type RedisKeyParams } from "./connect.ts";
import { type Ask, askingServer } from "./redis-faults.ts";
import { repeat } from "./repeat.ts";

/** Renewals per lock duration; two may fail before the lock expires. */
const RENEWALS_A_TURN = 3;

/** Scripts check the holder, because another process may have taken an expired lock. */
const RENEW = `if redis.call("GET", KEYS[1]) == ARGV[1] then return redis.call("PEXPIRE", KEYS[1], ARGV[2]) end`;
const RELEASE = `if redis.call("GET", KEYS[1]) == ARGV[1] then return redis.call("DEL", KEYS[1]) end`;

export class RedisTurn implements Turn {
  readonly #redis: Redis;
  readonly #key: string;
  readonly #ask: Ask;
  readonly #renewals = new Set<NodeJS.Timeout>();

  constructor(params: RedisKeyParams) {
    this.#redis = connectRedis(params.redisUrl, {}, params.giveUp);
    this.#key = params.key;
    this.#ask = askingServer(params.redisUrl);
  }

  async take(params: Readonly<{ durationMs: number }>): Promise<boolean> {
    const { durationMs } = params;
    const answer = await this.#ask("give a turn", () => this.#redis.set(this.#key, "taken", "PX", durationMs, "NX"));
    return answer === "OK";
  }

  async hold(params: Readonly<{ name: string; durationMs: number }>): Promise<HeldTurn | null> {
    const { durationMs } = params;
    const key = `${this.#key}:${params.name}`;
    const holder = randomUUID();
    const answer = await this.#ask("give a turn", () => this.#redis.set(key, holder, "PX", durationMs, "NX"));
    if (answer !== "OK") return null;
    const renew = (): Promise<unknown> => this.#redis.eval(RENEW, 1, key, holder, durationMs);
    const renewal = repeat(renew, Math.ceil(durationMs / RENEWALS_A_TURN));
    this.#renewals.add(renewal);
    return {
      release: async () => {
        this.#end(renewal);
        await this.#redis.eval(RELEASE, 1, key, holder).catch(() => {});
      },
    };
  }

  #end(renewal: NodeJS.Timeout): void {
    clearInterval(renewal);
    this.#renewals.delete(renewal);
  }

  async close(): Promise<void> {
    for (const renewal of this.#renewals) this.#end(renewal);
    this.#redis.disconnect();
  }
}
