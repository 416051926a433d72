/** A transformer's sizes and special ids, from its `config.json` and its tokenizer's files. */
import { existsSync } from "node:fs";
import { join, posix } from "node:path";
import {
  type Config,
  flagOf,
  idsOf,
  integerOf,
  isObject,
  objectOf,
  readConfig,
  readOptional,
  textOf,
  unusable,
} from "./hub-json.ts";
import type { OnnxManifest } from "./manifest.ts";

export interface HubSizes {
  readonly architecture: OnnxManifest["architecture"];
  /** Ids without a lexical weight, ascending. */
  readonly nonLexicalIds: readonly number[];
  /** Whether a text is to be put into lower case before the tokenizer, which does not do it itself. */
  readonly lowersCase: boolean;
  readonly transformer: Config;
  /** Path relative to the folder. */
  readonly tokenizer: string;
}

/** Families whose first position is the one after the pad id's. */
const OFFSET_FAMILIES = new Set([
  "roberta",
  "xlm-roberta",
  "xlm-roberta-xl",
  "camembert",
  "mpnet",
  "roberta-prelayernorm",
  "data2vec-text",
  "longformer",
  "xmod",
  "ibert",
]);
/** Bounds of what is allocated for a model; the largest known have 300,000 words and 8,192 numbers. */
const MOST_WORDS = 2 ** 24;
const MOST_WIDTH = 65_536;
/** Fields that hold the same size in other families: T5, DistilBERT, nomic and GPT-2. */
const WIDTHS = ["hidden_size", "d_model", "dim", "n_embd"];
const POSITIONS = ["max_position_embeddings", "n_positions", "max_seq_len"];
/** Names that sentence-transformers gave to the transformer's own configuration, in the order in which it looks. */
const TRANSFORMER_CONFIGS = ["bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet"].map(
  (kind) => `sentence_${kind}_config.json`,
);
/** Longest row where nothing says one. */
const USUAL_LENGTH = 512;
/** Lengths from here on stand for "unknown" in a tokenizer's configuration. */
const UNKNOWN_LENGTH = 1e9;

/**
 * @param at Path of the transformer's files, relative to the folder.
 * @throws FleetError `model_invalid`
 */
export function readSizes(folder: string, at: string): HubSizes {
  const config = readConfig(folder, posix.join(at, "config.json"));
  const text = objectOf(config, "text_config") ?? config;
  const kind = textOf(config, "model_type") ?? textOf(text, "model_type");
  if (!kind) throw unusable(config.path, "it has no model_type");
  const transformer = readTransformer(folder, at);
  const tokenizer = readTokenizer(folder, at);
  const padId = idsOf(text, "pad_token_id")[0] ?? idsOf(config, "pad_token_id")[0] ?? tokenizer.idOf("pad_token") ?? 0;
  const vocabSize = sizeOf(text, ["vocab_size"], MOST_WORDS);
  if (padId >= vocabSize) throw unusable(config.path, `pad_token_id is ${padId}; vocab_size is ${vocabSize}`);
  const stated = integerOf(text, POSITIONS, 4);
  const positions = stated === null || !OFFSET_FAMILIES.has(kind) ? stated : stated - padId - 1;
  const special = ["bos_token_id", "pad_token_id", "eos_token_id"].flatMap((name) => idsOf(text, name));
  return {
    architecture: {
      kind,
      hiddenSize: sizeOf(text, WIDTHS, MOST_WIDTH),
      vocabSize,
      padId,
      maxTokens: longestRow(config, positions, transformer, tokenizer.config),
    },
    nonLexicalIds: [...new Set([...special, ...tokenizer.nonLexicalIds])].sort((a, b) => a - b),
    lowersCase: (flagOf(transformer, "do_lower_case") ?? false) && !tokenizer.lowersCase,
    transformer,
    tokenizer: tokenizer.path,
  };
}

function sizeOf(config: Config, names: readonly string[], most: number): number {
  const size = integerOf(config, names, 1, most);
  if (size === null) throw unusable(config.path, `it has no ${names[0]!}`);
  return size;
}

function readTransformer(folder: string, at: string): Config {
  const paths = TRANSFORMER_CONFIGS.map((name) => posix.join(at, name));
  return readOptional(folder, paths.find((path) => existsSync(join(folder, path))) ?? paths[0]!);
}

/**
 * The stated length, else the tokenizer's; never more than the model has positions. Models with relative positions, such
 * as T5, may have none of these.
 */
