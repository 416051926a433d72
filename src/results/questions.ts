/** Questions with known answers, one JSON object per line. */
import { readFile } from "node:fs/promises";
import { z } from "zod";
import { FleetError, messageOf } from "../core/errors.ts";
import type { Relevance } from "./retrieval-metrics.ts";

const gainSchema = z.number().positive();
const questionSchema = z.object({
  question: z.string().min(1),
  /** Ids of documents that answer it, or the gain of each if some answer better than others. */
  relevant: z.union([z.array(z.string()).min(1), z.record(z.string(), gainSchema)]),
  lang: z.string().min(1).optional(),
});

export interface Question {
  readonly question: string;
  readonly relevance: Relevance;
  readonly lang: string | null;
}

/** Reads questions. @throws FleetError `source_unreadable`, which names the line and the expected form. */
export async function readQuestions(path: string): Promise<Question[]> {
  const text = await readFile(path, "utf8").catch((error: unknown) => {
    throw new FleetError("source_unreadable", `the questions ${path} cannot be read: ${messageOf(error)}`, {
      cause: error,
    });
  });
  const lines = text.split("\n").map((line, i) => ({ line: line.trim(), at: `${path}:${i + 1}` }));
  const questions = lines.filter(({ line }) => line !== "").map(({ line, at }) => parseQuestion(line, at));
  if (questions.length === 0) throw new FleetError("source_unreadable", `${path} has no questions`);
  return questions;
}

function parseQuestion(line: string, at: string): Question {
  try {
    const { question, relevant, lang } = questionSchema.parse(JSON.parse(line));
    const gains = Array.isArray(relevant) ? relevant.map((id) => [id, 1] as const) : Object.entries(relevant);
    if (gains.length === 0) throw new Error("it names no relevant document");
    return { question, relevance: new Map(gains), lang: lang ?? null };
  } catch (error) {
    const reason = error instanceof z.ZodError ? z.prettifyError(error).replaceAll(/\s+/g, " ") : messageOf(error);
    throw new FleetError("source_unreadable", `${at} is not a question with its answers: ${reason}`, {
      cure: 'a line is {"question": "…", "relevant": ["document id", …], "lang": "en"}; lang is optional',
      cause: error,
    });
  }
}
