/** The simulation's ports by themselves, for the conformance suites: every call is stepped until it is answered. */
import type { FullQueue, QueueGround } from "../conformance/job-queue.suite.ts";
import type { TurnGround } from "../conformance/turn.suite.ts";
import { Actor, Scheduler } from "./scheduler.ts";
import { SimRedis } from "./sim-redis.ts";

/** Nobody is killed, nothing fails, and what is picked is the first. */
function calm(): { redis: SimRedis; stepped: <Port extends object>(port: Port) => Port } {
  const scheduler = new Scheduler(() => 0.999_999);
  const stepped = <Port extends object>(port: Port): Port =>
    new Proxy(port, {
      get: (target, name) => {
        const act: unknown = Reflect.get(target, name);
        if (typeof act !== "function") return act;
        return (...args: unknown[]): unknown => {
          const answer: unknown = Reflect.apply(act, target, args);
          void scheduler.run(() => {});
          return answer;
        };
      },
    });
  return { redis: new SimRedis(scheduler), stepped };
}

export function simulatedQueue(): QueueGround {
  const { redis, stepped } = calm();
  return {
    queue: (): FullQueue => stepped(redis.queueFor(new Actor())),
    leases: () => stepped(redis.leasesFor(new Actor())),
  };
}

export function simulatedTurns(): TurnGround {
  const { redis, stepped } = calm();
  return {
    open: () => {
      const turn = redis.turnFor(new Actor());
      return stepped({
        ...turn,
        hold: async (params: Parameters<typeof turn.hold>[0]) => {
          const held = await turn.hold(params);
          return held === null ? null : stepped(held);
        },
      });
    },
    pass: async (ms) => redis.pass(ms),
    forget: async (name) => redis.turns.forget(name),
  };
}
