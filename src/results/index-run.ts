/** Loads a sealed run into an index: all of it at first, and then the changes of each delta. */
import { type Logger, pino } from "pino";
import { type IndexedRun, type LanceIndex, OWN_COLUMNS } from "./lance-index.ts";
import { selectRows } from "../arrow/select-rows.ts";
import type { Head, Manifest } from "../core/contracts.ts";
import { FleetError } from "../core/errors.ts";
import type { ObjectStore } from "../core/ports.ts";
import { readChain, readEffective } from "../run/chain.ts";
import { readDeletes } from "../run/read-lists.ts";
import { readRun } from "../run/read-plan.ts";
import { sealedRows } from "../run/sealed-rows.ts";

/** Rows per upsert: few enough for their ColBERT vectors to be held twice. */
const ROWS_PER_UPSERT = 2000;

export interface IndexReport {
  readonly run: string;
  /**
   * `unchanged`: the index already holds the run. `updated`: the deltas since the run that it held were applied.
   * `loaded`: all rows were upserted, and rows of other runs removed.
   */
  readonly kind: "unchanged" | "updated" | "loaded";
  readonly upserted: number;
  readonly removed: number;
  /** Number of rows now in the index. */
  readonly rows: number;
}

/**
 * Loads a run idempotently; a repeated call completes an interrupted one.
 * @throws FleetError `run_unknown`, `run_incomplete`; `bad_usage` for a run without dense vectors, or full text without
 *   text; `index_conflict` when the index holds vectors of another model, or of another setup of it.
 */
export async function indexRun(
  params: Readonly<{
    store: ObjectStore;
    run: string;
    index: LanceIndex;
    /** Vector types to load; must include dense. */
    heads: readonly Head[];
    fullText: boolean;
    /** Logger; silent by default. */
    log?: Logger;
    onFile?: (done: number, planned: number) => void;
  }>,
): Promise<IndexReport> {
  const { store, run, index } = params;
  const chain = await readChain(store, run);
  const { options } = chain[0]!;
  assertFits(chain[0]!, params.fullText);
  const heads = options.heads.filter((head) => params.heads.includes(head) || head === "dense");
  const before = await index.runs();
  assertSameVectors(index, before, chain[0]!, heads);
  assertSameSetup(index, before, chain[0]!, params.log ?? pino({ level: "silent" }));
  const record = (state: IndexedRun["state"]): Promise<void> => index.record({ ...describe(chain[0]!, heads), state });
  const steps = await whatToDo(store, before, chain);
  if (steps.kind === "same") await record("done");
  if (steps.kind === "same" || steps.kind === "nothing") {
    await index.optimize(params);
    return { run, kind: "unchanged", upserted: 0, removed: 0, rows: await index.count() };
  }
  await record("begun");
  const changed =
    steps.kind === "deltas" ? await applyDeltas(params, heads, steps.deltas) : await load(params, heads, chain);
  await index.optimize(params);
  await record("done");
  return { run, kind: steps.kind === "deltas" ? "updated" : "loaded", ...changed, rows: await index.count() };
}

function assertFits({ run, options }: Manifest, fullText: boolean): void {
  const refuse = (lack: string, cure: string): never => {
    throw new FleetError("bad_usage", `run ${run} ${lack}`, { cure });
  };
  const taken = options.keep.find((name) => OWN_COLUMNS.includes(name));
  if (!options.heads.includes("dense")) refuse("has no dense vectors to index", "embed the corpus with --heads dense");
  if (fullText && !options.keepText) refuse("has no text to index", "leave --full-text out, or embed with --keep-text");
  if (taken !== undefined)
    refuse(`kept a field ${taken}, a name that the table needs`, "rename the field in the corpus");
}

function describe({ run, options: { model } }: Manifest, heads: readonly Head[]): Omit<IndexedRun, "state"> {
  const { id, sha256: modelSha256, setupSha256, dim } = model;
  return { run, model: id, modelSha256, ...(setupSha256 !== undefined && { setupSha256 }), dim, heads: [...heads] };
}

const OTHER_TABLE = "index this run into another --table, and drop the old one when it is no longer queried";

/** Vectors of two models are in different spaces: their distances are meaningless, even if their dimensions agree. */
function assertSameVectors(
  index: LanceIndex,
  before: readonly IndexedRun[],
  manifest: Manifest,
  heads: readonly Head[],
): void {
  const held = before.at(-1);
  if (held === undefined) return;
  const wanted = describe(manifest, heads);
  const cure = OTHER_TABLE;
  if (held.dim !== wanted.dim || held.modelSha256 !== wanted.modelSha256) {
    throw new FleetError(
      "index_conflict",
      `${index.url} holds vectors of ${held.dim} dimensions of model ${held.model} (run ${held.run}); run ${wanted.run} has ${wanted.dim} dimensions of ${
        held.model === wanted.model ? `another revision of ${wanted.model}` : `model ${wanted.model}`
      }`,
      { cure },
    );
  }
  if (held.heads.join(",") !== wanted.heads.join(",")) {
    throw new FleetError(
      "index_conflict",
      `${index.url} holds ${held.heads.join(",")} vectors; ${wanted.heads.join(",")} are to be put in`,
      {
        cure: `say --heads ${held.heads.join(",")}, or ${cure}`,
      },
    );
  }
}

