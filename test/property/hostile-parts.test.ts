/**
 * Whoever can write to Redis, and to nothing else, can waste the work of those who share a corpus or end it with an error:
 * the plan is the one that is made without him, or there is none, and no file is opened but those that the corpus has.
 */
import { createHash } from "node:crypto";
import { mkdir, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, expect, test } from "vitest";
import { loadTokenizer } from "../../models/tokenizer/native.ts";
import { LocalChunker } from "../../producers/chunking/chunker.ts";
import { makePart } from "../../producers/parts/make-part.ts";
import { offerOf } from "../../producers/parts/part-job.ts";
import { produce } from "../../producers/plan-corpus.ts";
import { SharedReader } from "../../producers/parts/shared-reader.ts";
import { Corpus } from "../../producers/corpus.ts";
import { placeOpener } from "../../producers/parts/parts.ts";
import type { RunRecord } from "../../src/core/contracts.ts";
import { FleetError } from "../../src/core/errors.ts";
import { parsePartJob, type PartJob } from "../../src/core/ingest.ts";
import { unobserved } from "../../src/core/telemetry.ts";
import { MemoryParts, PartBoard } from "../fixtures/memory-parts.ts";
import { MemoryQueue } from "../fixtures/memory-queue.ts";
import { openMini } from "../fixtures/mini.ts";
import { runOptions } from "../fixtures/run-options.ts";
import { ScriptedStore } from "../fixtures/scripted-store.ts";

type Objects = Map<string, Uint8Array>;
type Payload = Record<string, unknown>;

const RUN = "r";
const SECRET = "what nobody may read";
const model = await openMini();
const tokenizer = await loadTokenizer(model.tokenizerPath);
const root = join(tmpdir(), `hostile-parts-${process.pid}`);
const folder = join(root, "corpus");
/** In the corpus's folder, or to be reached from there, and not of the corpus. */
const STRANGERS = ["private.key", ".hidden.jsonl", "link.jsonl", "../secret.jsonl"].map((name) => join(folder, name));

await mkdir(join(folder, "notes"), { recursive: true });
afterAll(() => rm(root, { recursive: true }));
const secret = `${JSON.stringify({ id: "secret", text: SECRET })}\n`;
for (const name of ["secret.jsonl", "corpus/private.key", "corpus/.hidden.jsonl"])
  await writeFile(join(root, name), secret);
await symlink(join(root, "secret.jsonl"), join(folder, "link.jsonl"));
const lines = (from: string, count: number): string =>
  Array.from({ length: count }, (_, i) => `${JSON.stringify({ id: `${from}${i}`, text: `${from} says ${i}` })}\n`).join(
    "",
  );
await writeFile(join(folder, "large.jsonl"), lines("large", 90));
await writeFile(join(folder, "other.jsonl"), lines("other", 40));
await writeFile(join(folder, "table.csv"), "id,text\nc1,first row\nc2,second row\n");
for (let note = 0; note < 9; note++) await writeFile(join(folder, "notes", `${note}.md`), `Note ${note}`);

const record: RunRecord = {
  version: 1,
  run: RUN,
  createdAt: "2026-01-01T00:00:00.000Z",
  inputs: [folder],
  options: runOptions({ model: model.ref, keepText: true }),
};
/** Its link leads to a stranger, so links are not followed. */
const corpusOf = (): Corpus => new Corpus({ inputs: record.inputs, ...record.options, noFollow: true });

// --- What he may do with a job that the lead adds --------------------------------------------------------------

/** Those that leave the lead's own jobs alone. */
const idle = ["nothing", "drop", "duplicate", "inject", "move"] as const;
const acts = [...idle, "fail", "swap", "rewrite", "widen", "replay", "garble"] as const;
type Act = (typeof acts)[number];
interface Step {
  readonly act: Act;
  /** Which stranger, or which of the jobs that he has seen. */
  readonly pick: number;
}

/** What Redis holds for a part is what its job was added with, until somebody writes something else. */
class HostileParts extends MemoryParts {
  readonly #steps: Step[];
  readonly #payloads: Map<string, unknown>;
  readonly #seen: PartJob[] = [];

  constructor(board: PartBoard, payloads: Map<string, unknown>, steps: readonly Step[]) {
    super(board);
    this.#payloads = payloads;
    this.#steps = [...steps];
  }

  override async add(job: PartJob): Promise<void> {
    this.#seen.push(job);
    const step = this.#steps.shift() ?? { act: "nothing", pick: 0 };
    this.#payloads.set(job.part, job);
    await super.add(job);
    this.#do(step, job);
    this.board.giveSoon();
  }

  #do({ act, pick }: Step, job: PartJob): void {
    const { waiting, failed } = this.board;
    const isOwn = ({ part }: PartJob): boolean => part === job.part;
    const other = this.#seen[pick % this.#seen.length]!;
    const stranger = strangerAt(pick);
    const forge = (change: Payload): void => void this.#payloads.set(job.part, { ...job, ...change });
    if (act === "drop" || act === "fail") waiting.splice(waiting.findIndex(isOwn), 1);
    if (act === "fail") failed.set(job.part, "so he says");
    if (act === "duplicate") waiting.push(job);
    if (act === "inject") for (const each of jobsFor(stranger)) this.#give(each);
    if (act === "move") this.#give({ ...job, part: job.part.replace(/^p\d+/, "p000099") });
    if (act === "swap") forge({ ...other, part: job.part });
    if (act === "rewrite") forge({ what: stranger });
    if (act === "widen") forge({ what: { ...stranger, range: { start: 0, end: 1 } } });
    if (act === "replay") forge({ run: "another" });
    if (act === "garble") this.#payloads.set(job.part, null);
  }

  #give(payload: PartJob): void {
    this.#payloads.set(payload.part, payload);
    this.board.waiting.push(payload);
  }
}

