/** The raw queues for inspecting jobs: bull-board, read-only. */
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

  /** Read-only: retrying or removing jobs without updating the store is harmful; `resume` and `cancel` update both. */
  add(queue: Queue): void {
    this.#add(new BullMQAdapter(queue, { readOnlyMode: true, allowRetries: false }));
  }
}
