/** The thread that owns the session; `session.run` blocks its caller, so no other thread calls it. */
import { parentPort, workerData } from "node:worker_threads";
import { OutputSlots } from "./output-slots.ts";
import { ModelSession } from "./session.ts";
import {
  type BatchRequest,
  type ComputedBatch,
  failureOf,
  type InferenceThreadData,
  rowsOf,
  type ThreadReply,
} from "./session-messages.ts";

const port = parentPort!;
const { session: params, toScatter } = workerData as InferenceThreadData;
const slots = new OutputSlots();
toScatter.on("message", (slot: number) => slots.free(slot));

function reply(message: ThreadReply): void {
  port.postMessage(message);
}

async function serve(session: ModelSession, request: BatchRequest): Promise<void> {
  try {
    const { report, outputs, release } = await session.compute(rowsOf(request));
    const filled = await slots.fill(outputs).finally(release);
    toScatter.postMessage({ request, report, ...filled } satisfies ComputedBatch);
  } catch (error) {
    reply(failureOf(request.id, error));
  }
}

try {
  const session = await ModelSession.open(params);
  // Requests run one at a time and in order: a session computes one batch at a time anyway.
  let turn = Promise.resolve();
  port.on("message", (request: BatchRequest) => {
    turn = turn.then(() => serve(session, request));
  });
  reply({ kind: "ready", notes: session.notes });
} catch (error) {
  reply(failureOf(null, error));
}
