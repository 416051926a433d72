/** Control's HTTP side: health, metrics, the API, the dashboard and the raw queues. */
import { Hono } from "hono";
import { setCookie } from "hono/cookie";
import { HTTPException } from "hono/http-exception";
import { secureHeaders } from "hono/secure-headers";
import type { Logger } from "pino";
import { scheduleNameSchema } from "../core/schedule.ts";
import { runIdSchema } from "../core/contracts.ts";
import { type ErrorCode, FleetError, messageOf } from "../core/errors.ts";
import type { ObjectStore } from "../core/ports.ts";
import type { Schedules } from "../core/schedule-view.ts";
import { cancelRun } from "../run/cancel-run.ts";
import { acceptRun } from "../run/hold.ts";
import { readRejectsPage } from "../run/rejects-page.ts";
import { resumeRun } from "../run/reconcile.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { type Access, QUEUES_COOKIE } from "../telemetry/access.ts";
import { type Board, QUEUES_PATH } from "./board.ts";
import { serveDashboard } from "./dashboard.ts";
import { streamSnapshots } from "./events.ts";
import type { FleetWatch } from "./fleet-watch.ts";

export interface ControlParams {
  readonly store: ObjectStore;
  readonly watch: FleetWatch;
  readonly redisWatch: Readonly<{ silentMs: number }>;
  readonly schedules: Schedules | null;
  readonly metrics: Metrics;
  readonly access: Access;
  readonly board: Board;
  /** Milliseconds without a complete snapshot of store and queues after which `/healthz` fails. */
  readonly maxBlindMs: number;
  readonly log: Logger;
}

const SELF = ["'self'"];
/** No external and no inline resources: the page works offline and runs only its own code. */
const PAGE_POLICY = {
  defaultSrc: ["'none'"],
  scriptSrc: SELF,
  styleSrc: SELF,
  imgSrc: SELF,
  connectSrc: SELF,
  baseUri: ["'none'"],
  formAction: ["'none'"],
  frameAncestors: ["'none'"],
};
/** Policy for bull-board, which sets its own base and styles itself from its scripts. */
const QUEUES_POLICY = {
  ...PAGE_POLICY,
  styleSrc: ["'self'", "'unsafe-inline'"],
  imgSrc: ["'self'", "data:"],
  fontSrc: SELF,
  baseUri: SELF,
};

const headers = {
  // Control itself speaks plain HTTP; a TLS proxy in front of it sets this header.
  strictTransportSecurity: false,
  crossOriginOpenerPolicy: "same-origin",
  referrerPolicy: "no-referrer",
  xFrameOptions: "DENY",
};

export function controlApp(params: ControlParams): Hono {
  const { access, board, metrics, log } = params;
  // `/queues` and `/queues/` are the same page.
  const app = new Hono({ strict: false });
  app.use(access.checkHost);
  app.use(`${QUEUES_PATH}/*`, secureHeaders({ ...headers, contentSecurityPolicy: QUEUES_POLICY }));
  app.use(async (c, next) => {
    if (c.req.path.startsWith(QUEUES_PATH)) return next();
    return secureHeaders({ ...headers, contentSecurityPolicy: PAGE_POLICY })(c, next);
  });
  app.onError((error, c) => {
    if (error instanceof HTTPException) return error.getResponse();
    const status = statusOf(error);
    if (status === 500) log.error({ err: error, path: c.req.path }, "a request failed");
    const { code, cure } = error instanceof FleetError ? error : { code: "failed", cure: undefined };
    return c.json({ error: { code, message: messageOf(error), cure } }, status);
  });
  app.notFound((c) => c.json({ error: { code: "not_found", message: `${c.req.path} does not exist` } }, 404));

  // Public, so it names no run and no place; `/api/fleet` lists what could not be read.
  app.get("/healthz", (c) => {
    const { blindMs } = params.watch;
    const { silentMs } = params.redisWatch;
    const isRedisSilent = silentMs >= params.maxBlindMs;
    const isWell = !isRedisSilent && blindMs < params.maxBlindMs;
    const body = {
      status: isWell ? "ok" : isRedisSilent ? "Redis does not answer" : "no progress",
      blindSeconds: Math.round(blindMs / 1000),
      redisSilentSeconds: Math.round(silentMs / 1000),
    };
    return c.json(body, isWell ? 200 : 503);
  });
  app.get("/metrics", access.forReading, async (c) =>
    c.text(await metrics.text(), 200, { "content-type": metrics.registry.contentType }),
  );
  app.use("/api/*", access.forApi);
  app.route("/api", readApi(params));
  app.route("/api", actionApi(params));
  app.use(QUEUES_PATH, access.forQueues);
  app.use(`${QUEUES_PATH}/*`, access.forQueues);
  app.route(QUEUES_PATH, board.app);
  app.route("/", serveDashboard());
  return app;
}