function longestRow(config: Config, positions: number | null, transformer: Config, tokenizer: Config): number {
  const stated = integerOf(transformer, ["max_seq_length"], 1);
  const ofTokenizer = tokenizer.values["model_max_length"];
  const known = typeof ofTokenizer === "number" && ofTokenizer >= 1 && ofTokenizer < UNKNOWN_LENGTH;
  const longest = Math.min(positions ?? Infinity, stated ?? (known ? Math.floor(ofTokenizer) : Infinity));
  if (longest < 3) throw unusable(config.path, `rows of at most ${longest} tokens leave no room for a text`);
  return longest === Infinity ? USUAL_LENGTH : longest;
}

// --- The tokenizer --------------------------------------------------------------------------

interface HubTokenizer {
  readonly path: string;
  readonly config: Config;
  readonly lowersCase: boolean;
  readonly nonLexicalIds: readonly number[];
  /** @param name A field of `tokenizer_config.json`, such as `pad_token`. */
  readonly idOf: (name: string) => number | null;
}

/** Fields with tokens that have no lexical weight, as in FlagEmbedding's BGE-M3. */
const NON_LEXICAL = ["cls_token", "eos_token", "pad_token", "unk_token"];

function readTokenizer(folder: string, at: string): HubTokenizer {
  const places = [at, "", "onnx"].map((place) => posix.join(place, "tokenizer.json"));
  const path = places.find((place) => existsSync(join(folder, place)));
  const config = readOptional(folder, posix.join(at, "tokenizer_config.json"));
  if (path === undefined) return { path: places[0]!, config, lowersCase: false, nonLexicalIds: [], idOf: () => null };
  const { path: file, values } = readConfig(folder, path);
  const model: Config = { path: `${file}: model`, values: isObject(values["model"]) ? values["model"] : {} };
  const ids = vocabularyOf(values, model.values);
  const idOf = (name: string): number | null => ids(contentOf(config.values[name]));
  const named = NON_LEXICAL.map(idOf);
  // A Unigram tokenizer has the id, the others the token itself.
  const unknown = model.values["unk_id"];
  const word = textOf(model, "type") === "WordPiece" ? [ids(model.values["unk_token"]), ids("[CLS]")] : [];
  const found = [...named, unknown, ...word].filter(
    (id): id is number => Number.isSafeInteger(id) && (id as number) >= 0,
  );
  assertOneCase(config, values["normalizer"]);
  return { path, config, lowersCase: lowersCase(values["normalizer"]), nonLexicalIds: found, idOf };
}

/** @returns A token's id, or null. */
function vocabularyOf(
  tokenizer: Readonly<Record<string, unknown>>,
  model: Readonly<Record<string, unknown>>,
): (token: unknown) => number | null {
  const added = Array.isArray(tokenizer["added_tokens"]) ? (tokenizer["added_tokens"] as unknown[]) : [];
  const vocabulary = isObject(model["vocab"]) ? model["vocab"] : {};
  return (token) => {
    if (typeof token !== "string") return null;
    const entry = added.find((each) => isObject(each) && each["content"] === token) as { id?: unknown } | undefined;
    const id = entry?.id ?? (Object.hasOwn(vocabulary, token) ? vocabulary[token] : null);
    return Number.isSafeInteger(id) ? (id as number) : null;
  };
}

/** A token as text, or as the object of earlier versions. */
function contentOf(token: unknown): unknown {
  return isObject(token) ? token["content"] : token;
}

/**
 * transformers lets `do_lower_case` of a BERT tokenizer's configuration win over the normalizer in `tokenizer.json`, which
 * alone is read here.
 */
function assertOneCase(config: Config, normalizer: unknown): void {
  const wanted = flagOf(config, "do_lower_case");
  const isPlain = GENERIC_TOKENIZERS.has(textOf(config, "tokenizer_class") ?? "");
  if (wanted === null || isPlain || !isObject(normalizer) || normalizer["type"] !== "BertNormalizer") return;
  if (wanted === lowersCase(normalizer)) return;
  throw unusable(config.path, `do_lower_case is ${wanted}, and the normalizer of tokenizer.json does otherwise`);
}

/** Classes that take `tokenizer.json` as it is. */
const GENERIC_TOKENIZERS = new Set(["PreTrainedTokenizerFast", "TokenizersBackend"]);

function lowersCase(normalizer: unknown): boolean {
  if (!isObject(normalizer)) return false;
  const { type, lowercase, normalizers } = normalizer;
  if (type === "Sequence") return Array.isArray(normalizers) && normalizers.some(lowersCase);
  return type === "Lowercase" || (type === "BertNormalizer" && lowercase !== false);
}
