/** The native (Rust) Hugging Face tokenizer, which uses all cores, off the JavaScript thread. */
import { existsSync } from "node:fs";
import { FleetError, messageOf } from "../../src/core/errors.ts";
import type { Encoded, Tokenizer } from "../../src/core/ports.ts";
import { readTokenizerText } from "../registry/plain-file.ts";

type NativeModule = typeof import("tokenizers");
type Native = InstanceType<NativeModule["Tokenizer"]>;
type NativeEncoding = Awaited<ReturnType<Native["encodeBatch"]>>[number];

/**
 * Maximum length of a piece, in characters. Longer texts are encoded in pieces, because an encoding holds about
 * 100 bytes per token besides the ids. A piece ends before a run of white space, and the next begins with the whole
 * run: a Metaspace tokenizer turns it into the `▁` of the word after it in either case and never looks across
 * words, so the ids are those of the whole text.
 */
const PIECE_CHARS = 256 * 1024;
/** Limits what the library holds at one time, whatever the length of a text, in characters. */
const CALL_CHARS = 2 * 1024 * 1024;

/**
 * Loads a `tokenizer.json`, without a model's prompts.
 *
 * @param params.lowerCase Converts texts to small letters first.
 * @throws FleetError `model_invalid`
 */
export async function loadTokenizer(
  file: string,
  params: Readonly<{ lowerCase?: boolean | undefined }> = {},
): Promise<Tokenizer> {
  if (!existsSync(file)) {
    throw new FleetError("model_invalid", `the tokenizer ${file} does not exist`, { cure: "install the model again" });
  }
  const { Tokenizer: NativeTokenizer } = await importNative();
  let native: Native;
  try {
    const text = readTokenizerText(file);
    native = NativeTokenizer.fromString(params.lowerCase === true ? withLowerCase(text) : text);
  } catch (error) {
    throw new FleetError("model_invalid", `the tokenizer ${file} cannot be read: ${messageOf(error)}`, {
      cure: "install the model again",
      cause: error,
    });
  }
  // Files often have truncation to 512 tokens enabled, which would drop the rest of a text.
  native.disableTruncation();
  native.disablePadding();
  const { prefixIds, suffixIds } = await specialIds(native, file);
  const split = (await encodesWordsAlone(native)) ? splitPieces : (text: string): string[] => [text];
  return {
    vocabSize: native.getVocabSize(),
    prefixIds,
    suffixIds,
    encode: ({ texts, startsAbove = Infinity }) => encodeTexts(native, texts.map(split), startsAbove),
  };
}

/** The tokenizer's file with a normaliser to small letters before its own, which keeps positions right. */
function withLowerCase(text: string): string {
  const json = JSON.parse(text) as { normalizer?: { type: string; normalizers?: { type: string }[] } | null };
  const own =
    json.normalizer?.type === "Sequence" ? (json.normalizer.normalizers ?? []) : [json.normalizer ?? []].flat();
  if (own.some(({ type }) => type === "Lowercase")) return text;
  return JSON.stringify({ ...json, normalizer: { type: "Sequence", normalizers: [{ type: "Lowercase" }, ...own] } });
}

/** Whether a text in pieces has the ids of the whole; not where a normaliser puts a mark before every text. */
async function encodesWordsAlone(native: Native): Promise<boolean> {
  const [whole, ...parts] = await native.encodeBatch(["a b", "a", " b"], { addSpecialTokens: false });
  return whole!.getIds().join() === parts.flatMap((part) => part.getIds()).join();
}

async function importNative(): Promise<NativeModule> {
  try {
    return await import("tokenizers");
  } catch (error) {
    throw new FleetError(
      "model_invalid",
      `the native tokenizer has no build for ${process.platform} ${process.arch}: ${messageOf(error)}`,
      {
        cure: "run on Linux (glibc or musl), macOS or Windows on x64 or arm64, and install with optional dependencies",
        cause: error,
      },
    );
  }
}

/** The special tokens that the tokenizer adds around a text, found by a probe. */
async function specialIds(native: Native, file: string): Promise<{ prefixIds: number[]; suffixIds: number[] }> {
  const bare = (await native.encode("a", null, { addSpecialTokens: false })).getIds();
  const framed = (await native.encode("a", null, { addSpecialTokens: true })).getIds();
  const at = framed.findIndex((_, i) => bare.every((id, k) => framed[i + k] === id));
  if (at === -1) {
    throw new FleetError("model_invalid", `the tokenizer ${file} changes a text's ids when it adds special tokens`, {
      cure: "use a model whose tokenizer puts its special tokens before and after the text",
    });
  }
  return { prefixIds: framed.slice(0, at), suffixIds: framed.slice(at + bare.length) };
}

