/** `eval` as users run it: two ways to cut a small corpus, compared on questions with known answers. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ThreadEmbedder } from "../../models/onnx/thread-embedder.ts";
import { loadTokenizer } from "../../models/tokenizer/native.ts";
import { openStore } from "../../src/adapters/open-store.ts";
import { PUBLISHED_WEIGHTS } from "../../src/core/scoring.ts";
import {
  type EvaluateParams,
  type Evaluation,
  evaluateRun,
  type Figures,
  type Ranker,
} from "../../src/results/evaluate-search.ts";
import { readQuestions } from "../../src/results/questions.ts";
import { searchRun } from "../../src/results/search-run.ts";
import { openMini } from "../fixtures/mini.ts";
import { cli } from "../fixtures/cli.ts";

const corpus = fileURLToPath(new URL("../fixtures/corpus/multilingual.jsonl", import.meta.url));
const questionsPath = fileURLToPath(new URL("../fixtures/questions.jsonl", import.meta.url));
const questions = await readQuestions(questionsPath);
const model = await openMini();
let folder = "";
let out = "";
let reader: Pick<EvaluateParams, "store" | "tokenizer" | "embedder">;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "embedfleet-eval-"));
  out = join(folder, "out");
  const run = ["run", corpus, "--out", out, "--log-level", "silent"];
  expect((await cli([...run, "--run", "whole"])).code).toBe(0);
  expect((await cli([...run, "--run", "pieces", "--max-tokens", "16"])).code).toBe(0);
  reader = {
    store: await openStore(out),
    tokenizer: await loadTokenizer(model.tokenizerPath),
    embedder: await ThreadEmbedder.open({ model, threads: 1 }),
  };
});
afterAll(async () => {
  await reader.embedder.close();
  await reader.store.close();
  await rm(folder, { recursive: true, force: true });
});

function evaluate(run: string, changed: Partial<EvaluateParams> = {}): Promise<Evaluation> {
  const weights = PUBLISHED_WEIGHTS;
  return evaluateRun({ ...reader, run, questions, at: [1, 10, 100], weights, candidates: 200, ...changed });
}

function figuresOf(evaluation: Evaluation, ranker: Ranker, lang: string | null = null): Figures {
  return evaluation.figures.find((each) => each.ranker === ranker && each.lang === lang)!;
}

test("each head, the hybrid and each language has its figures", async () => {
  const whole = await evaluate("whole");
  const pieces = await evaluate("pieces");
  expect(whole).toMatchObject({ run: "whole", rows: 25, unknownIds: [] });
  expect(pieces.rows).toBeGreaterThan(25);
  for (const evaluation of [whole, pieces]) {
    // The model is lexical and every question shares words with its answer alone.
    for (const ranker of ["sparse", "colbert", "hybrid"] as const) {
      expect(figuresOf(evaluation, ranker)).toMatchObject({ questions: 25, mrr: 1, recall: { 1: 1, 10: 1 } });
    }
    expect(figuresOf(evaluation, "sparse", "zh")).toMatchObject({ questions: 2, recall: { 1: 1 } });
    const byLanguage = evaluation.figures.filter(({ ranker, lang }) => ranker === "dense" && lang !== null);
    expect(byLanguage).toHaveLength(12);
    const sum = byLanguage.reduce((total, each) => total + each.mrr * each.questions, 0);
    expect(figuresOf(evaluation, "dense").mrr).toBeCloseTo(sum / 25, 10);
  }
});

test("a document is as good as its best chunk, and a ranking is the one that search shows", async () => {
  const one = questions.find(({ question }) => question.startsWith("Was braucht"))!;
  const weights = { dense: 1, sparse: 0, colbert: 0 };
  const hits = await searchRun({ ...reader, run: "pieces", query: one.question, top: 1000, weights });
  const documents = [...new Set(hits.map(({ id }) => id))];
  expect(documents.length).toBeLessThan(hits.length);
  const evaluation = await evaluate("pieces", { questions: [one] });
  expect(figuresOf(evaluation, "dense").mrr).toBe(1 / (documents.indexOf("de-2") + 1));
});

test("few candidates cost ColBERT what dense and sparse do not find, all candidates cost nothing", async () => {
  const all = await evaluate("pieces", { candidates: 0 });
  expect((await evaluate("pieces", { candidates: 25 })).figures).toEqual(all.figures);
  // A question that shares no word with its answer, which dense does not put first.
  const [unlike] = questions.filter(({ relevance }) => relevance.has("de-2"));
  const far = [{ ...unlike!, question: "glacier gravel lighthouse" }];
  const one = await evaluate("pieces", { candidates: 1, questions: far });
  expect(figuresOf(one, "colbert").recall[100]).toBe(0);
  expect(figuresOf(one, "dense").recall[100]).toBe(1);
  expect(figuresOf(await evaluate("pieces", { candidates: 0, questions: far }), "colbert").recall[100]).toBe(1);
});

test("runs stand side by side in a table for people", async () => {
  const args = ["eval", out, "whole", "--run", "pieces", "--questions", questionsPath, "--at", "5,1"];
  const { stdout } = await cli([...args, "--log-level", "silent"]);
  expect(stdout).toContain("whole   mini fp32, at most 8192 tokens a row, 0 shared, 25 rows");
  expect(stdout).toMatch(/^pieces {2}mini fp32, at most 16 tokens a row/m);
  expect(stdout).toMatch(/^lang +questions +head +run +recall@1 +recall@5 +mrr@5 +ndcg@1 +ndcg@5$/m);
  expect(stdout).toMatch(/^all +25 +sparse +whole( +1\.0000){5}\nall +25 +sparse +pieces( +1\.0000){5}$/m);
});

test("precisions of an exported model stand side by side, each run asked in its own", async () => {
  const exported = join(folder, "mini-export");
  const made = await cli(["models", "export", "generated:mini", "--into", exported, "--precisions", "fp32,int8"]);
  expect(made.code, made.stderr).toBe(0);
  const quiet = ["--out", out, "--model", exported, "--log-level", "silent"];
  for (const precision of ["fp32", "int8"]) {
    const done = await cli(["run", corpus, ...quiet, "--run", precision, "--precision", precision]);
    expect(done.code, done.stderr).toBe(0);
  }
  const asked = ["--run", "fp32", "--run", "int8", "--questions", questionsPath, "--model", exported];
  const { stdout } = await cli(["eval", out, ...asked, "--at", "1,5", "--log-level", "silent"]);
  expect(stdout).toMatch(/^fp32 {2}mini-export fp32, .*\nint8 {2}mini-export int8, /m);
  expect(stdout).toMatch(/^all +25 +hybrid +fp32( +1\.0000){5}\nall +25 +hybrid +int8( +1\.0000){5}$/m);
});

test("a line that is no question names its file and line", async () => {
  const bad = join(folder, "bad.jsonl");
  await writeFile(bad, '{"question": "a", "relevant": ["en-1"]}\n\n{"question": "b", "relevant": []}\n');
  const done = await cli(["eval", out, "whole", "--questions", bad]);
  expect(done.code).toBe(1);
  expect(done.stderr).toMatch(/bad\.jsonl:3 is not a question with its answers: .+\n {2}a line is \{"question"/);
  await expect(readQuestions(join(folder, "none.jsonl"))).rejects.toThrow("none.jsonl cannot be read");
});

test("relevant documents that the run does not have are told, and refused when there are no others", async () => {
  const asked = { question: "lamp", lang: null };
  const partly = [{ ...asked, relevance: new Map([["en-1", 2] as const, ["gone", 1] as const]) }];
  const { unknownIds, figures } = await evaluate("whole", { questions: partly });
  expect(unknownIds).toEqual(["gone"]);
  expect(figures[0]!.recall[100]).toBe(0.5);
  const none = evaluate("whole", { questions: [{ ...asked, relevance: new Map([["gone", 1]]) }] });
  await expect(none).rejects.toThrow("run whole has no row of any relevant document of the questions");
});
