/** Two commands with one run id and different options, in every order: what is planned is of one of them, and the record says which. */
import { expect, test } from "vitest";
import { produce } from "../../producers/plan-corpus.ts";
import { type RunOptions, runRecordSchema } from "../../src/core/contracts.ts";
import type { SourceItem } from "../../src/core/documents.ts";
import { hasCode, isPassing } from "../../src/core/errors.ts";
import { runKeys, windowId } from "../../src/core/layout.ts";
import type { WindowLimits } from "../../src/core/planning.ts";
import type { ObjectStore } from "../../src/core/ports.ts";
import { openRun } from "../../src/run/open-run.ts";
import { randomOf } from "../fixtures/made-corpus.ts";
import { MemoryQueue } from "../fixtures/memory-queue.ts";
import { runOptions } from "../fixtures/run-options.ts";
import { Actor, Scheduler } from "./scheduler.ts";
import { SimStore } from "./sim-store.ts";
import { simTokenizer, TOKENS } from "./sim-tokenizer.ts";
import { SIM_MODEL } from "./sim-worker.ts";

const SEEDS = 300;
const WINDOWS = 2;
const keys = runKeys("r");
/** The text of a row is staged with it, or is not: a plan shows by its digests which options it is of. */
const CHOICES = [false, true].map((keepText) => runOptions({ model: SIM_MODEL, maxTokens: 8192, keepText }));
const limitsOf = (): WindowLimits => ({ tokens: 2 * TOKENS, rows: 9, documents: 9, textChars: 999 });

async function* corpus(): AsyncGenerator<SourceItem> {
  for (let line = 1; line <= 2 * WINDOWS; line++)
    yield { kind: "document", document: { id: `d${line}`, text: `text ${line}`, origin: { file: "c", line } } };
}

type Ended = "planned" | "refused";

/** The command, and the same again while the store is away. */
async function enqueue(store: ObjectStore, options: RunOptions, isCareless: boolean): Promise<Ended> {
  for (;;) {
    try {
      const { record: opened } = await openRun(store, { run: "r", inputs: ["c"], options, settlesLater: true });
      const { unplanned: _unplanned, ...unsettled } = opened;
      const record = isCareless ? unsettled : opened;
      await produce({
        store,
        queue: new MemoryQueue(),
        tokenizer: simTokenizer,
        record,
        items: corpus(),
        maxRejects: null,
        limitsOf,
      });
      return "planned";
    } catch (error) {
      if (hasCode(error, "run_conflict")) return "refused";
      if (!isPassing(error)) throw error;
    }
  }
}

/** Plans as bytes, of the windows that there are. */
function plansIn(store: SimStore): string[] {
  const bodies = Array.from({ length: WINDOWS }, (_, index) => store.objects.get(keys.plan(windowId(index))));
  return bodies.filter((body) => body !== undefined).map((body) => Buffer.from(body).toString());
}

async function play(
  params: Readonly<{ seed: number; commands: readonly RunOptions[]; isCareless?: boolean; isCalm?: boolean }>,
): Promise<{ store: SimStore; ended: Ended[] }> {
  const { seed, commands, isCareless = false, isCalm = false } = params;
  const scheduler = new Scheduler(randomOf(seed));
  const store = new SimStore(scheduler, {}, () => {});
  if (!isCalm) scheduler.killShare = store.faultShare = 0.02;
  const ended: Ended[] = [];
  const faults: unknown[] = [];
  for (const options of commands)
    void enqueue(store.seenBy(new Actor()), options, isCareless).then(
      (how) => ended.push(how),
      (error: unknown) => faults.push(error),
    );
  await scheduler.run(() => {});
  expect(faults).toEqual([]);
  return { store, ended };
}

const wanted = await Promise.all(
  CHOICES.map(async (options) => plansIn((await play({ seed: 1, commands: [options], isCalm: true })).store)),
);

/** What is wrong with what the commands left behind; null when it is one run. */
function mixtureIn(store: SimStore): string | null {
  const plans = plansIn(store);
  if (plans.length === 0) return null;
  const record = runRecordSchema.parse(JSON.parse(Buffer.from(store.objects.get(keys.record)!).toString()));
  const own = wanted[record.options.keepText ? 1 : 0]!;
  if (plans.some((plan, index) => plan !== own[index])) return "windows of other options than the record's";
  return record.unplanned === undefined ? null : "windows of a run that may be begun anew";
}

test("the plans of both commands differ", () => {
  expect(wanted.map((plans) => plans.length)).toEqual([WINDOWS, WINDOWS]);
  expect(wanted[0]).not.toEqual(wanted[1]);
});

test("two commands plan one run, whoever of them dies, and one of two that live wins", async () => {
  const winners = new Set<boolean>();
  for (let seed = 1; seed <= SEEDS; seed++) {
    const isCalm = seed % 2 === 0;
    const { store, ended } = await play({ seed, commands: CHOICES, isCalm });
    expect([seed, mixtureIn(store)]).toEqual([seed, null]);
    if (!isCalm) continue;
    expect([seed, ended.toSorted()]).toEqual([seed, ["planned", "refused"]]);
    winners.add(plansIn(store)[0] === wanted[0]![0]);
  }
  expect(winners.size).toBe(2);
});

test("a command that does not fix the run before it plans is seen", async () => {
  const seen = new Set<string | null>();
  for (let seed = 1; seed <= SEEDS && seen.size < 2; seed++)
    seen.add(mixtureIn((await play({ seed, commands: CHOICES, isCareless: true })).store));
  expect([...seen].filter((what) => what !== null)).not.toEqual([]);
});
