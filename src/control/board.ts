/** The raw queues, for whoever wants to see jobs: bull-board, reading only. */
import { createBullBoard } from "@bull-board/api";
import { BullMQAdapter } from "@bull-board/api/bullMQAdapter";
import { HonoAdapter } from "@bull-board/hono";
import { serveStatic } from "@hono/node-server/serve-static";
import type { Queue } from "bullmq";
import { Hono } from "hono";

export const QUEUES_PATH = "/queues";

export class Board {
  readonly app: Hono;
  readonly #add: (queue: BullMQAdapter) => void;

  constructor() {
    const server = new HonoAdapter(serveStatic);
    server.setBasePath(QUEUES_PATH);
    const board = createBullBoard({
      queues: [],
      serverAdapter: server,
      options: { uiConfig: { boardTitle: "embedfleet queues" } },
    });
    this.#add = board.addQueue;
    this.app = new Hono().route("/", server.registerPlugin());
  }

  /** Retrying or removing jobs behind the store's back helps nobody: `resume` and `cancel` do it right. */
  add(queue: Queue): void {
    this.#add(new BullMQAdapter(queue, { readOnlyMode: true, allowRetries: false }));
  }
}
