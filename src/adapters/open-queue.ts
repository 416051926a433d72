/** Creates the ports of a fleet's queues from a `--redis` address. Nothing else imports `adapters/redis`. */
import type { Queue } from "bullmq";
import { type Logger, pino } from "pino";
import type { PartQueue } from "../core/ingest.ts";
import type { ControlQueue, JobLeases, Presence, Turn } from "../core/ports.ts";
import type {
  LeasesParams,
  ModelQueue,
  QueueServer,
  QueueWatch,
  ShardQueue,
  StoreQueues,
} from "../core/queue-server.ts";
import { redactUrl } from "../core/redact-url.ts";
import type { Observe } from "../core/telemetry.ts";
import { optionsOfAddress } from "./redis/address.ts";
import { BullControlQueue } from "./redis/bull-control-queue.ts";
import { BullLeases } from "./redis/bull-leases.ts";
import { BullParts } from "./redis/bull-parts.ts";
import { BullQueue } from "./redis/bull-queue.ts";
import { checkRedis } from "./redis/connect.ts";
import { PrivateRedis } from "./redis/private-redis.ts";
import {
  controlQueueName,
  fleetInRedis,
  producersKey,
  queueName,
  queueNamePrefix,
  turnKey,
  workersKey,
} from "./redis/queue-options.ts";
import { RedisPresence } from "./redis/redis-presence.ts";
import { RedisTurn } from "./redis/redis-turn.ts";
import { RedisWatch } from "./redis/redis-watch.ts";

/** A fleet's queue server. */
export interface OpenQueueParams {
  /** `redis://…`, `rediss://…`, `redis+sentinel://…` or `unix://…`. */
  readonly url: string;
  /** Name of the fleet; fleets on one server are independent, and so are the stores of one fleet. */
  readonly fleet: string;
  /** No logging by default. */
  readonly log?: Logger;
  /** Aborts to stop waiting for the server: pending calls reject. */
  readonly giveUp?: AbortSignal | undefined;
  /** For read-only commands: nothing on the server changes, and damage is a fault instead of being repaired. */
  readonly readOnly?: boolean;
}

/** @throws FleetError `bad_usage` when it is not the address of a queue server. */
export function assertQueueUrl(url: string): void {
  optionsOfAddress(url);
}

/** All of a fleet's queue ports on one address. Each port connects when it is opened. */
export function openQueue(params: OpenQueueParams): QueueServer {
  const { url: redisUrl, log = pino({ level: "silent" }) } = params;
  return {
    address: redactUrl(redisUrl),
    check: (options) => checkRedis(redisUrl, options),
    watch: (observe?: Observe): QueueWatch => new RedisWatch({ redisUrl, log, ...(observe && { observe }) }),
    ofStore: (store) => storeQueues({ ...params, log, store }),
  };
}

type StoreQueueParams = OpenQueueParams & { readonly log: Logger; readonly store: string };

function storeQueues(params: StoreQueueParams): StoreQueues {
  const { url: redisUrl, log, giveUp, store } = params;
  const fleet = fleetInRedis(store, params.fleet);
  return {
    namePrefix: queueNamePrefix(params.fleet),
    ofModel: (model) => modelQueue(params, model),
    parts: ({ run, lockDurationMs }): PartQueue => new BullParts({ redisUrl, fleet, run, lockDurationMs, log }),
    control: (): ControlQueue => new BullControlQueue({ redisUrl, fleet, log }),
    controlTurn: (): Turn => new RedisTurn({ redisUrl, key: turnKey(controlQueueName(fleet)), giveUp }),
  };
}

function modelQueue(params: StoreQueueParams, model: string): ModelQueue {
  const { url: redisUrl, fleet, log, giveUp, readOnly = false, store } = params;
  const name = queueName(fleetInRedis(store, fleet), model);
  return {
    // The markers are in the store itself, and metrics and the API show one store: there the id would only be in the way.
    name: queueName(fleet, model),
    shards: (): ShardQueue => new BullQueue({ redisUrl, name, store, giveUp, readOnly }),
    leases: (params: LeasesParams): JobLeases =>
      new BullLeases({ redisUrl, name, store, log, ...params, ...(giveUp && { giveUp }) }),
    workers: (): Presence => new RedisPresence({ redisUrl, key: workersKey(name), giveUp, readOnly }),
    producers: (): Presence => new RedisPresence({ redisUrl, key: producersKey(name), giveUp, readOnly }),
    turn: (): Turn => new RedisTurn({ redisUrl, key: turnKey(name), giveUp }),
  };
}

/** BullMQ's own queue, for tools that display it; null where the port has another implementation. */
export function rawQueueOf(queue: ShardQueue): Queue | null {
  return queue instanceof BullQueue ? queue.raw : null;
}

/** A queue server that belongs to this process and ends with it. */
export interface PrivateQueueServer {
  readonly url: string;
  /** How the server ended; pending while it runs and after it is closed. */
  readonly lost: Promise<string>;
  close(): Promise<void>;
}

/** @throws FleetError `redis_unavailable` when there is no redis-server to start. */
export function startPrivateQueueServer(): Promise<PrivateQueueServer> {
  return PrivateRedis.start();
}
