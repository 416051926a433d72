/**
 * Repositories of the hub that people use and that no bundled manifest describes: `models pull OWNER/NAME` derives the
 * manifest from their own files. What is said of each is from its public card.
 */

export interface KnownRepository {
  /** `OWNER/NAME` */
  readonly repository: string;
  /** Width of a vector, and tokens of the longest row. */
  readonly dim: number;
  readonly maxTokens: number;
  readonly goodFor: string;
  /** How its graph is had: `models export` converts it, or the hub has an ONNX graph. */
  readonly graph: "export" | "hub";
}

/** In the order of `models list`. */
export const KNOWN_REPOSITORIES: readonly KnownRepository[] = [
  {
    repository: "sentence-transformers/all-mpnet-base-v2",
    dim: 768,
    maxTokens: 384,
    goodFor: "English sentences and short paragraphs; more exact and slower than all-MiniLM-L6-v2",
    graph: "export",
  },
  {
    repository: "sentence-transformers/LaBSE",
    dim: 768,
    maxTokens: 256,
    goodFor: "finding translations of a sentence, 109 languages; a dense layer follows its pooling",
    graph: "export",
  },
  {
    repository: "intfloat/multilingual-e5-large-instruct",
    dim: 1024,
    maxTokens: 512,
    goodFor: "about 100 languages; a query has an instruction before it: Instruct: <task>, a new line, Query: <text>",
    graph: "export",
  },
  {
    repository: "Snowflake/snowflake-arctic-embed-l-v2.0",
    dim: 1024,
    maxTokens: 8192,
    goodFor: "multilingual retrieval of long rows; queries have the prompt `query: `; trained to be cut to 256",
    graph: "export",
  },
  {
    repository: "Snowflake/snowflake-arctic-embed-m-v2.0",
    dim: 768,
    maxTokens: 8192,
    goodFor: "the same at about half the size; its PyTorch code is its own and is not run",
    graph: "hub",
  },
  {
    repository: "Alibaba-NLP/gte-modernbert-base",
    dim: 768,
    maxTokens: 8192,
    goodFor: "English and code, long rows, no prompts",
    graph: "export",
  },
  {
    repository: "nomic-ai/modernbert-embed-base",
    dim: 768,
    maxTokens: 8192,
    goodFor: "English, long rows; prompts `search_query: ` and `search_document: `",
    graph: "export",
  },
  {
    repository: "ibm-granite/granite-embedding-english-r2",
    dim: 768,
    maxTokens: 8192,
    goodFor: "English, code, tables and long documents",
    graph: "export",
  },
  {
    repository: "nomic-ai/nomic-embed-text-v1.5",
    dim: 768,
    maxTokens: 8192,
    goodFor: "English, long rows, may be cut as far as 64; its PyTorch code is its own and is not run",
    graph: "hub",
  },
  {
    repository: "Qwen/Qwen3-Embedding-0.6B",
    dim: 1024,
    maxTokens: 32_768,
    goodFor: "over 100 languages and code, instructions before queries; a decoder",
    graph: "hub",
  },
];

/** The repository of that name, whoever owns it. */
export function knownRepository(name: string): KnownRepository | undefined {
  const wanted = name.toLowerCase();
  return KNOWN_REPOSITORIES.find(({ repository }) => repository.split("/")[1]!.toLowerCase() === wanted);
}