/**
 * The same weights with another tokenizer, pooling or prefix produce other vectors. Tables and runs of earlier versions
 * do not record the setup: an unknown one is logged and accepted.
 */
function assertSameSetup(index: LanceIndex, before: readonly IndexedRun[], manifest: Manifest, log: Logger): void {
  if (before.length === 0) return;
  const { run, options } = manifest;
  const wanted = options.model.setupSha256;
  const held = before.findLast(({ setupSha256 }) => setupSha256 !== undefined);
  if (held === undefined || wanted === undefined) {
    const which = wanted === undefined ? { run } : { table: index.url };
    log.warn(
      which,
      "it is not known with which tokenizer, pooling and prefixes its vectors were made: assumed to be the same",
    );
  } else if (held.setupSha256 !== wanted) {
    throw new FleetError(
      "index_conflict",
      `${index.url} holds vectors of model ${held.model} with setup ${held.setupSha256!.slice(0, 12)} (run ${held.run}); run ${run} was made with setup ${wanted.slice(0, 12)}: another tokenizer, pooling or prefix`,
      { cure: OTHER_TABLE },
    );
  }
}

type Steps =
  | { readonly kind: "nothing" | "same" | "everything" }
  | { readonly kind: "deltas"; readonly deltas: readonly Manifest[] };

/** The steps that bring the index to the run. @param chain Newest first. */
async function whatToDo(store: ObjectStore, before: readonly IndexedRun[], chain: readonly Manifest[]): Promise<Steps> {
  const held = heldRun(before, chain[0]!.run);
  const place = held === null ? -1 : await placeOf(store, chain, held);
  if (place === -1) return { kind: "everything" };
  if (place > 0 || before.at(-1)!.state !== "done")
    return { kind: "deltas", deltas: chain.slice(0, place).toReversed() };
  return { kind: held === chain[0]!.run ? "nothing" : "same" };
}

/** Position in the chain of a run's rows: of the run itself, or of its compaction; -1 if absent. */
async function placeOf(store: ObjectStore, chain: readonly Manifest[], held: string): Promise<number> {
  for (const [place, { run, supersedes }] of chain.entries()) {
    if (run === held) return place;
    if (supersedes === held && (await readRun(store, run)).lineage?.kind === "compact") return place;
  }
  return -1;
}

/** The run whose rows the index holds, besides a partial load of `run`. Null when other rows may be there too. */
function heldRun(before: readonly IndexedRun[], run: string): string | null {
  const done = before.findLastIndex(({ state }) => state === "done");
  return before.slice(done + 1).every((begun) => begun.run === run) ? (before[done]?.run ?? null) : null;
}

type Changed = Pick<IndexReport, "upserted" | "removed">;
type LoadParams = Readonly<{
  store: ObjectStore;
  index: LanceIndex;
  onFile?: (done: number, planned: number) => void;
}>;

/** Upserts all rows, then removes those of no run in the chain, so that concurrent readers miss none. */
async function load(params: LoadParams, heads: readonly Head[], chain: readonly Manifest[]): Promise<Changed> {
  const { index } = params;
  const planned = chain.reduce((sum, manifest) => sum + manifest.files.length, 0);
  let upserted = 0;
  let done = 0;
  for await (const { manifest, rows, kept } of readEffective(params.store, chain)) {
    upserted += await upsert(index, rows, kept, heads, manifest.run);
    params.onFile?.(++done, planned);
  }
  const before = await index.count();
  await index.retain(chain.map(({ run }) => run));
  return { upserted, removed: before - (await index.count()) };
}

/** Applies deltas. @param deltas Oldest first. */
async function applyDeltas(params: LoadParams, heads: readonly Head[], deltas: readonly Manifest[]): Promise<Changed> {
  const { store, index } = params;
  const planned = deltas.reduce((sum, manifest) => sum + manifest.files.length, 0);
  const changed = { upserted: 0, removed: 0 };
  let done = 0;
  for (const manifest of deltas) {
    for await (const rows of readDeletes(store, manifest)) {
      await index.remove(rows);
      changed.removed += rows.ids.length;
    }
    for await (const { rows } of sealedRows(store, manifest)) {
      changed.upserted += await upsert(index, rows, Uint32Array.from(rows.ids.keys()), heads, manifest.run);
      params.onFile?.(++done, planned);
    }
  }
  return changed;
}

async function upsert(
  index: LanceIndex,
  rows: Parameters<LanceIndex["upsert"]>[0],
  kept: Uint32Array,
  heads: readonly Head[],
  run: string,
): Promise<number> {
  const from = {
    ...rows,
    sparse: heads.includes("sparse") ? rows.sparse : null,
    colbert: heads.includes("colbert") ? rows.colbert : null,
  };
  for (let start = 0; start < kept.length; start += ROWS_PER_UPSERT) {
    const picked = Array.from(kept.subarray(start, start + ROWS_PER_UPSERT), (row) => ({ from, row }));
    await index.upsert(selectRows(picked), run);
  }
  return kept.length;
}
