/** Files of a model that are read whole: bounded before anything is allocated, for a model may be anyone's. */
import { readFileSync, statSync } from "node:fs";
import { basename } from "node:path";
import { FleetError } from "../src/core/errors.ts";

/** A manifest or a configuration; the largest known, with every engine listed, is below 100 kB. */
const MAX_TEXT_BYTES = 4 * 1024 * 1024;
/** Vocabularies of 250,000 entries take about 17 MB. */
const MAX_TOKENIZER_BYTES = 256 * 1024 * 1024;

/** @throws FleetError `model_invalid` when the file is larger than such a file can be. */
export function readText(path: string): string {
  assertSize(path, basename(path) === "tokenizer.json" ? MAX_TOKENIZER_BYTES : MAX_TEXT_BYTES);
  return readFileSync(path, "utf8");
}

/** @throws FleetError `model_invalid` */
export function assertTokenizerSize(path: string): void {
  assertSize(path, MAX_TOKENIZER_BYTES);
}

function assertSize(path: string, maxBytes: number): void {
  const { size } = statSync(path);
  if (size <= maxBytes) return;
  throw new FleetError("model_invalid", `${path} is ${size} bytes long; at most ${maxBytes} are read`, {
    cure: "this is no such file of a model: install the model again",
  });
}