/** @param pieces Pieces of each text. */
async function encodeTexts(
  native: Native,
  pieces: readonly (readonly string[])[],
  startsAbove: number,
): Promise<Encoded[]> {
  // A text in pieces has many tokens, but their number is unknown here.
  const ofPieces = startsAbove === Infinity ? Infinity : 0;
  const bounds = pieces.flatMap((ofText) => ofText.map(() => (ofText.length === 1 ? startsAbove : ofPieces)));
  const encoded: Encoded[] = [];
  for (const call of callsOf(pieces.flat())) {
    const encodings = await native.encodeBatch(call, { addSpecialTokens: false });
    encodings.forEach((encoding, i) => encoded.push(toEncoded(encoding, call[i]!, bounds[encoded.length]!)));
  }
  let next = 0;
  return pieces.map((ofText) => {
    const parts = encoded.slice(next, (next += ofText.length));
    return parts.length === 1 ? parts[0]! : join(parts, ofText);
  });
}

/** Consecutive groups of bounded length; each has at least one piece. */
function callsOf(pieces: readonly string[]): string[][] {
  const calls: string[][] = [];
  let chars = Infinity;
  for (const piece of pieces) {
    chars += piece.length;
    if (chars > CALL_CHARS) {
      calls.push([]);
      chars = piece.length;
    }
    calls.at(-1)!.push(piece);
  }
  return calls;
}

/** @returns Pieces that concatenate to the text. */
function splitPieces(text: string): string[] {
  const pieces: string[] = [];
  let start = 0;
  while (text.length - start > PIECE_CHARS) {
    const end = lastBreak(text, start, start + PIECE_CHARS);
    pieces.push(text.slice(start, end));
    start = end;
  }
  pieces.push(text.slice(start));
  return pieces;
}

/**
 * Start of the last run of white space in the second half of the span. Text without any is cut
 * between characters, and may get other ids around the cut.
 */
function lastBreak(text: string, start: number, end: number): number {
  for (let at = end; at > start + (end - start) / 2; at--) {
    if (isSpace(text, at) && !isSpace(text, at - 1)) return at;
  }
  const splitsPair = /[\uDC00-\uDFFF]/.test(text[end]!);
  return splitsPair ? end - 1 : end;
}

function isSpace(text: string, at: number): boolean {
  return /\s/.test(text[at]!);
}

function toEncoded(encoding: NativeEncoding, text: string, startsAbove: number): Encoded {
  const list = encoding.getIds();
  const ids = new Int32Array(list.length);
  // Three times as fast as `Int32Array.from`, which goes through the array's iterator.
  for (let i = 0; i < list.length; i++) ids[i] = list[i]!;
  // Four times as expensive as the ids.
  if (ids.length <= startsAbove) return { ids, starts: new Uint32Array(0) };
  const offsets = encoding.getOffsets();
  const starts = Uint32Array.from(offsets, (span) => span[0]!);
  return { ids, starts: codePointsToUnits(text, starts) };
}

/** Converts the library's code points to UTF-16 units of JavaScript strings. @param starts ascending */
function codePointsToUnits(text: string, starts: Uint32Array): Uint32Array {
  if (!/[\uD800-\uDBFF]/.test(text)) return starts;
  const units = new Uint32Array(starts.length);
  let point = 0;
  let unit = 0;
  starts.forEach((start, i) => {
    for (; point < start; point++) unit += text.codePointAt(unit)! > 0xffff ? 2 : 1;
    units[i] = unit;
  });
  return units;
}

function join(parts: readonly Encoded[], texts: readonly string[]): Encoded {
  const tokens = parts.reduce((sum, part) => sum + part.ids.length, 0);
  const ids = new Int32Array(tokens);
  const starts = new Uint32Array(parts[0]!.starts.length === 0 ? 0 : tokens);
  let at = 0;
  let chars = 0;
  parts.forEach((part, i) => {
    ids.set(part.ids, at);
    part.starts.forEach((start, k) => (starts[at + k] = start + chars));
    at += part.ids.length;
    chars += texts[i]!.length;
  });
  return { ids, starts };
}