function strangerAt(pick: number): Payload {
  // The last two are of the corpus, and not what the part is.
  const paths = [...STRANGERS, join(folder, "other.jsonl"), join(folder, "notes", "3.md")];
  const path = paths[pick % paths.length]!;
  return { name: path, id: path, place: { kind: "file", path }, range: null, pin: null };
}

/** Jobs of his own, each under a name that fits what it says. */
function jobsFor(stranger: Payload): PartJob[] {
  const { job } = offerOf(stranger as unknown as Parameters<typeof offerOf>[0], RUN, 0);
  const digest = createHash("sha256").update(JSON.stringify(stranger)).digest("hex");
  const said = { ...job, part: `p000000-${digest}`, what: stranger };
  const short = { ...said, part: said.part.slice(0, 24) };
  return [job, said, short];
}

// --- A lead and a helper --------------------------------------------------------------------------------------

type Outcome = { readonly plan: [string, string][] } | { readonly error: FleetError };

async function share(objects: Objects, steps: readonly Step[]): Promise<Outcome & { readonly opened: Set<string> }> {
  const store = new ScriptedStore({ objects });
  const opened = new Set<string>();
  const chunker = new LocalChunker({ tokenizer, options: record.options });
  const opener = placeOpener(() => Promise.reject(new Error("no buckets here")));
  const open: typeof opener = (part) => {
    opened.add(part.place.kind === "file" ? part.place.path : "");
    return opener(part);
  };
  const tools = { store, record, chunker, open, observe: unobserved };
  const payloads = new Map<string, unknown>();
  const board = new PartBoard();
  const lead = new HostileParts(board, payloads, steps);
  const helper = new MemoryParts(board);
  for (const each of [lead, helper])
    await each.work({
      atOnce: 2,
      make: async ({ part }, signal) =>
        makePart(parsePartJob(payloads.get(part), { run: RUN, id: part }), tools, signal),
    });
  const reader = new SharedReader({ store, queue: lead, run: RUN, pollIntervalMs: 1 });
  const items = corpusOf().items(reader, { partBytes: 1024, partObjects: 4, pinsAll: true });
  try {
    await produce({ store, queue: new MemoryQueue(), record, maxRejects: null, chunker, items });
    return { plan: planOf(objects), opened };
  } catch (error) {
    if (!(error instanceof FleetError)) throw error;
    return { error, opened };
  } finally {
    await Promise.all([lead.drop(), helper.drop()]);
  }
}

function planOf(objects: Objects): [string, string][] {
  return [...objects]
    .filter(([key]) => !key.startsWith(`runs/${RUN}/parts/`))
    .map(([key, body]): [string, string] => [key, Buffer.from(body).toString("base64")])
    .toSorted(([a], [b]) => (a < b ? -1 : 1));
}

async function planAlone(): Promise<[string, string][]> {
  const objects: Objects = new Map();
  const store = new ScriptedStore({ objects });
  const items = corpusOf().items();
  await produce({ store, queue: new MemoryQueue(), record, maxRejects: null, tokenizer, items });
  return planOf(objects);
}

async function listed(): Promise<Set<string>> {
  const names = new Set<string>();
  for await (const each of corpusOf().objects()) if (each.kind === "object") names.add(each.object.name);
  return names;
}

const alone = await planAlone();
const own = await listed();
const steps = (from: readonly Act[]): fc.Arbitrary<Step[]> =>
  fc.array(fc.record({ act: fc.constantFrom(...from), pick: fc.nat({ max: 30 }) }), { maxLength: 12 });

function expectOwn(opened: ReadonlySet<string>, objects: Objects): void {
  expect([...opened].filter((path) => !own.has(path))).toEqual([]);
  expect([...objects].filter(([, body]) => Buffer.from(body).includes(SECRET)).map(([key]) => key)).toEqual([]);
}

test("whatever he does to the queue of parts, the plan is the same or there is an error, now and when it is continued", async () => {
  await fc.assert(
    fc.asyncProperty(steps(acts), async (script) => {
      const objects: Objects = new Map();
      const outcome = await share(objects, script);
      expectOwn(outcome.opened, objects);
      if ("plan" in outcome) expect(outcome.plan).toEqual(alone);
      else {
        expect(outcome.error.code).toBe("producer_failed");
        expect(await share(objects, [])).toMatchObject({ plan: alone });
      }
    }),
    { numRuns: 25 },
  );
});

test("jobs that are lost, doubled or added are only work", async () => {
  await fc.assert(
    fc.asyncProperty(steps(idle), async (script) => {
      const objects: Objects = new Map();
      const outcome = await share(objects, script);
      expectOwn(outcome.opened, objects);
      expect(outcome).toMatchObject({ plan: alone });
    }),
    { numRuns: 10 },
  );
});
