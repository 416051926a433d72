/** Formats of JSON lines: plain rows, Qdrant's upsert bodies, OpenSearch's and Elasticsearch's bulk actions. */
import {
  colbertOf,
  denseOf,
  type ExportedFile,
  type ExportFormat,
  fieldsOf,
  jsonFile,
  uuidOf,
  shortNumber,
  shortNumbers,
  type Slice,
  sparseOf,
} from "./format.ts";

const MIB = 1024 * 1024;
/** JSON is about three times as long as the floats it contains; Qdrant accepts requests of at most 32 MiB. */
const SLICE_BYTES = 8 * MIB;

/** Vectors by head, in the shape that Qdrant and Milvus use for sparse ones. */
function vectorsOf(slice: Slice, row: number): Record<string, unknown> {
  const dense = denseOf(slice, row);
  const sparse = sparseOf(slice, row);
  const colbert = colbertOf(slice, row);
  return {
    ...(dense && { dense: shortNumbers(dense) }),
    ...(sparse && { sparse: { indices: [...sparse.indices], values: shortNumbers(sparse.values) } }),
    ...(colbert && { colbert: colbert.map(shortNumbers) }),
  };
}

function lines(key: string, values: readonly unknown[]): ExportedFile[] {
  return [{ key, body: Buffer.from(values.map((value) => `${JSON.stringify(value)}\n`).join("")) }];
}

export const jsonl: ExportFormat = {
  heads: ["dense", "sparse", "colbert"],
  sliceBytes: SLICE_BYTES,
  describe: () => [],
  encode: (slice, part) =>
    lines(
      `data/${part}.jsonl`,
      Array.from(slice.picked, (row) => ({ ...fieldsOf(slice, row), ...vectorsOf(slice, row) })),
    ),
};

/** Each file is the body of one request: `PUT /collections/NAME/points`. */
export const qdrant: ExportFormat = {
  heads: ["dense", "sparse", "colbert"],
  sliceBytes: SLICE_BYTES,
  // Vectors have unit length, so the dot product is the cosine and needs no second normalisation.
  describe: ({ options: { model }, heads }) => [
    jsonFile("collection.json", {
      vectors: {
        ...(heads.includes("dense") && { dense: { size: model.dim, distance: "Dot" } }),
        ...(heads.includes("colbert") && {
          colbert: {
            size: model.dim,
            distance: "Dot",
            multivector_config: { comparator: "max_sim" },
            // Only for reranking: a graph over every token's vector would be larger than the vectors.
            hnsw_config: { m: 0 },
          },
        }),
      },
      ...(heads.includes("sparse") && { sparse_vectors: { sparse: {} } }),
    }),
  ],
  encode: (slice, part) => {
    const points = Array.from(slice.picked, (row) => ({
      id: uuidOf(slice.rows, row),
      vector: vectorsOf(slice, row),
      payload: fieldsOf(slice, row),
    }));
    return [{ key: `points/${part}.json`, body: Buffer.from(`${JSON.stringify({ points })}\n`) }];
  },
};

/** Each file is the body of one request: `POST /NAME/_bulk`. Sparse weights are `rank_features` by token id. */
export const opensearch: ExportFormat = {
  heads: ["dense", "sparse"],
  sliceBytes: 4 * MIB,
  describe: ({ options: { model, keepText }, heads }) => [
    jsonFile("index.json", {
      settings: { index: { knn: true } },
      mappings: {
        properties: {
          id: { type: "keyword", ignore_above: 1024 },
          chunk: { type: "integer" },
          char_start: { type: "long" },
          char_end: { type: "long" },
          n_tokens: { type: "integer" },
          ...(keepText && { text: { type: "text" } }),
          ...(heads.includes("dense") && {
            dense: {
              type: "knn_vector",
              dimension: model.dim,
              method: { name: "hnsw", engine: "faiss", space_type: "innerproduct" },
            },
          }),
          ...(heads.includes("sparse") && { sparse: { type: "rank_features" } }),
        },
      },
    }),
  ],
  encode: (slice, part) =>
    lines(
      `bulk/${part}.ndjson`,
      Array.from(slice.picked, (row) => {
        const dense = denseOf(slice, row);
        const sparse = sparseOf(slice, row);
        const weights = sparse && Array.from(sparse.indices, (id, i) => [id, shortNumber(sparse.values[i]!)] as const);
        const source = {
          ...fieldsOf(slice, row),
          ...(dense && { dense: shortNumbers(dense) }),
          ...(weights && { sparse: Object.fromEntries(weights) }),
        };
        return [{ index: { _id: uuidOf(slice.rows, row) } }, source];
      }).flat(),
    ),
};
