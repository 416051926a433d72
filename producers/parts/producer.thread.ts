/** A thread that reads parts of a corpus, and tokenises and cuts texts with a tokenizer of its own. */
import { parentPort, workerData } from "node:worker_threads";
import { openTokenizer } from "../../models/tokenizer/open-tokenizer.ts";
import { batchPart } from "./batch-part.ts";
import { LocalChunker } from "../chunking/chunker.ts";
import { buffersOf } from "../chunking/row-columns.ts";
import type { PartBatch } from "./read-parts.ts";
import { Buckets } from "../sources/buckets.ts";
import { placeOpener } from "./parts.ts";
import {
  batchBuffers,
  packBatch,
  type ThreadReply,
  type ThreadRequest,
  type ThreadSetup,
  toMessage,
} from "./producer-messages.ts";

const port = parentPort!;
const { model, cutting, reading: options, s3 } = workerData as ThreadSetup;
const buckets = new Buckets(s3);
const open = placeOpener((name) => buckets.get(name));
const readings = new Map<number, AsyncGenerator<PartBatch>>();

function reply(message: ThreadReply, transfer: readonly ArrayBuffer[] = []): void {
  port.postMessage(message, transfer);
}

async function next(id: number, reading: number): Promise<void> {
  const batch = await readings.get(reading)!.next();
  if (batch.done === true) return reply({ kind: "batch", id, batch: null });
  const packed = packBatch(batch.value);
  reply({ kind: "batch", id, batch: packed }, batchBuffers(packed));
}

async function cut(chunker: LocalChunker, id: number, texts: readonly string[]): Promise<void> {
  const made = await chunker.cut(texts);
  reply({ kind: "cut", id, cut: made }, [made.counts.buffer as ArrayBuffer, ...buffersOf(made)]);
}

async function serve(chunker: LocalChunker, request: ThreadRequest): Promise<void> {
  if (request.kind === "read") {
    readings.set(request.reading, batchPart({ part: request.part, options, open }));
  } else if (request.kind === "close") {
    await readings.get(request.reading)?.return(undefined);
    readings.delete(request.reading);
  } else if (request.kind === "next") await next(request.id, request.reading);
  else await cut(chunker, request.id, request.texts);
}

try {
  const chunker = new LocalChunker({
    tokenizer: await openTokenizer(model, "passage", cutting.prompt ?? ""),
    options: cutting,
  });
  port.on("message", (request: ThreadRequest) => {
    serve(chunker, request).catch((error: unknown) =>
      reply({ kind: "failed", id: "id" in request ? request.id : null, fault: toMessage(error) }),
    );
  });
  reply({ kind: "ready" });
} catch (error) {
  reply({ kind: "failed", id: null, fault: toMessage(error) });
}
