/** The prompt of a run: text before the text of every row. */
import { z } from "zod";

/** Longest prompt, in UTF-16 code units. */
export const MAX_PROMPT_CHARS = 4096;
export const promptSchema = z
  .string()
  .min(1)
  .max(MAX_PROMPT_CHARS)
  .describe("Text that is put before the text of every row and encoded together with it; absent for none.");