function readApi({ watch, store }: ControlParams): Hono {
  const api = new Hono();
  api.use(async (c, next) => {
    c.header("cache-control", "no-store");
    return next();
  });
  api.get("/fleet", (c) => c.json(watch.snapshot));
  api.get("/samples", (c) => c.json(watch.samples));
  api.get("/events", (c) => streamSnapshots(c, watch));
  // The autoscaler's endpoint: KEDA's metrics-api scaler reads a number at a path.
  api.get("/backlog", (c) => {
    const wanted = c.req.query("queue");
    const queues = (watch.snapshot?.queues ?? []).filter(({ name }) => wanted === undefined || name === wanted);
    const jobs = queues.reduce((sum, { counts }) => sum + counts.waiting + counts.active, 0);
    return c.json({ jobs, tokens: queues.reduce((sum, { tokens }) => sum + tokens, 0) });
  });
  api.get("/runs/:run/rejects", async (c) => {
    const after = Number(c.req.query("after") ?? 0);
    const page = { store, run: runOf(c.req.param("run")), after: Number.isInteger(after) && after > 0 ? after : 0 };
    return c.json(await readRejectsPage(page));
  });
  return api;
}

function actionApi({ access, watch, store, schedules, log }: ControlParams): Hono {
  const api = new Hono();
  api.post("/session", (c) => {
    const options = { path: QUEUES_PATH, httpOnly: true, sameSite: "Strict" } as const;
    setCookie(c, QUEUES_COOKIE, access.queuesPass, options);
    return c.json({ ok: true });
  });
  api.post("/runs/:run/resume", async (c) => {
    const run = runOf(c.req.param("run"));
    const queue = await watch.queueOf(run);
    const outcome = await resumeRun({ store, queue: queue.jobs, fleet: queue.name, run });
    log.info({ run, ...outcome }, "the run was resumed from the dashboard");
    watch.renew(run);
    await watch.look();
    return c.json(outcome);
  });
  api.post("/runs/:run/accept", async (c) => {
    const run = runOf(c.req.param("run"));
    const hold = await acceptRun(store, run);
    log.info({ run, ...hold }, "the run was accepted from the dashboard");
    watch.renew(run);
    await watch.look();
    return c.json({ accepted: hold !== null });
  });
  api.post("/runs/:run/cancel", async (c) => {
    const run = runOf(c.req.param("run"));
    const queue = await watch.queueOf(run);
    const outcome = await cancelRun({ store, queue: queue.jobs, fleet: queue.name, run });
    log.info({ run, ...outcome }, "the run was cancelled from the dashboard");
    watch.renew(run);
    await watch.look();
    return c.json(outcome);
  });
  api.post("/schedules/:name/trigger", async (c) => {
    const name = scheduleOf(c.req.param("name"));
    if (schedules === null) throw new FleetError("bad_usage", "this control process hosts no schedules");
    const outcome = await schedules.trigger({ name });
    log.info({ schedule: name, ...outcome }, "the schedule was triggered from the dashboard");
    return c.json(outcome);
  });
  return api;
}

function runOf(text: string): string {
  const parsed = runIdSchema.safeParse(text);
  if (parsed.success) return parsed.data;
  throw new FleetError("bad_usage", `${JSON.stringify(text)} is not a run id`);
}

function scheduleOf(text: string): string {
  const parsed = scheduleNameSchema.safeParse(text);
  if (parsed.success) return parsed.data;
  throw new FleetError("bad_usage", `${JSON.stringify(text)} is not a schedule's name`);
}

const STATUS: Partial<Record<ErrorCode, 400 | 404 | 409 | 503>> = {
  bad_usage: 400,
  run_unknown: 404,
  run_conflict: 409,
  run_cancelled: 409,
  run_incomplete: 409,
  object_corrupt: 409,
  schedule_unknown: 404,
  schedule_refused: 409,
  store_unavailable: 503,
  redis_unavailable: 503,
};

function statusOf(error: unknown): 400 | 404 | 409 | 500 | 503 {
  return error instanceof FleetError ? (STATUS[error.code] ?? 500) : 500;
}
