/**
 * Questions with known answers for any corpus, without anybody to write them: one sentence is taken out of each
 * document and asks for the rest of it ("inverse cloze").
 *
 *   node test/bench/cloze-questions.mjs corpus.jsonl outdir
 *
 * Writes outdir/corpus.jsonl (the documents without their sentences) and outdir/questions.jsonl, for
 * `embedfleet eval`. Documents of fewer than three sentences stay whole and ask nothing.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const MIN_SENTENCES = 3;

const [, , corpus, folder] = process.argv;
if (corpus === undefined || folder === undefined) throw new Error("give a JSONL file of id, text, lang and a folder");

const documents = readFileSync(corpus, "utf8")
  .split("\n")
  .filter((line) => line !== "")
  .map((line) => JSON.parse(line));
const questions = [];
const rest = documents.map(({ id, text, lang }) => {
  const sentences = [...new Intl.Segmenter(lang, { granularity: "sentence" }).segment(text)].map(
    ({ segment }) => segment,
  );
  if (sentences.length < MIN_SENTENCES) return { id, lang, text };
  const [question] = sentences.splice(sentences.length >> 1, 1);
  questions.push({ question: question.trim(), relevant: [id], lang });
  return { id, lang, text: sentences.join("") };
});
const toLines = (values) => values.map((value) => `${JSON.stringify(value)}\n`).join("");
writeFileSync(join(folder, "corpus.jsonl"), toLines(rest));
writeFileSync(join(folder, "questions.jsonl"), toLines(questions));
console.log(`${documents.length} documents, ${questions.length} questions`);
