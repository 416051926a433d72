/** The thread that scatters a batch's outputs to their rows while the session computes the next one. */
import { parentPort, workerData } from "node:worker_threads";
import { Scatterer } from "./scatter.ts";
import { type ComputedBatch, failureOf, rowsOf, type ScatterThreadData, type ThreadReply } from "./session-messages.ts";

const { manifest, fromInference } = workerData as ScatterThreadData;
const scatterer = new Scatterer(manifest);

function scatter({ request, report, outputs }: ComputedBatch): ThreadReply {
  try {
    scatterer.scatter(rowsOf(request), outputs);
    return { kind: "done", id: request.id, report };
  } catch (error) {
    return failureOf(request.id, error);
  }
}

fromInference.on("message", (batch: ComputedBatch) => {
  const reply = scatter(batch);
  fromInference.postMessage(batch.slot);
  parentPort!.postMessage(reply);
});
