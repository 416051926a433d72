/** `embedfleet eval`: the accuracy cost of precision, chunking and truncation, measured before a corpus is embedded. */
import { type Evaluation, evaluateRun, type Figures } from "../../results/evaluate-search.ts";
import { latestRun } from "../../run/list-runs.ts";
import { readRun } from "../../run/read-plan.ts";
import { readQuestions } from "../../results/questions.ts";
import { loggerOf, printJson, printLine } from "../output.ts";
import { openStoreOf, withCloser } from "../../fleet/open-ports.ts";
import { startProgress } from "../progress-bar.ts";
import { count, megabytes } from "../../core/format-figures.ts";
import type { EvalCommand } from "../command-settings.ts";
import { openReader } from "./search.ts";

const UNKNOWN_SHOWN = 3;

export async function evaluate(out: string, run: string | undefined, settings: EvalCommand): Promise<void> {
  await withCloser(async (closer) => {
    const log = loggerOf(settings);
    const questions = await readQuestions(settings.questions);
    const store = await openStoreOf({ ...settings, out }, closer);
    const named = [...(run === undefined ? [] : [run]), ...(settings.run ?? [])];
    const runs = named.length > 0 ? [...new Set(named)] : [await latestRun(store)];
    const evaluations: Evaluation[] = [];
    for (const run of runs) {
      // Only one model is in memory at a time: each is closed before the next is opened.
      const evaluation = await withCloser(async (closer) => {
        const { at, weights, candidates } = settings;
        const { options } = await readRun(store, run);
        const reader = await openReader({ run, options, settings, closer });
        const progress = startProgress(run, "files");
        const onFile = (done: number, planned: number): void => progress.update(done, planned);
        const params = { store, run, questions, at, weights, candidates, ...reader, onFile };
        return evaluateRun(params).finally(() => progress.stop());
      });
      const { unknownIds } = evaluation;
      if (unknownIds.length > 0) {
        const shown = unknownIds.slice(0, UNKNOWN_SHOWN);
        log.warn(
          { run, ids: unknownIds.length, such: shown },
          "relevant documents without a row in the run count as not found",
        );
      }
      evaluations.push(evaluation);
    }
    if (settings.json) return printJson(toJson(settings, questions.length, evaluations));
    printEvaluations(evaluations, settings.at);
  });
}

function toJson(settings: EvalCommand, questions: number, evaluations: readonly Evaluation[]): unknown {
  const { at, weights, candidates } = settings;
  return { questions, at, weights, candidates, runs: evaluations };
}

function printEvaluations(evaluations: readonly Evaluation[], at: readonly number[]): void {
  const width = Math.max(...evaluations.map(({ run }) => run.length));
  for (const { run, options, rows, bytes } of evaluations) {
    const { model, precision, maxTokens, overlap } = options;
    printLine(
      `${run.padEnd(width)}  ${model.id} ${precision}, at most ${maxTokens} tokens a row, ${overlap} shared, ${count(rows)} rows, ${megabytes(bytes)}`,
    );
  }
  const header = ["lang", "questions", "head", "run"];
  const metrics = [...at.map((k) => `recall@${k}`), `mrr@${at.at(-1)}`, ...at.map((k) => `ndcg@${k}`)];
  const lines = evaluations[0]!.figures.flatMap(({ lang, ranker }) =>
    evaluations.flatMap(({ run, figures }) =>
      figures
        .filter((each) => each.lang === lang && each.ranker === ranker)
        .map((each) => [lang ?? "all", String(each.questions), ranker, run, ...valuesOf(each, at)]),
    ),
  );
  printLine();
  printTable([...header, ...metrics], lines);
}

function valuesOf({ recall, mrr, ndcg }: Figures, at: readonly number[]): string[] {
  return [...at.map((k) => recall[k]!), mrr, ...at.map((k) => ndcg[k]!)].map((value) => value.toFixed(4));
}

function printTable(header: readonly string[], lines: readonly (readonly string[])[]): void {
  const widths = header.map((name, i) => Math.max(name.length, ...lines.map((line) => line[i]!.length)));
  for (const line of [header, ...lines])
    printLine(
      line
        .map((cell, i) => cell.padEnd(widths[i]!))
        .join("  ")
        .trimEnd(),
    );
}
