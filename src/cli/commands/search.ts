/** `embedfleet search`: finds the rows of a run nearest to a query. */
import { chooseEngine } from "../../../models/choose-engine.ts";
import { promptOf } from "../../../models/registry/prompts.ts";
import { findModel } from "../../../models/registry/registry.ts";
import { openTokenizer } from "../../../models/tokenizer/open-tokenizer.ts";
import type { Head, RunOptions } from "../../core/contracts.ts";
import { FleetError } from "../../core/errors.ts";
import type { Embedder, Tokenizer } from "../../core/ports.ts";
import { engineNameOf, givesSameVectors } from "../../core/same-model.ts";
import type { LanceIndex } from "../../results/lance-index.ts";
import { latestRun } from "../../run/list-runs.ts";
import { readRun } from "../../run/read-plan.ts";
import { searchIndex } from "../../results/search-index.ts";
import { type Hit, searchRun } from "../../results/search-run.ts";
import { openIndex } from "./load-index.ts";
import type { QuerySettings, SearchCommand } from "../command-settings.ts";
import { loggerOf, printJson, printLine } from "../output.ts";
import { type Closer, modelOf, openStoreOf, withCloser } from "../../fleet/open-ports.ts";

const TEXT_CHARS = 200;

export async function search(out: string, query: string, settings: SearchCommand): Promise<void> {
  await withCloser(async (closer) => {
    const store = await openStoreOf({ ...settings, out }, closer);
    const { top, weights, candidates, text: withText } = settings;
    const index = settings.index === undefined ? null : await openIndex(settings.index, settings, closer);
    const held = index && (await heldRun(index, settings));
    const run = held?.run ?? settings.run ?? (await latestRun(store));
    const { options } = await readRun(store, run);
    const reader = await openReader({ run, options, settings, closer });
    const asked = { run, query, top, weights, withText, ...reader };
    const hits =
      index && held
        ? await searchIndex({ ...asked, index, candidates, options: { ...options, heads: held.heads } })
        : await searchRun({ ...asked, store });
    if (settings.json) return printJson(hits);
    hits.forEach(printHit);
  });
}

/** The run loaded in an index. @throws FleetError `run_unknown` when there is none, or it is not the one asked for. */
async function heldRun(
  index: LanceIndex,
  settings: Pick<SearchCommand, "run" | "table">,
): Promise<{ readonly run: string; readonly heads: Head[] }> {
  const held = (await index.runs()).findLast(({ state }) => state === "done");
  if (held !== undefined && held.run === (settings.run ?? held.run)) return held;
  const found = held === undefined ? "holds no run yet" : `holds run ${held.run} and not ${settings.run}`;
  throw new FleetError("run_unknown", `the table ${settings.table} of ${index.url} ${found}`, {
    cure: `load it: embedfleet index <out> ${settings.run ?? "<run>"} --to ${index.url}`,
  });
}

function printHit({ id, chunk, score, text }: Hit): void {
  printLine(`${score.toFixed(4)}  ${id}${chunk === 0 ? "" : ` #${chunk}`}`);
  if (text === undefined) return;
  const line = text.replaceAll(/\s+/g, " ").trim();
  printLine(`        ${line.length > TEXT_CHARS ? `${line.slice(0, TEXT_CHARS).toWellFormed()} …` : line}`);
}

/**
 * The model that a run was made with, to embed queries: one of those named, or the one that the run names.
 * @throws FleetError `model_unknown`, `model_invalid` when none matches.
 */
export async function openReader(
  params: Readonly<{
    run: string;
    options: RunOptions;
    settings: Pick<QuerySettings, "model" | "prompt" | "threads" | "logLevel" | "logFormat" | "models" | "cacheFolder">;
    closer: Closer;
  }>,
): Promise<{ tokenizer: Tokenizer; embedder: Embedder }> {
  const { run, options, settings, closer } = params;
  const log = loggerOf(settings);
  const { precision } = options;
  // Queries use the run's engine, whatever engine the model's manifest names.
  const engine = chooseEngine(engineNameOf(options));
  const { models: folder, cacheFolder } = settings;
  const names = (settings.model ?? [options.model.id]).filter((name) =>
    engine.offers(findModel(name, { modelsFolder: settings.models }).manifest).precisions.includes(precision),
  );
  const models = await Promise.all(
    names.map((model) => modelOf({ model, models: folder, precision, engine, cacheFolder }, log)),
  );
  const model = models.find(({ ref }) => givesSameVectors(ref, options.model));
  if (model === undefined) {
    throw new FleetError(
      "model_invalid",
      `run ${run} was made with another revision or setup of model ${options.model.id}`,
      {
        cure: "pass the model it was made with as --model",
      },
    );
  }
  const tokenizer = await openTokenizer(model, "query", promptOf(model.manifest, "query", settings.prompt));
  const { embedder } = await engine.open({ model, threads: settings.threads });
  return { tokenizer, embedder: closer.add(embedder) };
}
